"""Files that the real tools write, read without a flag; skipped without the tool.

What cannot be written without an account or a network is made up by hand in
`test_tables`: exports of W&B's web pages. Lightning is not among the packages that are
tried, as it brings torch; its CSVLogger is made up there, too.
"""

import json
import pathlib

import numpy as np
import pytest

import scalepred
from scalepred.config import UserError

PARAMS, DATA = (
    sizes.ravel()
    for sizes in np.meshgrid(
        [1e7, 3e7, 1e8, 3e8], [2e8, 6e8, 2e9, 6e9, 2e10], indexing="ij"
    )
)
LOSS = 1.69 + 406.4 * PARAMS**-0.34 + 410.7 * DATA**-0.28
STEPS = np.arange(100, 1300, 100)
CURVE = 2 + 30 * STEPS**-0.5
GRID = {"n_params": PARAMS.astype(int), "tokens": DATA.astype(int), "val_loss": LOSS}


def check_grid(path: pathlib.Path) -> None:
    surface = scalepred.Surface.from_csv(path)
    order = np.lexsort((DATA, PARAMS))
    np.testing.assert_array_equal(surface.params, PARAMS[order])
    np.testing.assert_array_equal(surface.data, DATA[order])
    np.testing.assert_allclose(surface.value, LOSS[order], rtol=1e-9)
    assert surface.metric == "loss"


def check_curve(path: pathlib.Path, rtol: float = 1e-9) -> None:
    surface = scalepred.Surface.from_csv(path)
    np.testing.assert_array_equal(surface.data, STEPS)
    np.testing.assert_allclose(surface.value, CURVE, rtol=rtol)
    assert surface.metric == "loss"
    assert surface.data_unit == "steps"


PANDAS = {
    "plain.csv": lambda frame, path: frame.to_csv(path, index=False),
    "index.csv": lambda frame, path: frame.to_csv(path),
    "comma.csv": lambda frame, path: frame.to_csv(
        path, sep=";", decimal=",", index=False
    ),
    "tabs.tsv": lambda frame, path: frame.to_csv(path, sep="\t"),
    "excel.csv": lambda frame, path: frame.to_csv(
        path, sep=";", decimal=",", encoding="utf-8-sig", index=False
    ),
    "utf16.csv": lambda frame, path: frame.to_csv(path, encoding="utf-16"),
    "lines.jsonl": lambda frame, path: frame.to_json(
        path, orient="records", lines=True, double_precision=15
    ),
    "records.json": lambda frame, path: frame.to_json(
        path, orient="records", double_precision=15
    ),
    "columns.json": lambda frame, path: frame.to_json(path, double_precision=15),
    "levels.csv": lambda frame, path: frame.set_index(["n_params", "tokens"]).to_csv(
        path
    ),
}


@pytest.mark.parametrize("name", PANDAS)
def test_pandas(tmp_path, name):
    pandas = pytest.importorskip("pandas", reason="no pandas: pip install pandas")
    PANDAS[name](pandas.DataFrame(GRID), tmp_path / name)
    check_grid(tmp_path / name)


POLARS = {
    "plain.csv": "write_csv",
    "lines.ndjson": "write_ndjson",
    "rows.json": "write_json",
    "table.parquet": "write_parquet",
}


@pytest.mark.parametrize("name", POLARS)
def test_polars(tmp_path, name):
    polars = pytest.importorskip("polars", reason="no polars: pip install polars")
    getattr(polars.DataFrame(GRID), POLARS[name])(tmp_path / name)
    check_grid(tmp_path / name)


@pytest.mark.parametrize("are_tried", [True, False])
def test_optuna(tmp_path, are_tried):
    """Sizes are what a study tries, or attributes of its trials."""
    optuna = pytest.importorskip("optuna", reason="no optuna: pip install optuna")
    pytest.importorskip("pandas", reason="no pandas: pip install pandas")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    any_size = optuna.distributions.IntDistribution(1, 10**12)
    for m, n, loss in zip(PARAMS, DATA, LOSS, strict=True):
        sizes = {"n_params": int(m), "tokens": int(n)}
        about = {"user_attrs": {**sizes, "host": "a"}}
        if are_tried:
            about = {"params": sizes, "distributions": dict.fromkeys(sizes, any_size)}
        study.add_trial(optuna.trial.create_trial(value=float(loss), **about))
    study.trials_dataframe().to_csv(tmp_path / "trials.csv")
    check_grid(tmp_path / "trials.csv")


def test_state_of_a_trainer(tmp_path):
    """trainer_state.json, which the Trainer of Hugging Face saves."""
    callbacks = pytest.importorskip(
        "transformers.trainer_callback", reason="no transformers: pip install it"
    )
    history = []
    for step, loss in zip(STEPS.tolist(), CURVE.tolist(), strict=True):
        history.append({"loss": loss + 0.3, "learning_rate": 1e-3, "step": step})
        history.append({"eval_loss": loss, "eval_runtime": 2.5, "step": step})
    state = callbacks.TrainerState(
        global_step=int(STEPS[-1]), max_steps=2000, log_history=history
    )
    state.save_to_json(str(tmp_path / "trainer_state.json"))
    assert json.loads((tmp_path / "trainer_state.json").read_text())["max_steps"]
    check_curve(tmp_path / "trainer_state.json")


def test_event_files(tmp_path):
    writers = pytest.importorskip(
        "tensorboardX", reason="no tensorboardX: pip install tensorboardX"
    )
    with writers.SummaryWriter(str(tmp_path)) as writer:
        for step, loss in zip(STEPS.tolist(), CURVE.tolist(), strict=True):
            writer.add_scalar("val/loss", loss, step)
            writer.add_scalar("train/lr", 1e-3, step)
    (path,) = tmp_path.glob("events.out.tfevents.*")
    check_curve(path, rtol=1e-6)


def chart(*runs: str) -> str:
    """A chart as W&B exports it: a line a run, and the ends of what was smoothed."""
    names = [f"{run} - val_loss{end}" for run in runs for end in ("", "__MIN", "__MAX")]
    rows = [",".join(f'"{name}"' for name in ("Step", *names))]
    for step, loss in zip(STEPS, CURVE, strict=True):
        rows.append(",".join(f'"{x}"' for x in (step, *[loss] * len(names))))
    return "\n".join(rows)


def test_a_chart_of_one_run_is_a_curve_and_of_several_is_refused(tmp_path):
    path = tmp_path / "wandb_export.csv"
    path.write_text(chart("gpt - 10M"))
    check_curve(path)
    path.write_text(chart("gpt-10M", "gpt-30M"))
    with pytest.raises(UserError) as told:
        scalepred.Surface.from_csv(path)
    assert "a chart of 2 runs as W&B exports it" in str(told.value)
    assert "export the table of runs, with columns for parameters, data" in str(
        told.value
    )


def test_names_with_a_dash_make_no_chart_where_their_keys_differ(tmp_path):
    rows = [f"{m},{n},{v}" for m, n, v in zip(PARAMS, DATA, LOSS, strict=True)]
    path = tmp_path / "points.csv"
    path.write_text("\n".join(["params,data - tokens,val - loss", *rows]))
    columns = {"data": "data - tokens", "value": "val - loss"}
    assert len(scalepred.Surface.from_csv(path, columns=columns)) == len(rows)

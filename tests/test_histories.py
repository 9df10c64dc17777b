"""What a run logged along its steps: a curve, whoever wrote it, or one sentence."""

import json

import numpy as np
import pytest
from test_tables import ROWS, read

from scalepred.config import UserError
from scalepred.table.surface import Surface


def history(**names):
    """A run's history as trainers write it: no sizes, and cells that are empty."""
    steps = [0, *(int(100 * 1.5**k) for k in range(12))]
    values = [9.0, *(2 + 30 * s**-0.5 for s in steps[1:])]
    return [
        {names["step"]: s, names["value"]: round(v, 5)}
        for s, v in zip(steps, values, strict=True)
    ]


HISTORIES = {
    "trainer_state.json": json.dumps(
        {"log_history": history(step="step", value="eval_loss"), "best_metric": None}
    ),
    "metrics.csv": "\n".join(
        ["epoch,step,train_loss,val_loss"]
        + [
            f"0,{h['s']},{h['v'] + 1},\n0,{h['s']},,{h['v']}"
            for h in history(step="s", value="v")
        ]
    ),
    "scalars.csv": "\n".join(
        ["Wall time,Step,Value"]
        + [f"1.7e9,{h['s']},{h['v']}" for h in history(step="s", value="v")]
    ),
    "wandb.jsonl": "\n".join(
        json.dumps(h | {"_runtime": 3.5})
        for h in history(step="_step", value="val/loss")
    ),
    "history.csv": "\n".join(  # train and validation logged apart, cells empty
        [",_step,_runtime,train/loss,val/loss"]
        + [
            f"{k},{h['s'] + (k % 2 == 0)},3.5,{h['v'] + 1},\n{k},{h['s']},3.6,,{h['v']}"
            for k, h in enumerate(history(step="s", value="v"))
        ]
    ),
    "scalars_of_a_tag.csv": "\n".join(
        ["run,tag,step,value"]
        + [f"r,val/loss,{h['s']},{h['v']}" for h in history(step="s", value="v")]
    ),
    "total_flos.json": json.dumps(
        {
            "log_history": [
                *history(step="step", value="eval_loss"),
                {"train_loss": 2.5, "step": 900, "total_flos": 1e15},
            ]
        }
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_is_a_curve_along_its_steps(tmp_path, name):
    surface = read(tmp_path, HISTORIES[name], name)
    assert len(surface) == 12  # without step 0
    assert surface.data_unit == "steps"
    np.testing.assert_allclose(surface.value, 2 + 30 * surface.data**-0.5, rtol=1e-4)
    assert not surface.left_out.sentence  # a row without a value is no run that failed


def test_rows_of_one_step_belong_together(tmp_path):
    """Tokens stand in the rows of training, values in those of evaluation."""
    rows = []
    for h in history(step="step", value="eval_loss"):
        rows += [{"step": h["step"], "loss": 3.0, "tokens": h["step"] * 1000}, h]
    surface = read(tmp_path, json.dumps({"log_history": rows}), "trainer_state.json")
    assert surface.data_unit == "tokens"
    np.testing.assert_allclose(
        surface.value, 2 + 30 * (surface.data / 1000) ** -0.5, rtol=1e-4
    )
    # Where steps differ, tokens are not known: steps count.
    for row in rows[1::2]:
        row["step"] += 1
    surface = read(tmp_path, json.dumps({"log_history": rows}), "trainer_state.json")
    assert surface.data_unit == "steps"


RUNS = [
    {"run": run, "n_params": m, **h}
    for run, m in (("a", 10**7), ("b", 10**7), ("c", 10**8))
    for h in history(step="_step", value="val/loss")
]


def to_csv(rows):
    return "\n".join(
        [",".join(rows[0]), *(",".join(map(str, r.values())) for r in rows)]
    )


@pytest.mark.parametrize("name", ["run", "name", "run_id", "Run name"])
def test_curves_of_several_runs_without_sizes_are_refused(tmp_path, name):
    rows = [{name: row["run"], **row} for row in RUNS]
    for row in rows:
        del row["n_params"]
    rows = [
        {k: v for k, v in row.items() if k in (name, "_step", "val/loss")}
        for row in rows
    ]
    with pytest.raises(UserError, match=rf"curves of 3 runs \({name}: a, b, c\), and"):
        read(tmp_path, to_csv(rows))
    assert len(read(tmp_path, to_csv(rows), where=[f"{name}=b"])) == 12
    surface = read(tmp_path, to_csv(rows), columns={"seed": name})
    assert surface.num_seeds.tolist() == [3] * 12


@pytest.mark.parametrize("name", ["rep{}", "Seed {}", "fold-{}", "{}"])
def test_repeats_of_a_learning_curve_are_averaged(tmp_path, name):
    """Sizes of data are no steps, and runs that are numbered are no models."""
    path = tmp_path / "curve.csv"
    lines = [
        f"{name.format(rep)},{n},{0.1 + 3 * n**-0.5 + 0.001 * rep}"
        for n in (100, 200, 400, 800)
        for rep in range(3)
    ]
    path.write_text("\n".join(["run,data,test_error", *lines]) + "\n")
    surface = Surface.from_csv(path)
    assert len(surface) == 4
    assert surface.num_seeds.tolist() == [3] * 4
    assert surface.value[0] == pytest.approx(0.1 + 0.3 + 0.001)
    # Of models that have names, and of runs along steps, it is not known.
    for old, new in ((name.format(0), "resnet"), ("data", "step")):
        other = tmp_path / "other.csv"
        other.write_text(path.read_text().replace(f"{old},", f"{new},"))
        with pytest.raises(UserError, match="nothing says their sizes"):
            Surface.from_csv(other)


def test_rows_of_a_run_have_its_name_as_seed(tmp_path):
    surface = read(tmp_path, to_csv(RUNS))
    assert surface.seed_names == ("a", "b", "c")
    assert "seed is 'run'" in surface.notes[0]
    # Names of sizes, of which each stands once at every size, are no runs.
    rows = [{"run": f"{m:g}-{i % 2}", "params": m, "data": n, "loss": v}
            for i, (m, n, v) in enumerate(ROWS)]  # fmt: skip
    assert read(tmp_path, to_csv(rows)).seed_names is None


@pytest.mark.parametrize("column", ["tag", "variable", "metric", "metric_name"])
def test_several_metrics_below_each_other_are_asked_about(tmp_path, column):
    rows = [
        {"step": h["s"], column: tag, "value": h["v"] + (tag == "train/loss")}
        for tag in ("train/loss", "val/loss")
        for h in history(step="s", value="v")
    ]
    with pytest.raises(UserError, match="several values of metric in one file"):
        read(tmp_path, to_csv(rows))
    surface = read(tmp_path, to_csv(rows), metric="val/loss")
    np.testing.assert_allclose(surface.value, 2 + 30 * surface.data**-0.5, rtol=1e-4)


def test_an_accuracy_below_a_tag_is_one(tmp_path):
    rows = [
        {"step": h["s"], "tag": "eval/accuracy", "value": 1 - h["v"] / 10}
        for h in history(step="s", value="v")
    ]
    assert read(tmp_path, to_csv(rows)).metric == "error"


@pytest.mark.parametrize("text", ['{"log_history": [1, 2]}', '{"log_history": []}'])
def test_a_history_of_nothing_is_refused(tmp_path, text):
    with pytest.raises(UserError, match=r"not of objects|no rows"):
        read(tmp_path, text)

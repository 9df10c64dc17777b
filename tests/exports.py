"""Files as the real tools write them: a grid of runs, or the curve of one run.

`tests/exports/` holds one of each, written by `python tests/exports.py` where all of
the tools are: pip install pandas polars pyarrow openpyxl optuna transformers
tensorboardX tensorboard wandb. Tests read those files always, and write
and read them anew with every tool that is there.

What cannot be written without an account or a network is made up in `test_exports` and
`test_histories`: what W&B's web pages and API give. Lightning brings torch, so its
CSVLogger is made up there, too.
"""

import csv
import importlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

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
RUNS = [*zip(GRID["n_params"].tolist(), GRID["tokens"].tolist(), LOSS, strict=True)]
HISTORY = [*zip(STEPS.tolist(), CURVE.tolist(), strict=True)]

STORED = pathlib.Path(__file__).parent / "exports"

Writer = Callable[[pathlib.Path], Any]


def _pandas(write: Callable[[Any, pathlib.Path], Any]) -> Writer:
    def writer(path: pathlib.Path) -> None:
        write(_module("pandas").DataFrame(GRID), path)

    return writer


def _polars(method: str) -> Writer:
    def writer(path: pathlib.Path) -> None:
        getattr(_module("polars").DataFrame(GRID), method)(path)

    return writer


def _optuna(are_tried: bool) -> Writer:
    """Sizes are what a study tries, or attributes of its trials."""

    def writer(path: pathlib.Path) -> None:
        optuna = _module("optuna")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study()
        any_size = optuna.distributions.IntDistribution(1, 10**12)
        for m, n, loss in RUNS:
            sizes = {"n_params": m, "tokens": n}
            about: dict[str, Any] = {"user_attrs": {**sizes, "host": "a"}}
            if are_tried:
                about = {
                    "params": sizes,
                    "distributions": dict.fromkeys(sizes, any_size),
                }
            study.add_trial(optuna.trial.create_trial(value=float(loss), **about))
        study.trials_dataframe().to_csv(path)

    return writer


def _workbook(path: pathlib.Path) -> None:
    """A workbook, its sheet saved as CSV in the dialect of Excel."""
    openpyxl = _module("openpyxl")
    book = openpyxl.Workbook()
    book.active.append([*GRID])
    for run in RUNS:
        book.active.append([float(cell) for cell in run])
    book.save(path.with_suffix(".xlsx"))
    sheet = openpyxl.load_workbook(path.with_suffix(".xlsx")).active
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, dialect="excel").writerows(sheet.values)
    path.with_suffix(".xlsx").unlink()


def _trainer_state(path: pathlib.Path) -> None:
    """trainer_state.json, which the Trainer of Hugging Face saves."""
    callbacks = _module("transformers.trainer_callback")
    history = []
    for step, loss in HISTORY:
        about = {"epoch": step / 500, "step": step}
        history.append({"loss": loss + 0.3, "learning_rate": 1e-3, **about})
        history.append({"eval_loss": loss, "eval_runtime": 2.5, **about})
    last = {"train_loss": 2.7, "total_flos": 1e15, "step": HISTORY[-1][0]}
    state = callbacks.TrainerState(max_steps=2000, log_history=[*history, last])
    state.save_to_json(str(path))


def _events(folder: pathlib.Path) -> pathlib.Path:
    with _module("tensorboardX").SummaryWriter(str(folder)) as writer:
        for step, loss in HISTORY:
            writer.add_scalar("val/loss", loss, step)
            writer.add_scalar("train/lr", 1e-3, step)
    (path,) = folder.glob("events.out.tfevents.*")
    return path


def _event_file(path: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(_events(pathlib.Path(folder)), path)


def _tensorboard(path: pathlib.Path) -> None:
    """What the page of TensorBoard gives as CSV."""
    plugin = _module("tensorboard.plugins.scalar.scalars_plugin")
    reading = _module("tensorboard.backend.event_processing.data_provider")
    many = _module("tensorboard.backend.event_processing.plugin_event_multiplexer")
    with tempfile.TemporaryDirectory() as folder:
        _events(pathlib.Path(folder))
        runs = many.EventMultiplexer().AddRunsFromDirectory(folder)
        runs.Reload()
        provider = reading.MultiplexerDataProvider(runs, folder)
        context = _module("tensorboard.plugins.base_plugin").TBContext(
            data_provider=provider
        )
        text, _ = plugin.ScalarsPlugin(context).scalars_impl(
            _module("tensorboard.context").RequestContext(),
            "val/loss", ".", "", plugin.OutputFormat.CSV,
        )  # fmt: skip
    path.write_text(text)


def _wandb(path: pathlib.Path) -> None:
    """A run without a network, which values are logged in by two calls a step."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
        config = {"n_params": 10_000_000, "model": {"width": 64}}
        wandb = _module("wandb")
        about = wandb.Settings(
            x_disable_meta=True, x_disable_stats=True, program="train.py"
        )
        run = wandb.init(project="p", dir=folder, config=config, settings=about)
        for step, loss in HISTORY:
            run.log({"train": {"loss": loss + 0.3}}, step=step)
            run.log({"val/loss": loss}, step=step)
        run.finish()
        wandb.teardown()  # writes what is still held back
        (written,) = pathlib.Path(folder).glob("wandb/offline-run-*/*.wandb")
        shutil.copy(written, path)


# By the name of the file: the tool that it takes, and what writes it.
GRIDS: dict[str, tuple[str, Writer]] = {
    "pandas.csv": ("pandas", _pandas(lambda t, path: t.to_csv(path, index=False))),
    "pandas_index.csv": ("pandas", _pandas(lambda t, path: t.to_csv(path))),
    "pandas_semicolons.csv": (
        "pandas",
        _pandas(lambda t, path: t.to_csv(path, sep=";", decimal=",", index=False)),
    ),
    "pandas_tabs.tsv": ("pandas", _pandas(lambda t, path: t.to_csv(path, sep="\t"))),
    "pandas_utf8_sig.csv": (
        "pandas",
        _pandas(lambda t, path: t.to_csv(path, sep=";", encoding="utf-8-sig")),
    ),
    "pandas_utf16.csv": (
        "pandas",
        _pandas(lambda t, path: t.to_csv(path, encoding="utf-16")),
    ),
    "pandas_levels.csv": (
        "pandas",
        _pandas(lambda t, path: t.set_index(["n_params", "tokens"]).to_csv(path)),
    ),
    "pandas.jsonl": (
        "pandas",
        _pandas(
            lambda t, path: t.to_json(
                path, orient="records", lines=True, double_precision=15
            )
        ),
    ),
    "pandas_records.json": (
        "pandas",
        _pandas(lambda t, path: t.to_json(path, orient="records", double_precision=15)),
    ),
    "pandas.json": (
        "pandas",
        _pandas(lambda t, path: t.to_json(path, double_precision=15)),
    ),
    "pandas.parquet": ("pyarrow", _pandas(lambda t, path: t.to_parquet(path))),
    "polars.csv": ("polars", _polars("write_csv")),
    "polars.ndjson": ("polars", _polars("write_ndjson")),
    "polars.json": ("polars", _polars("write_json")),
    "polars.parquet": ("polars", _polars("write_parquet")),
    "openpyxl.csv": ("openpyxl", _workbook),
    "optuna_params.csv": ("optuna", _optuna(True)),
    "optuna_attributes.csv": ("optuna", _optuna(False)),
}
CURVES: dict[str, tuple[str, Writer]] = {
    "trainer_state.json": ("transformers", _trainer_state),
    "events.out.tfevents.1700000000.host": ("tensorboardX", _event_file),
    "tensorboard.csv": ("tensorboard", _tensorboard),
    "run.wandb": ("wandb", _wandb),
}


def _module(name: str) -> Any:
    return importlib.import_module(name)


def main() -> None:
    """Writes all files anew, and beside them which version wrote which."""
    STORED.mkdir(exist_ok=True)
    versions = {}
    for name, (tool, write) in (GRIDS | CURVES).items():
        write(STORED / name)
        versions[name] = f"{tool} {_module(tool).__version__}"
    (STORED / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")


if __name__ == "__main__":
    main()

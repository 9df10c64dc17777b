"""Files that the real tools write, read without a flag (see `exports`)."""

import contextlib
import importlib.util
import json
import math
import pathlib
import struct

import exports
import numpy as np
import pytest
from exports import (
    CURVE,
    CURVES,
    DATA,
    GRIDS,
    HISTORY,
    LOSS,
    PARAMS,
    RUNS,
    STEPS,
    STORED,
)
from hypothesis import given
from hypothesis import strategies as st

import scalepred
from scalepred.config import UserError
from scalepred.report import tensorboard
from scalepred.table.readers import wandb

Surface = scalepred.Surface


def check_grid(surface: scalepred.Surface, rtol: float = 1e-9) -> None:
    order = np.lexsort((DATA, PARAMS))
    np.testing.assert_array_equal(surface.params, PARAMS[order])
    np.testing.assert_array_equal(surface.data, DATA[order])
    np.testing.assert_allclose(surface.value, LOSS[order], rtol=rtol)
    assert surface.metric == "loss"


def check_curve(surface: scalepred.Surface, rtol: float = 1e-9) -> None:
    np.testing.assert_array_equal(surface.data, STEPS)
    np.testing.assert_allclose(surface.value, CURVE, rtol=rtol)
    assert surface.metric == "loss"
    assert surface.data_unit == "steps"
    assert not surface.left_out.is_many


def check(path: pathlib.Path) -> None:
    if path.suffix == ".parquet" and not any(
        importlib.util.find_spec(name) for name in ("pyarrow", "polars")
    ):
        pytest.skip("no pyarrow: pip install pyarrow")
    surface = Surface.from_csv(path)
    if path.name in GRIDS:
        check_grid(surface)
    else:
        # TensorBoard keeps single precision.
        check_curve(surface, rtol=1e-6)
    assert any(note.startswith("read as ") for note in surface.notes)


@pytest.mark.parametrize("name", [*GRIDS, *CURVES])
def test_what_the_tools_wrote_is_read(name):
    check(STORED / name)


@pytest.mark.parametrize("name", [*GRIDS, *CURVES])
def test_what_the_tools_write_now_is_read(tmp_path, name):
    tool, write = (GRIDS | CURVES)[name]
    pytest.importorskip(tool, reason=f"no {tool}: pip install {tool}")
    if name.startswith("pandas") or tool == "optuna":
        pytest.importorskip("pandas", reason="no pandas: pip install pandas")
    write(tmp_path / name)
    check(tmp_path / name)


def in_blocks(records: list[bytes]) -> bytes:
    """A log of LevelDB: records cut where a block of 32 KiB ends."""
    log = b":W&B\xe1\xbe\0"
    for record in records:
        is_first, is_last = True, False
        while not is_last:
            left = 2**15 - len(log) % 2**15
            if left < 7:
                log += bytes(left)
                continue
            part, record = record[: left - 7], record[left - 7 :]
            is_last = not record
            kind = {(1, 1): 1, (1, 0): 2, (0, 0): 3, (0, 1): 4}[is_first, is_last]
            log += struct.pack("<IHB", 0, len(part), kind) + part
            is_first = False
    return log


def test_a_run_of_wandb_longer_than_a_block(tmp_path):
    encode = tensorboard._encode

    def value(content: bytes) -> bytes:  # field 16, whose number takes two bytes
        return b"\x82\x01" + tensorboard._encode_number(len(content)) + content

    records = []
    for step, loss in HISTORY:
        cells = {"_step": step, "val/loss": loss, "note": "x" * 5_000 * (step // 100)}
        items = [
            encode(1, encode(2, key.encode()) + value(json.dumps(cell).encode()))
            for key, cell in cells.items()
        ]
        records.append(encode(2, b"".join(items)))
    (tmp_path / "run.wandb").write_bytes(in_blocks(records))
    check_curve(Surface.from_csv(tmp_path / "run.wandb"))


def test_a_run_of_wandb_that_was_killed_or_damaged(tmp_path):
    content = (STORED / "run.wandb").read_bytes()
    path = tmp_path / "run.wandb"
    path.write_bytes(content[: len(content) // 2])
    assert 0 < len(Surface.from_csv(path)) < len(STEPS)
    for end in (6, 30):
        path.write_bytes(content[:end])
        with pytest.raises(UserError, match="logged nothing"):
            Surface.from_csv(path)
    path.write_bytes(content[:20] + b"\xff" * 40 + content[60:])
    with pytest.raises(UserError, match=r"a whole file of W&B|logged nothing"):
        Surface.from_csv(path)


@given(cut=st.integers(0, 5000), damage=st.binary(max_size=8), at=st.integers(7, 5000))
def test_damage_is_rows_or_one_sentence(cut, damage, at):
    content = bytearray((STORED / "run.wandb").read_bytes())
    content[at : at + len(damage)] = damage
    with contextlib.suppress(UserError):  # and nothing else
        assert wandb.parse("x", bytes(content[: len(content) - cut])).rows


# What the pages and the API of W&B give, which takes an account.


def chart(*runs: str, keys=("val_loss",), x="Step", ends=("", "__MIN", "__MAX")) -> str:
    """A chart as W&B exports it: a line a run, and the ends of what was smoothed."""
    names = [f"{run} - {key}{end}" for run in runs for key in keys for end in ends]
    rows = [",".join(f'"{name}"' for name in (x, *names))]
    for step, loss in zip(STEPS, CURVE, strict=True):
        cells = {"_step": step, "val_loss": loss, "train_loss": loss + 0.3}
        own = [cells[name.rpartition(" - ")[2].split("__M")[0]] for name in names]
        rows.append(",".join(f'"{x}"' for x in (step, *own)))
    return "\n".join(rows)


@pytest.mark.parametrize(
    "text",
    [
        chart("gpt - 10M"),
        chart("gpt", ends=("",)),
        chart("gpt", keys=("_step", "val_loss")),
        chart("gpt - x", keys=("train_loss", "val_loss")),
        chart("gpt", x="trainer/global_step"),
    ],
)
def test_a_chart_of_one_run_is_a_curve(tmp_path, text):
    path = tmp_path / "wandb_export.csv"
    path.write_text(text)
    check_curve(Surface.from_csv(path))


@pytest.mark.parametrize(
    "text",
    [
        chart("gpt-10M", "gpt-30M"),
        chart("gpt-10M", "gpt-30M", keys=("_step", "val_loss")),
        chart("n_params: 10M", "n_params: 30M", keys=("train_loss", "val_loss")),
    ],
)
def test_a_chart_of_several_runs_is_refused(tmp_path, text):
    path = tmp_path / "wandb_export.csv"
    path.write_text(text)
    with pytest.raises(UserError) as told:
        Surface.from_csv(path)
    assert "a chart of 2 runs as W&B exports it" in str(told.value)
    assert "export the table of runs, with columns for parameters, data" in str(
        told.value
    )


def test_names_with_a_dash_make_no_chart_where_their_keys_differ(tmp_path):
    rows = [f"{m},{n},{v}" for m, n, v in RUNS]
    path = tmp_path / "points.csv"
    path.write_text("\n".join(["params,data - tokens,val - loss", *rows]))
    columns = {"data": "data - tokens", "value": "val - loss"}
    assert len(Surface.from_csv(path, columns=columns)) == len(rows)


def api_runs() -> list[dict]:
    """Of each run what `wandb.Api().runs` has of it."""
    return [
        {
            "summary": {
                "_step": 900,
                "_runtime": 5.5,
                "val/loss": v,
                "_wandb": {"a": 1},
            },
            "config": {"n_params": m, "tokens": n, "lr": 1e-3, "model": {"width": 64}},
            "name": f"run-{i}",
        }
        for i, (m, n, v) in enumerate(RUNS)
    ]


def wrap(config: dict) -> dict:
    return {key: {"desc": None, "value": value} for key, value in config.items()}


def as_csv(rows: list[dict]) -> str:
    """Cells as pandas writes dictionaries: as Python prints them."""
    lines = [",".join(("", *rows[0]))]
    for number, row in enumerate(rows):
        cells = [f'"{cell!s}"' for cell in row.values()]
        lines.append(",".join([str(number), *cells]))
    return "\n".join(lines)


API = {
    "project.csv": as_csv(api_runs()),
    "numpy.csv": as_csv(api_runs()).replace("5.5", "np.float64(5.5)"),
    "columns.json": json.dumps(
        {k: {str(i): run[k] for i, run in enumerate(api_runs())} for k in api_runs()[0]}
    ),
    "rows.json": json.dumps(api_runs()),
    "wrapped.json": json.dumps(
        [run | {"config": wrap(run["config"])} for run in api_runs()]
    ),
    "text.jsonl": "\n".join(
        json.dumps(
            {
                "name": run["name"],
                "state": "finished",
                "config": json.dumps(wrap(run["config"])),
                "summaryMetrics": json.dumps(run["summary"]),
            }
        )
        for run in api_runs()
    ),
}


@pytest.mark.parametrize("name", API)
def test_runs_of_the_api_are_read(tmp_path, name):
    (tmp_path / name).write_text(API[name])
    check_grid(Surface.from_csv(tmp_path / name))


def test_a_frame_of_configs_and_summaries_is_read():
    runs = api_runs()
    check_grid(Surface.from_frame({key: [run[key] for run in runs] for key in runs[0]}))


def test_a_run_whose_loss_is_no_number_is_left_out(tmp_path):
    runs = api_runs()
    runs[3]["summary"]["val/loss"] = math.nan
    path = tmp_path / "project.csv"
    path.write_text(as_csv(runs))
    surface = Surface.from_csv(path)
    assert len(surface) == len(RUNS) - 1
    assert surface.left_out.sentence.startswith("1 of 20 runs are left out")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("wandb-summary.json", '{"val/loss": 2.3, "_runtime": 5, "_step": 900}'),
        ("wandb-summary.json", '{"val/loss": 2.3, "_wandb": {"runtime": 5}}'),
        ("config.yaml", "_wandb:\n    value: {}\nn_params:\n    value: 10\n"),
        ("config.yaml", "wandb_version: 1\n\nn_params:\n  desc: null\n  value: 10\n"),
    ],
)
def test_what_is_kept_of_one_run_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match="of one run, a single point; export the table"):
        Surface.from_csv(tmp_path / name)


def test_versions_of_the_stored_files_are_said():
    versions = json.loads((exports.STORED / "versions.json").read_text())
    assert [*versions] == [*GRIDS, *CURVES]

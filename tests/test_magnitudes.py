"""Numbers that no float could reckon with are refused; others warn of nothing."""

import warnings
from typing import Any

import numpy as np
import pytest

from scalepred.config import UserError
from scalepred.forecasting.gate import parse_gate
from scalepred.table.points import LARGEST, MOST_FLOPS, SMALLEST
from scalepred.table.surface import Surface
from tests.test_commands import assert_refused, run_fit, write_points

SIZES = np.repeat([1.0, 10.0, 100.0], 3), np.tile([1.0, 10.0, 100.0], 3)


def write_table(path, m: float, n: float, value: float, odd: float = 0.0) -> str:
    """A Chinchilla law in units of m, n and value; `odd` in place of a value."""
    ms, ns = SIZES
    values = (1 + ms**-0.4 + ns**-0.3) * value / 3
    values[0] = odd or values[0]
    return write_points(path, m=ms * m, n=ns * n, value=values)


TOO_MUCH = {
    "tiny sizes": ({"m": 1e-308, "n": 1.0}, "params: 1e-308 is no count"),
    "tiny data": ({"n": 1e-50}, "data: 1e-50 is no count"),
    "large sizes": ({"m": 1e299}, "params, row 1: 1e299 is not between"),
    "large values": ({"value": 1e300}, "value, row 1: 1e300 is not between"),
    "one large value": ({"odd": 1e300}, "value, row 1: 1e300 is not between"),
    "small values": ({"value": 1e-200}, "value, row 1: 1e-200 is not between"),
}


@pytest.mark.parametrize(("changes", "part"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_tables_out_of_range(capsys, tmp_path, changes, part):
    units = {"m": 1e5, "n": 1e5, "value": 1.0, **changes}
    points = write_table(tmp_path / "points.csv", **units)
    result = run_fit(capsys, points, f"--workdir={tmp_path / 'work'}", "--metric=loss")
    assert_refused(result, part)


@pytest.mark.parametrize(
    "flag",
    [
        "--target=params=1e300,data=1e300",
        "--target=params=1e9,data=1e41",
        "--target_value=1e300",
        "--target_value=1e-300",
        "--budget=1e300",
        "--budget=1e-300",
        "--random_guess=1e300",
        "--fit_max_params=1e300",
        "--gate=value<=1e300,params=1e9,data=1e9,probability=0.5",
        "--gate=value<=1,params=1e9,data=1e300,probability=0.5",
        "--gate=value<=1,budget=1e300,probability=0.5",
    ],
)
def test_flags_out_of_range(capsys, tmp_path, flag):
    points = write_table(tmp_path / "points.csv", m=1e5, n=1e5, value=1)
    result = run_fit(capsys, points, f"--workdir={tmp_path / 'work'}", flag)
    assert_refused(result, "between 1e-40 and 1e")
    assert not (tmp_path / "work").exists()


def test_columns_out_of_range():
    run: dict[str, Any] = {
        "params": [1.0, 2.0],
        "data": [1.0, 2.0],
        "value": [0.5, 0.4],
    }
    for column in ("weight", "compute", "epochs"):
        given: dict[str, Any] = {**run, column: [1.0, 1e90]}
        with pytest.raises(UserError, match=r"row 2: .* is not between"):
            Surface.from_arrays(**given)
    flops = np.array([np.nan, MOST_FLOPS])
    assert Surface.from_arrays(**run, compute=flops).compute[1] == MOST_FLOPS
    assert parse_gate(f"value<=1,budget={MOST_FLOPS},probability=0.5").value == 1
    # A run without errors is a value, beside another seed.
    assert len(Surface.from_arrays([1, 1], [1, 1], [0.0, 0.5])) == 1


EDGES = {
    "smallest sizes": (
        {"m": 1.0, "n": 1.0},
        ["--target=params=1e40,data=1e40", "--budget=1e80", "--target_value=0.5"],
    ),
    "largest sizes": ({"m": LARGEST / 100, "n": LARGEST / 100}, ["--budget=1e80"]),
    "both": ({"m": 1.0, "n": LARGEST / 100}, ["--target_value=0.9"]),
    "smallest values": ({"value": 10 * SMALLEST}, ["--target=params=1e9,data=1e9"]),
    "largest values": ({"value": LARGEST}, ["--target=params=1e9,data=1e9"]),
    "a largest value": ({"odd": LARGEST}, ["--budget=1e-40", "--resamples=0"]),
}


@pytest.mark.parametrize(
    "law",
    [
        "auto",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("rosenfeld", "chinchilla")),
    ],
)
@pytest.mark.parametrize(("changes", "asked"), EDGES.values(), ids=EDGES)
def test_at_the_edge_nothing_warns(capfd, tmp_path, monkeypatch, law, changes, asked):
    """Neither here nor in the processes that draw."""
    monkeypatch.setenv("PYTHONWARNINGS", "always::RuntimeWarning")
    units = {"m": 1e5, "n": 1e5, "value": 1.0, **changes}
    points = write_table(tmp_path / "points.csv", **units)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        status, _, said = run_fit(
            capfd, points, f"--workdir={tmp_path / 'work'}", f"--law={law}",
            "--resamples=20", "--metric=loss", *asked,
        )  # fmt: skip
    assert status == 0 or (status == 2 and law != "auto"), said
    assert "Warning" not in said
    assert "Traceback" not in said

"""The bottom of the bowl over the learning rate, and whether it stays over widths."""

import dataclasses
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from scalepred import transfer
from scalepred.config import UserError
from scalepred.table.rows import COLUMNS, Measurement
from scalepred.transfer import fit_bowl, read_groups

RATES = 2.0 ** np.arange(-9, -2)


def _bowl(
    bottom: float, noise: float, seeds: int = 2, draw: int = 0, bend: float = 0.0
):
    """Loss 2 + 0.05 ln(rate / bottom)^2, and a cubic, as many seeds measure it."""
    random = np.random.default_rng(draw)
    levels = random.normal(size=seeds)
    found = {}
    for rate in RATES.tolist():
        x = math.log(rate / bottom)
        loss = 2 + 0.05 * x**2 + bend * x**3
        found[rate] = {
            seed: float(loss + noise * (random.normal() + levels[seed]))
            for seed in range(seeds)
        }
    return found


def test_the_bottom_of_a_parabola_is_found():
    found = fit_bowl(16, _bowl(0.0123, 1e-6))
    assert found.status == "ok"
    assert found.rate.value == pytest.approx(0.0123, rel=1e-3)
    assert found.value == pytest.approx(2, abs=1e-4)
    assert found.rate.high / found.rate.low < 1.01


def test_its_interval_holds_the_truth_as_often_as_it_says():
    """90 %, of 300 sweeps with two seeds; levels of the seeds do not matter."""
    found = [fit_bowl(16, _bowl(0.02, 0.005, draw=draw)) for draw in range(300)]
    inside = [one.rate.low <= 0.02 <= one.rate.high for one in found]
    assert 0.85 <= np.mean(inside) <= 0.95
    assert all(one.status == "ok" for one in found)


def test_a_lopsided_bowl_is_off_by_little():
    found = fit_bowl(16, _bowl(0.02, 1e-6, bend=5e-3))
    assert found.rate.value == pytest.approx(0.02, rel=0.12)


def test_a_rate_at_the_edge_is_no_bottom():
    values = _bowl(2.0**-9, 1e-4)
    assert fit_bowl(16, values).status == "edge"
    # Nor is one beside a wall.
    values = _bowl(2.0**-5, 1e-4)
    values[2.0**-4][1] = math.inf
    found = fit_bowl(16, values)
    assert found.status == "edge"
    assert "diverged" in found.reason
    assert math.isnan(found.rate.value)
    assert found.value == pytest.approx(2, abs=0.01)


def test_runs_that_diverged_are_no_part_of_the_parabola():
    values = _bowl(2.0**-5, 1e-6)
    values[2.0**-3] = {0: math.inf, 1: 2.5}
    found = fit_bowl(16, values)
    assert found.status == "ok"
    assert found.rate.value == pytest.approx(2.0**-5, rel=1e-3)
    assert math.isinf(found.means[-1])


def test_noise_has_no_bottom():
    random = np.random.default_rng(0)
    found = 0
    for _ in range(100):
        values = {r: dict(enumerate(2 + random.normal(size=2))) for r in RATES.tolist()}
        bowl = fit_bowl(16, values)
        found += bowl.status == "ok" and bowl.rate.high < 2 * bowl.rate.low
    assert found <= 5


@pytest.mark.parametrize("values", [
    {0.1: {0: 2.0}, 0.2: {0: 1.0}},
    {0.1: {0: 2.0}, 0.2: {0: 1.0}, 0.4: {0: 2.0}},  # three numbers for three runs
    {0.1: {0: math.inf}, 0.2: {0: math.inf}, 0.4: {0: math.inf}},
])  # fmt: skip
def test_few_runs_have_no_bottom(values):
    assert fit_bowl(16, values).status == "few"


def _row(width: int, rate: float, seed: int, value: float, **changes) -> Measurement:
    """A row of a study that swept rates."""
    numbers = dict.fromkeys(COLUMNS, 0) | {
        "cell_id": f"{width:03x}{seed:01x}{round(1e6 * rate):08x}",
        "task": "made", "family": "mlp", "width": width, "depth": 2, "params": width**2,
        "params_total": width**2, "data": 100, "data_unit": "images", "epochs": 1.0,
        "steps": 10, "seed": seed, "learning_rate": rate, "flops": 1.0,
        "metric": "loss", "train_value": 1.0, "seconds": 0.1, "device": "cpu",
        "program": "p", "validation_value": math.nan, "value": value,
        "status": "ok" if math.isfinite(value) else "diverged",
    }  # fmt: skip
    return Measurement(**{**numbers, **changes})


def _rows(bottoms: dict[int, float], noise: float = 1e-3, **changes):
    rows = []
    for width, bottom in bottoms.items():
        for rate, values in _bowl(bottom, noise, draw=width).items():
            rows += [_row(width, rate, s, v, **changes) for s, v in values.items()]
    return rows


def test_a_rate_that_stays_transfers_and_one_that_falls_does_not():
    rows = _rows(dict.fromkeys((16, 32, 64), 0.02), family="stays")
    rows += _rows({16: 0.04, 32: 0.02, 64: 0.01}, family="falls")
    falls, stays = read_groups(rows)
    assert (falls.family, stays.family) == ("falls", "stays")
    assert stays.judge(2) == "transfers"
    assert falls.judge(2) == "moves"
    # 4 lies in the interval, or nearly so.
    assert falls.judge(4.0) == "not clear"
    assert falls.find_exponent().value == pytest.approx(-1, abs=0.1)
    assert falls.find_factor().value == pytest.approx(1 / 4, rel=0.1)
    low, high = stays.find_factor()[1:]
    assert low < 1 < high
    # At the rate of the smallest the largest loses 0.05 ln(4)^2 of 2.
    assert falls.find_excess().value == pytest.approx(
        0.05 * math.log(4) ** 2 / 2, rel=0.2
    )
    assert stays.find_excess().value < 0.005


def test_a_rate_that_the_largest_cannot_take_costs_infinitely_much():
    rows = _rows({16: 2.0**-4, 64: 2.0**-7})
    rows = [
        dataclasses.replace(row, value=math.nan, status="diverged")
        if row.width == 64 and row.learning_rate > 2.0**-5
        else row
        for row in rows
    ]
    (group,) = read_groups(rows)
    assert group.found == group.bowls
    assert group.find_excess().value == math.inf


def test_it_reads_the_validation_part_and_the_largest_data():
    rows = _rows({16: 0.02, 32: 0.02})
    other = _rows({16: 0.04, 32: 0.04})
    small = [dataclasses.replace(row, data=50) for row in other]
    (group,) = read_groups(rows + small)
    assert group.bowls[0].rate.value == pytest.approx(0.02, rel=0.1)
    chosen = [
        dataclasses.replace(row, validation_value=by.value)
        for row, by in zip(rows, other, strict=True)
    ]
    (group,) = read_groups(chosen)
    assert group.bowls[0].rate.value == pytest.approx(0.04, rel=0.1)


def test_the_order_of_rows_does_not_matter():
    rows = _rows({16: 0.02, 32: 0.01})
    (first,), (second,) = read_groups(rows), read_groups(rows[::-1])
    assert first.find_factor() == second.find_factor()


def test_one_width_is_refused():
    with pytest.raises(UserError, match=r"grid\.learning_rates and grid\.widths"):
        read_groups(_rows({16: 0.02}))


def _write(folder, rows) -> str:
    folder.mkdir()
    lines = [",".join(COLUMNS) + "\n", *(row.line() for row in rows)]
    (folder / "measurements.csv").write_text("".join(lines))
    return f"--workdir={folder}"


def _ask(tmp_path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scalepred.commands.transfer", *flags],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_the_command_says_it_and_draws(tmp_path):
    one = _write(tmp_path / "a", _rows({16: 0.04, 64: 0.01}))
    two = _write(tmp_path / "b", _rows(dict.fromkeys((16, 64), 0.02), family="stays"))
    done = _ask(tmp_path, one, two, "--out=bowls.png")
    assert done.returncode == 0, done.stderr
    assert "moves: from width 16 to 64" in done.stdout
    assert "transfers: from width 16 to 64" in done.stdout
    assert "costs width 64" in done.stdout
    drawn = (tmp_path / "bowls.png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    # What we drew may be drawn again, and nothing else.
    assert _ask(tmp_path, one, two, "--out=bowls.png").returncode == 0
    (tmp_path / "transfer.png").write_bytes(drawn.replace(b"scalepred", b"matplotli"))
    done = _ask(tmp_path, one)
    assert done.returncode == 2
    assert "transfer.png: was not drawn by scalepred" in done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--workdir: missing"),
        (["--workdir=nowhere"], "--workdir=nowhere: has no measurements.csv"),
        (["--workdir=.", "--factor=1"], "--factor=1: must be above 1"),
        (["--workdir=.", "--out=."], "--out=.: is a folder"),
        (["--workdir=.", "--out=no/a.png"], "--out=no/a.png: there is no folder no"),
    ],
)
def test_mistakes_are_told_in_a_sentence(tmp_path, flags, words):
    done = _ask(tmp_path, *flags)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_intervals_are_those_of_quantiles():
    found = transfer._between(np.arange(101.0))
    assert found == (50, 5, 95)

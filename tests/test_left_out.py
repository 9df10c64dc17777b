"""Runs that did not end well: one sentence, a note of few and a warning of many."""

import csv
import math
import types

import numpy as np
import pytest

import scalepred
from scalepred.table.left_out import Run, describe
from scalepred.table.rows import Measurement
from scalepred.table.surface import Surface

PARAMS, DATA, SEEDS = (100, 400, 1600, 6400), (20, 80, 320, 1280), 3


def runs(lost) -> list[Run]:
    """A grid; `lost` says which (params, data, seed) did not end well, and how."""
    return [
        Run(m, n, lost(m, n, seed) or "ok")
        for m in PARAMS
        for n in DATA
        for seed in range(SEEDS)
    ]


@pytest.mark.parametrize(
    ("lost", "is_many", "said"),
    [
        (lambda m, n, seed: "", False, ""),
        (
            lambda m, n, seed: (m, n, seed) == (100, 20, 1) and "diverged",
            False,
            "1 of 48 runs are left out (1 diverged); the point at 1 size is the mean "
            "of the seeds that survived",
        ),
        (
            lambda m, n, seed: (
                (m >= 1600 or (m, n, seed) == (100, 20, 1)) and "diverged"
            ),
            True,
            "25 of 48 runs are left out (25 diverged), all with 1,600 and 6,400 "
            "parameters; the point at 1 size is the mean of the seeds that survived",
        ),
        (
            lambda m, n, seed: (n == 20 and "failed") or (m == 100 and "diverged"),
            True,
            "21 of 48 runs are left out (12 failed, 9 diverged), all with "
            "100 parameters, all with 20 of data",
        ),
        (
            lambda m, n, seed: (m, n) == (400, 80) and "diverged",
            True,
            "3 of 48 runs are left out (3 diverged), all at 1 other size",
        ),
        (
            lambda m, n, seed: seed == 0 and m > 100 and "diverged",
            True,
            "12 of 48 runs are left out (12 diverged); points at 12 sizes are means of "
            "the seeds that survived",
        ),
    ],
)
def test_the_sentence_says_what_is_gone(lost, is_many, said):
    found = describe(runs(lost))
    assert found.sentence == said
    assert found.is_many == is_many


def test_of_many_sizes_few_are_named():
    every = [Run(float(m), 1.0, "diverged") for m in range(5)] + [Run(9.0, 1.0, "ok")]
    assert "all with 0, 1, 2 and 2 more parameters" in describe(every).sentence


def value_of(m: float, n: float, seed: int) -> float:
    """Nats; above the loss of guessing among three at the smallest sizes."""
    noise = 1 + 0.003 * math.sin(m + 7 * n + 13 * seed)
    return (0.2 + 3 * m**-0.5 + 2.5 * n**-0.4) * noise


def table(lost, **more) -> list[dict]:
    """Rows of the grid; `more` are further columns."""
    rows = []
    for index, (m, n, status) in enumerate(runs(lost)):
        seed = index % SEEDS
        is_good = status == "ok"
        value = value_of(float(m), float(n), seed) if is_good else math.nan
        row = {"params": m, "data": n, "value": value, "seed": seed, "status": status}
        rows.append({**row, "metric": "loss", **more})
    return rows


def write(path, rows) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def measurement(row) -> Measurement:
    row = types.SimpleNamespace(**row)
    text = dict.fromkeys(("family", "data_unit", "device", "program"), "x")
    whole = dict.fromkeys(("width", "depth", "params_total", "steps"), 1)
    real = dict.fromkeys(("epochs", "learning_rate", "flops", "seconds"), 1.0)
    return Measurement(
        cell_id=f"{row.params}-{row.data}-{row.seed}",
        task="x",
        params=row.params,
        data=row.data,
        seed=row.seed,
        metric="loss",
        value=row.value,
        train_value=row.value,
        status=row.status,
        **text,
        **whole,
        **real,
    )


@pytest.fixture(params=["csv", "frame", "measurements"])
def read(request, tmp_path):
    """The three ways from a table to a surface."""

    def from_csv(rows):
        write(tmp_path / "table.csv", rows)
        return Surface.from_csv(tmp_path / "table.csv")

    return {
        "csv": from_csv,
        "frame": lambda rows: Surface.from_frame(
            {name: [row[name] for row in rows] for name in rows[0]}
        ),
        "measurements": lambda rows: Surface.from_measurements(map(measurement, rows)),
    }[request.param]


def test_many_are_one_warning_and_no_note(read):
    surface = read(table(lambda m, n, seed: (m == 6400 or seed == 2) and "diverged"))
    assert not any("left out" in note for note in surface.notes)
    fit = scalepred.fit(surface, "chinchilla", resamples=0)
    (said,) = (w.sentence for w in fit.warnings if w.code == "runs_left_out")
    assert said == (
        "24 of 48 runs are left out (24 diverged), all with 6,400 parameters; points "
        "at 12 sizes are means of the seeds that survived"
    )


def test_few_are_one_note_and_no_warning(read):
    gone = {(400, 20, 1), (1600, 80, 0)}
    surface = read(table(lambda *run: run in gone and "failed"))
    (note,) = (note for note in surface.notes if "left out" in note)
    assert note.startswith("2 of 48 runs are left out (2 failed); points at 2 sizes")
    fit = scalepred.fit(surface, "chinchilla", resamples=0)
    assert "runs_left_out" not in {w.code for w in fit.warnings}


def test_all_well_says_nothing(read):
    surface = read(table(lambda *run: ""))
    assert surface.left_out.sentence == ""
    assert not any("left out" in note for note in surface.notes)


def test_of_another_task_nothing_is_said(tmp_path):
    good = table(lambda *run: "", task="a")
    bad = table(lambda m, n, seed: seed and "diverged", task="b")
    write(tmp_path / "both.csv", good + bad)
    found = Surface.from_csv(tmp_path / "both.csv", task="a").left_out
    assert found.sentence == ""
    found = Surface.from_csv(tmp_path / "both.csv", task="b").left_out
    assert found.sentence.startswith("32 of 48 runs are left out")


@pytest.mark.parametrize(
    ("guess", "said"),
    [
        (None, ""),
        (50.0, ""),
        (math.log(3), r"\d of 16 points lie at the random-guess level 1.099 or above"),
    ],
)
def test_losses_at_or_above_the_guess_are_told(guess, said):
    m, n = (s.reshape(-1) for s in np.meshgrid(PARAMS, DATA))
    value = np.array([value_of(*sizes, 0) for sizes in zip(m, n, strict=True)])
    surface = Surface.from_arrays(m, n, value, metric="loss", random_guess=guess)
    fit = scalepred.fit(surface, "chinchilla", resamples=0)
    found = {w.code: w.sentence for w in fit.warnings}
    if not said:
        assert "plateau_points" not in found
        return
    above = int(np.sum(value > math.log(3)))
    assert 0 < above < len(value)
    assert f"or above it ({above}) and tell little" in found["plateau_points"]


def test_at_the_guess_but_not_above_it():
    m, n = (s.reshape(-1) for s in np.meshgrid(PARAMS, DATA))
    value = np.array([value_of(*sizes, 0) for sizes in zip(m, n, strict=True)])
    surface = Surface.from_arrays(
        m, n, value, metric="loss", random_guess=float(value.max())
    )
    fit = scalepred.fit(surface, "chinchilla", resamples=0)
    (said,) = (w.sentence for w in fit.warnings if w.code == "plateau_points")
    assert said.endswith(
        f"lie at the random-guess level {value.max():.4g} and tell little"
    )

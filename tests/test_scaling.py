"""What does not scale is told so, and what does is left alone."""

import dataclasses
import functools
import importlib.util
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from scalepred.fitting.scaling import judge
from scalepred.table.surface import Surface

_SCRIPTS = pathlib.Path(__file__).parent.parent / "scripts"


@functools.cache
def _bench():
    """scripts/bench_scaling.py, which draws the tables."""
    sys.path.insert(0, str(_SCRIPTS))
    try:
        spec = importlib.util.find_spec("bench_scaling")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(_SCRIPTS))
    return module


def _share_told(make, tables: int) -> float:
    counts = _bench().kinds(make, tables)
    return 1 - counts[""] / tables


def _few(tables: int):
    """The first of as many as a slow test draws."""
    return pytest.param(tables, marks=pytest.mark.short)


@pytest.mark.parametrize(
    "tables", [_few(25), pytest.param(300, marks=pytest.mark.slow)]
)
def test_clean_tables_raise_no_false_alarm(tables):
    shares = [_share_told(make, tables) for make in _bench().CLEAN.values()]
    assert max(shares) <= 0.02 + 1 / tables
    assert np.mean(shares) <= 0.02


@pytest.mark.parametrize("ratio", [1, 10, 50])
@pytest.mark.parametrize(
    "name",
    [
        "chinchilla_epoch", "misfitting_final", "primate_vvs_imagenet_error",
        "protein_mlm_final", "steplaw_dense_best", "supercollapse_mlp",
    ],
)  # fmt: skip
def test_published_losses_raise_no_false_alarm(name, ratio, shared_data):
    whole = Surface.from_csv(shared_data / "measured" / f"{name}.csv")
    work = whole.params * whole.data
    assert judge(whole.where(work <= work.max() / ratio)) is None


@pytest.mark.parametrize(
    "tables", [_few(30), pytest.param(300, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("at chance", 0.9),
        ("rising", 0.7),
        ("U-shaped", 0.35),
        ("with a peak", 0.2),
        ("before a bend", 0.45),
    ],
)
def test_tables_that_do_not_scale_are_told(name, least, tables):
    assert _share_told(_bench().BAD[name], tables) >= least


@functools.cache
def _grid(kind: str) -> Surface:
    """7 x 7 sizes, three seeds, 1 % noise."""
    m, n = (a.ravel() for a in np.meshgrid(*[4.0 ** np.arange(10, 17)] * 2))
    along = (np.log(n) - np.log(n).min()) / np.ptp(np.log(n))
    value = {
        "falls": 1.5 + 400 * m**-0.34 + 400 * n**-0.3,
        "rising": 2 * np.exp(0.3 * along),
        "u_shaped": 2 * np.exp(np.abs(along - 0.5)),
        "peaked": 2 * np.exp(np.exp(-(((along - 0.5) / 0.15) ** 2)) - along),
        "bending": 2 * (1 + np.exp(8 * along - 5)) ** -0.5,
        "no_trend": np.full(len(m), 2.0),
    }[kind]
    noise = np.random.default_rng(0).standard_normal((len(m), 3))
    return Surface.from_arrays(
        np.repeat(m, 3),
        np.repeat(n, 3),
        (value[:, None] * np.exp(0.01 * noise)).ravel(),
        metric="loss",
    )


@pytest.mark.parametrize(
    "kind", ["rising", "u_shaped", "peaked", "bending", "no_trend"]
)
def test_each_kind_is_named_with_its_size(kind):
    found = judge(_grid(kind))
    assert found is not None
    assert found.kind == kind
    assert found.axis == ("" if kind == "no_trend" else "data")
    assert found.sentence.startswith("the loss ")
    code = "still_bending" if kind == "bending" else "does_not_scale"
    assert found.code == code


def test_at_chance_needs_the_level_of_a_guess():
    surface = _grid("no_trend")
    near = judge(dataclasses.replace(surface, random_guess=2.02))
    far = judge(dataclasses.replace(surface, random_guess=3.0))
    assert near is not None
    assert far is not None
    assert (near.kind, far.kind) == ("at_chance", "no_trend")


@pytest.mark.parametrize("kind", ["falls", "u_shaped", "bending"])
def test_units_and_the_order_of_rows_do_not_matter(kind):
    surface = _grid(kind)
    order = np.random.default_rng(1).permutation(len(surface))
    found = judge(surface)
    shuffled = judge(
        Surface.from_arrays(
            surface.params[order],
            surface.data[order],
            surface.value[order],
            metric="loss",
        )
    )
    scaled = judge(
        dataclasses.replace(
            surface,
            params=surface.params * 1e3,
            data=surface.data * 1e-2,
            value=surface.value * 7,
            seed_values=surface.seed_values * 7,
        )
    )
    kinds = [
        None if one is None else (one.kind, one.axis) for one in (shuffled, scaled)
    ]
    assert kinds == [None if found is None else (found.kind, found.axis)] * 2


def test_one_bad_point_is_no_shape():
    surface = _grid("falls")
    value = surface.value.copy()
    value[np.argmax(surface.data)] *= 1.5
    one = Surface.from_arrays(surface.params, surface.data, value, metric="loss")
    assert judge(one) is None


def test_a_peak_where_models_fit_their_data_is_seen_on_single_lines():
    """Double descent moves with the data, so that the mean of all lines hides it."""
    m, n = (
        a.ravel() for a in np.meshgrid(2.0 ** np.arange(7, 17), 2.0 ** np.arange(9, 15))
    )
    peak = 0.6 * np.exp(-(np.log(m / (0.5 * n)) ** 2) / 3)
    found = judge(
        Surface.from_arrays(
            m, n, 0.02 + 2 * m**-0.5 + 3 * n**-0.5 + peak, metric="loss"
        )
    )
    assert found is not None
    assert (found.kind, found.axis) == ("peaked", "params")
    assert "of the other" in found.sentence


@pytest.mark.parametrize("ratio", [50, 1000])
def test_a_slow_start_is_told_below_its_bend(ratio):
    m, n = (
        a.ravel()
        for a in np.meshgrid(1.2e8 * 2.3 ** np.arange(4), 200 * 2.0 ** np.arange(14))
    )
    value = 0.45 + 2.2 * (m / 1e8) ** -0.12 * ((n + 2e4) / 2e4) ** -0.45
    value *= np.exp(0.007 * np.random.default_rng(0).standard_normal(len(m)))
    fitted = m * n <= (m * n).max() / ratio
    found = judge(
        Surface.from_arrays(m[fitted], n[fitted], value[fitted], metric="loss")
    )
    assert found is not None
    assert (found.kind, found.axis) == ("bending", "data")


def test_few_points_are_not_judged():
    surface = _grid("rising")
    assert judge(surface.where(np.arange(len(surface)) < 4)) is None


def test_the_command_says_so_and_ends_well(tmp_path):
    surface = _grid("u_shaped")
    table = tmp_path / "points.csv"
    rows = zip(surface.params, surface.data, surface.value, strict=True)
    lines = [f"{m:g},{n:g},{value:.5f}" for m, n, value in rows]
    table.write_text("\n".join(["params,data,loss", *lines]))
    arguments = [
        sys.executable, "-m", "scalepred.commands.fit", str(table),
        f"--workdir={tmp_path / 'out'}",
        "--law=chinchilla",
        "--resamples=30", "--target=params=1e11,data=1e11", "--json",
    ]  # fmt: skip
    printed = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "No: this does not scale as a law; the loss falls and then" in printed.stderr
    assert "if the law held, which the points do not show" in printed.stderr
    said = json.loads(printed.stdout)
    assert said["scaling"]["status"] == "does_not_scale"
    assert (said["scaling"]["kind"], said["scaling"]["axis"]) == ("u_shaped", "data")
    trust = said["verdict"][0]
    assert trust["verdict"] == "no"
    assert "Do not decide by this" in said["verdict"][2]["badge"]
    assert "does not scale as a law" in (tmp_path / "out" / "report.html").read_text()

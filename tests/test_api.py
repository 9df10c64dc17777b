"""The package from Python: what it names, shows, copies, and runs."""

import asyncio
import copy
import dataclasses
import math
import pathlib
import pickle
import subprocess
import sys
import types
from typing import Any

import jax
import numpy as np
import pytest

import scalepred
from scalepred import config
from scalepred.config import UserError

ROOT = pathlib.Path(__file__).resolve().parents[1]
M, N = (axis.reshape(-1) for axis in np.meshgrid(10.0 ** np.arange(5, 9),
                                                 10.0 ** np.arange(6, 10)))  # fmt: skip
LOSS = 1.7 + 300 * M**-0.4 + 900 * N**-0.45


def _columns(**changes) -> dict:
    noise = np.random.default_rng(0).normal(size=len(M))
    return {"params": M, "data": N, "value": LOSS * np.exp(0.003 * noise), **changes}


@pytest.fixture(scope="module")
def fit() -> scalepred.Fit:
    return scalepred.fit(_columns(), "chinchilla", resamples=100)


def test_dir_names_what_there_is():
    assert dir(scalepred) == sorted([*scalepred.__all__, "__version__"])
    for name in scalepred.__all__:
        assert getattr(scalepred, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'fitt'"):
        scalepred.fitt  # noqa: B018


def test_to_import_it_imports_nothing():
    code = "import scalepred, sys; print(dir(scalepred) and 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_a_fit_shows_itself_on_one_screen(fit):
    text = repr(fit)
    assert text == fit.summary()
    lines = text.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) < 80
    assert "loss = E + A m^-alpha + B n^-beta" in lines
    assert lines[0] == "chinchilla law through 16 points (16 runs), loss"
    for name, one in fit.parameters.items():
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert f"{one.value:.4g}" in line
    assert "cross-validation" in text
    assert "back-test" in text


def test_a_notebook_shows_a_table(fit):
    shown = fit._repr_html_()
    assert shown.count("<tr>") == 1 + len(fit.parameters)
    odd = dataclasses.replace(fit.surface, task="<script>")
    again = scalepred.fit(odd, "chinchilla", resamples=0)
    assert "<script>" not in again._repr_html_()


def test_a_fit_draws_itself(fit, tmp_path):
    figure = fit.plot()
    (axes,) = figure.axes
    assert len(axes.get_legend().get_texts()) == 4  # sizes of models
    figure.savefig(tmp_path / "fit.png")
    assert (tmp_path / "fit.png").stat().st_size > 10_000


def test_the_figures_of_a_report(fit, tmp_path):
    figures = scalepred.draw(fit)
    assert [*figures] == ["predicted", "surface", "curves"]
    legends = [axes.get_legend() for axes in figures["curves"].axes]
    # Sizes of models on the left, of data on the right.
    assert [len(legend.get_texts()) for legend in legends if legend] == [4, 4]
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    shown = figures._repr_html_()
    assert shown.count('src="data:image/png;base64,') == 3


def test_a_plot_tells_what_was_held_out(fit):
    every = _columns()
    every["params"] = np.append(every["params"], 1e9)
    every["data"] = np.append(every["data"], 1e11)
    every["value"] = np.append(every["value"], 1.75)
    figures = scalepred.draw(
        fit, scalepred.Surface.from_frame(every, metric="loss"), with_corners=True
    )
    assert [*figures] == ["predicted", "surface", "curves", "corners"]
    legend = figures["predicted"].axes[0].get_legend()
    assert legend
    said = [text.get_text() for text in legend.get_texts()]
    assert said == ["fitted (16)", "held out (1)"]


def test_a_law_of_one_axis_draws_itself():
    n = 10.0 ** np.arange(3, 9)
    surface = scalepred.Surface.from_arrays(
        np.full(6, 1e6), n, 1.5 + 30 * n**-0.4, metric="loss"
    )
    figure = scalepred.fit(surface, "power", resamples=0).plot()
    legend = figure.axes[0].get_legend()
    assert legend
    assert len(legend.get_texts()) == 1


@pytest.mark.parametrize("law", ["chinchilla", "auto"])
@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_and_pickles_say_the_same(law, again):
    fit = scalepred.fit(_columns(), law, resamples=50)
    other = again(fit)
    for one, two in zip(fit.predict(1e9, 2e10), other.predict(1e9, 2e10), strict=True):
        np.testing.assert_array_equal(one, two)
    assert other.parameters == fit.parameters
    answer = again(fit.data_needed(1.9, 1e9))
    assert answer == fit.data_needed(1.9, 1e9)
    prediction = again(fit.predict(1e9, 2e10))
    assert prediction == fit.predict(1e9, 2e10)
    surface = again(fit.surface)
    np.testing.assert_array_equal(surface.value, fit.surface.value)


def test_columns_in_memory_are_read_as_those_of_a_file(tmp_path):
    columns = _columns(
        seed=np.zeros(len(M), int), status=["ok"] * (len(M) - 1) + ["bad"]
    )
    lines = [",".join(columns)] + [
        ",".join(map(str, cells)) for cells in zip(*columns.values(), strict=True)
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    one = scalepred.Surface.from_frame(columns, metric="loss")
    two = scalepred.Surface.from_csv(tmp_path / "t.csv", metric="loss")
    assert one.notes == two.notes
    assert len(one) == len(M) - 1
    for name in ("params", "data", "value", "weight"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


class _Missing:
    """Like pandas.NA: to compare it says nothing."""

    def __str__(self) -> str:
        return "<NA>"

    def __bool__(self) -> bool:
        raise TypeError("neither true nor false")

    def __ne__(self, other: object) -> "_Missing":  # pyright: ignore
        return self


class _Twice(dict):
    """Like a DataFrame with two columns of one name."""

    columns = ("params", "data", "value", "value")

    def __missing__(self, name: str) -> list[float]:
        return [1.0]


def test_missing_cells_are_empty():
    flops = [1e9, math.nan, None, _Missing(), *[1e9] * (len(M) - 4)]
    surface = scalepred.Surface.from_frame(_columns(flops=flops))
    assert np.sum(np.isnan(surface.compute)) == 3
    surface = scalepred.Surface.from_frame(_columns(value=[_Missing(), *LOSS[1:]]))
    assert int(surface.num_seeds.sum()) == len(LOSS) - 1
    assert "1 without a value" in surface.left_out.sentence


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        ({"params": [1.0], "data": [1.0]}, "the table: no column value"),
        ({"params": [1, 2], "data": [1, 2], "value": [0.5]}, "columns of .1, 2. rows"),
        ({"params": [], "data": [], "value": []}, "the table: no rows"),
        (
            {"params": [1], "data": [1], "value": [None]},
            "no row has status ok, .*without a value",
        ),
        (_Twice(), "column 'value' stands twice"),
        (3, "a int is no table"),
        ("t.csv", "a str is no table"),
    ],
)
def test_what_is_no_table_is_told(frame, sentence):
    with pytest.raises(UserError, match=sentence):
        scalepred.fit(frame)


def test_a_frame_of_pandas():
    pandas = pytest.importorskip("pandas")
    fit = scalepred.fit(pandas.DataFrame(_columns()), "chinchilla", resamples=50)
    frame = fit.to_frame()
    assert len(frame) == len(M)
    assert ((frame.value > frame.lower) & (frame.value < frame.upper)).mean() > 0.7


def test_points_go_into_a_frame(fit, monkeypatch):
    """With pandas or without it: what it is given is looked at."""
    stand_in = types.ModuleType("pandas")
    stand_in.DataFrame = dict  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    frame = fit.to_frame()
    assert [*frame] == [
        "params",
        "data",
        "value",
        "weight",
        "predicted",
        "lower",
        "upper",
    ]
    np.testing.assert_array_equal(frame["value"], fit.surface.value)
    assert np.all(frame["lower"] < frame["predicted"])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pandas is not installed"):
        fit.to_frame()


def _experiment() -> config.Experiment:
    return config.Experiment(
        name="small",
        grid=config.Grid(widths=(4, 8, 16), data_fractions=(1 / 16, 1 / 4, 1.0)),
        training=config.Training(learning_rate=0.05, steps=40),
        fit=config.Fitting(
            law="chinchilla",
            residual="huber:1e-2",
            above=0.5,
            max_data_ratio=4.0,
            resamples=50,
        ),
    )


def test_a_study_from_python(tmp_path):
    outcome = scalepred.run(_experiment(), tmp_path / "work")
    assert isinstance(outcome, scalepred.Outcome)
    assert outcome.results
    assert outcome.fit is outcome.results.fit
    assert len(outcome.results.fit.surface) == 6
    assert outcome.results.fit.residual == scalepred.Residual("huber", 0.01, 0.5)
    assert outcome.forecast
    assert len(outcome.verified) == 3
    assert len(outcome.table) == 9
    assert {row.status for row in outcome.table} == {"ok"}
    assert (tmp_path / "work" / "report.html").exists()
    assert outcome.forecast.digest in repr(outcome)
    for again in (copy.deepcopy(outcome), pickle.loads(pickle.dumps(outcome))):
        assert again.forecast == outcome.forecast
        assert str(again.table) == str(outcome.table)  # which holds NaN
        assert str(again.verified) == str(outcome.verified)
        said = again.fit.predict(1e4, 1e4)  # pyright: ignore[reportOptionalMemberAccess]
        assert said == outcome.results.fit.predict(1e4, 1e4)
    gated = scalepred.run(
        _experiment(), tmp_path / "work",
        gates=["value<=0.9,params=5000,data=1280,probability=0.5"],
    )  # fmt: skip
    assert [verdict.passed for verdict in gated.verdicts] == [True]


def test_a_study_in_a_notebook(tmp_path):
    """JAX has started, and a loop of events runs in the same thread."""

    async def cell() -> Any:
        return scalepred.run(_experiment(), tmp_path / "work", stages=["train", "fit"])

    assert jax.devices()
    outcome = asyncio.run(cell())
    assert outcome.fit
    assert len(outcome.table) == 6


def test_a_study_by_its_file(tmp_path):
    (tmp_path / "own.py").write_text(
        "from scalepred import config\n"
        "def get_config(form='a'):\n"
        "    return config.Experiment(name=form, training=config.Training(steps=5),\n"
        "                             grid=config.Grid(widths=(4,)))\n"
    )
    path = tmp_path / "own.py"
    scalepred.run(path, tmp_path / "a", stages=["train"])
    scalepred.run(f"{path}:b", tmp_path / "b", stages=["train"])
    assert '"name": "b"' in (tmp_path / "b" / "config.json").read_text()


@pytest.mark.parametrize(
    ("experiment", "changes", "sentence"),
    [
        ("nowhere.py", {}, "experiment=nowhere.py: there is no such file"),
        (None, {"stages": ["fly"]}, "must be one or more of train"),
        (None, {"stages": []}, "must be one or more of train"),
        (None, {"budget": 1e9}, "give both or neither"),
        (None, {"gates": ["x"]}, "gate"),
    ],
)
def test_mistakes_are_raised_before_anything_is_trained(
    tmp_path, experiment, changes, sentence
):
    with pytest.raises(UserError, match=sentence):
        scalepred.run(experiment or _experiment(), tmp_path / "work", **changes)
    assert not (tmp_path / "work").exists()

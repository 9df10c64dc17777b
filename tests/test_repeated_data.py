"""Laws of repeated data: from tables with epochs to answers, files and warnings."""

import csv
import dataclasses
import functools
import json
import math
import typing

import numpy as np
import pytest
import scipy.optimize

import scalepred
from scalepred.commands import fit
from scalepred.config import UserError
from scalepred.fitting import health, laws, multistart, solver
from scalepred.fitting.least_squares import LeastSquares
from scalepred.fitting.region import fit_region
from scalepred.report import machine, results
from scalepred.table.surface import Surface
from tests.formulas import FORMULAS
from tests.test_commands import assert_refused, run_fit

# Muennighoff et al. 2023, Eq. 16 to 20.
TRUTH = {
    "E": 1.87, "A": 521.0, "B": 1488.0, "model_exponent": 0.3527,
    "data_exponent": 0.3527, "R_D*": 15.39, "R_N*": 5.31,
}  # fmt: skip
FORMULA = FORMULAS["data_constrained"]


def simulate(noise=0.005, seed=0, epochs=(1, 2, 4, 16, 64)) -> Surface:
    """100 runs of models of 10 M to 2.6 B parameters, half of them in excess."""
    sizes = 1e7 * 4.0 ** np.arange(5), 1e8 * 4.0 ** np.arange(4), np.array(epochs)
    m, n, epochs = (np.ravel(s) for s in np.meshgrid(*sizes))
    value = FORMULA(TRUTH, m, n, epochs)
    value = value * np.exp(noise * np.random.default_rng(seed).standard_normal(len(m)))
    return Surface.from_arrays(m, n, value, metric="loss", epochs=epochs)


@functools.cache
def fitted() -> scalepred.Fit:
    return scalepred.fit(simulate(), "data_constrained", resamples=200)


def test_simulated_repeats_are_found_with_their_intervals():
    found = fitted().parameters
    for name, truth in TRUTH.items():
        # 200 draws of 90 % intervals, seven of them: some room on both sides.
        room = 0.5 * (found[name].upper - found[name].lower)
        assert found[name].lower - room < truth < found[name].upper + room, name
        assert found[name].value == pytest.approx(truth, rel=0.15), name
    assert fitted().law is laws.data_constrained
    assert not fitted().warnings
    assert fitted().inner_tests
    epochs = np.array([1.0, 4.0, 40.0])
    far = fitted().predict(1e10, 1e10, epochs=epochs)
    truth = FORMULA(TRUTH, 1e10, 1e10, epochs)
    np.testing.assert_allclose(far.value, truth, rtol=0.01)
    assert np.all((far.lower < truth) & (truth < far.upper))


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scipy(seed):
    """A fit is at or below the best of six of scipy's."""
    surface = simulate(noise=10.0 ** -(1 + seed / 2), seed=seed)
    found = scalepred.fit(surface, "data_constrained", resamples=0)
    points, law = multistart.make_points(surface), laws.data_constrained
    units = points.params_unit, points.data_unit

    def residuals(theta):
        with np.errstate(over="ignore"):
            numbers = law.public(theta, found.fitted.scale, *units)
            sizes = surface.params, surface.data, surface.epochs
            return FORMULA(numbers, *sizes) / surface.value - 1

    uniform = np.random.default_rng(seed).uniform(size=(6, law.num_parameters))
    best = min(
        2 * scipy.optimize.least_squares(
            residuals, start, bounds=(law.lower, law.upper),
            xtol=1e-14, ftol=1e-14, gtol=1e-14, max_nfev=500,
        ).cost
        for start in law.start(uniform, found.fitted.scale)
    )  # fmt: skip
    assert found.objective <= best * (1 + 1e-6)
    own = np.sum(residuals(found.fitted.theta) ** 2)
    assert own == pytest.approx(found.objective, rel=1e-8)


def test_a_point_twice_at_half_weight_is_the_point():
    surface = simulate()
    heavy = np.where(np.arange(len(surface)) == 7, 2.0, 1.0)
    points = multistart.make_points(dataclasses.replace(surface, weight=heavy))
    assert points.z is not None
    twice = np.append(np.arange(len(surface)), 7)
    doubled = dataclasses.replace(
        points, x=points.x[twice], y=points.y[twice], z=points.z[twice],
        log_value=points.log_value[twice],
        weight=np.full(len(twice), 1 / heavy.mean()),
    )  # fmt: skip
    one, two = (
        multistart.fit_subsets(law, some, np.ones((1, len(some.x)), bool))
        for law, some in [(laws.data_constrained, p) for p in (points, doubled)]
    )
    np.testing.assert_allclose(one.theta, two.theta, atol=1e-5)


def codes(fit: scalepred.Fit) -> dict[str, str]:
    """Warnings about epochs; the others would refit."""
    found = health.about_epochs(typing.cast(LeastSquares, fit.estimate))
    return {warning.code: warning.sentence for warning in found}


def test_without_repeats_it_is_chinchilla_and_says_so():
    surface = simulate(epochs=(1,))
    fit = scalepred.fit(surface, "data_constrained", resamples=0)
    plain = dataclasses.replace(surface, epochs=None)
    expected = scalepred.fit(plain, "chinchilla", resamples=0)
    assert fit.law is laws.chinchilla
    assert fit.fitted.theta.tobytes() == expected.fitted.theta.tobytes()
    assert any("law=chinchilla is fitted in place of" in note for note in fit.notes)
    assert "every point was trained for 1 epoch:" in codes(fit)["same_epochs"]
    assert "same_epochs" not in codes(expected)
    with pytest.raises(UserError, match="law=chinchilla knows nothing of epochs"):
        fit.predict(1e9, 1e9, epochs=2)
    assert fit.predict(1e9, 1e9, epochs=1).value == fit.predict(1e9, 1e9).value


def test_the_same_epochs_everywhere_are_one_number_and_are_paid_for():
    """Whole steps make epochs differ a little."""
    surface = simulate(epochs=(4,))
    uneven = 4 * np.linspace(1.0, 1.05, len(surface))
    fit = scalepred.fit(
        dataclasses.replace(surface, epochs=uneven), "data_constrained", resamples=0
    )
    assert fit.law is laws.chinchilla
    exact = scalepred.fit(surface, "data_constrained", resamples=0)
    found = exact.best_for_budget(1e20)
    m, n = (found.details[name][0] for name in ("params", "data"))
    assert 6 * m * n * 4 == pytest.approx(1e20, rel=1e-9)


def test_answers_are_for_the_epochs_asked_for():
    fit = fitted()
    once, often = (fit.data_needed(2.6, 1e9, epochs) for epochs in (None, 8))
    assert once.asked["epochs"] == 1
    assert "data seen once" in once.why
    assert "data seen 8 times" in often.why
    assert often.lower <= often.value <= often.upper
    assert 4 < once.value / often.value < 8  # a repeat is worth less than new data
    for answer, epochs in ((once, 1), (often, 8)):
        reached = fit.predict(1e9, answer.value, epochs=epochs).value
        assert reached == pytest.approx(2.6, rel=1e-9)
    model = fit.params_needed(2.6, 1e10, epochs=8)
    reached = fit.predict(model.value, 1e10, epochs=8).value
    assert reached == pytest.approx(2.6, rel=1e-9)
    never = fit.data_needed(1.0, 1e9, epochs=8)
    assert not never.reachable
    assert "data seen 8 times" in never.why


@pytest.mark.parametrize("epochs", [None, 4.0, 50.0])
def test_the_budget_beats_every_other_split_at_its_epochs(epochs):
    fit = fitted()
    found = fit.best_for_budget(1e20, epochs=epochs)
    seen = epochs or 1.0
    m = found.details["params"][0] * np.geomspace(0.1, 10, 201)
    values = fit.predict(m, 1e20 / (6 * m * seen), epochs=seen).value
    assert found.value == pytest.approx(values.min(), rel=1e-4)
    assert found.value <= values.min() * (1 + 1e-12)
    back = fit.cheapest_for_target(found.value, epochs=epochs)
    assert back.value == pytest.approx(1e20, rel=1e-6)
    assert ("seen once" if seen == 1 else f"seen {seen:g} times") in back.why


def test_next_cells_know_epochs():
    cells = fitted().next_cells(1e21, (1e10, 1e10), epochs=4)
    assert cells
    assert cells[0].cost == pytest.approx(24 * cells[0].params * cells[0].data)


@pytest.mark.parametrize("epochs", [0.5, 0, -1, math.nan, math.inf, [1, 0.9]])
def test_bad_epochs_are_refused(epochs):
    with pytest.raises(UserError, match="must be numbers of at least 1"):
        fitted().predict(1e9, 1e9, epochs=epochs)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, 0.5])
def test_bad_epochs_never_reach_a_law(bad):
    with pytest.raises(UserError, match=f"epochs, row 2: {bad:g} must be a "):
        Surface.from_arrays(
            [1, 2, 3], [1, 2, 3], [3, 2, 1], metric="loss", epochs=[1, bad, 2]
        )


def test_a_law_and_a_surface_must_both_know_epochs():
    surface = simulate()
    for law in ("chinchilla", "rosenfeld"):
        with pytest.raises(UserError, match="knows nothing of epochs, which vary"):
            scalepred.fit(surface, law, resamples=0)
    plain = dataclasses.replace(surface, epochs=None)
    with pytest.raises(UserError, match="needs the epochs of every point"):
        scalepred.fit(plain, "data_constrained", resamples=0)


def test_a_law_of_ones_own_may_know_epochs():
    law = scalepred.law_from_function(
        "saturating",
        lambda p, m, n, epochs: (
            p["floor"] + p["a"] * m**-0.3 + p["b"] * (n * epochs ** p["worth"]) ** -0.3
        ),
        [
            scalepred.Parameter("floor", 0.1, 10.0),
            scalepred.Parameter("a", 1e-3, 1e2),
            scalepred.Parameter("b", 1e-3, 1e2),
            scalepred.Parameter("worth", 1e-2, 1.0),
        ],
        axes=("params", "data", "epochs"),
    )
    surface = simulate()
    m, n = surface.params / surface.params.max(), surface.data / surface.data.max()
    assert surface.epochs is not None
    value = 1.7 + 0.3 * m**-0.3 + 0.4 * (n * surface.epochs**0.6) ** -0.3
    surface = dataclasses.replace(surface, value=value)
    fit = scalepred.fit(surface, law, resamples=0)
    assert fit.parameters["worth"].value == pytest.approx(0.6, rel=1e-6)
    same = surface.where(surface.epochs == 2)
    with pytest.raises(UserError, match="every point to fit has epochs=2"):
        scalepred.fit(same, law, resamples=0)


def test_what_repeats_cannot_say_is_said():
    surface = simulate()
    assert surface.epochs is not None

    def say(changed: Surface) -> dict[str, str]:
        estimate = dataclasses.replace(fitted().estimate, surface=changed)
        return codes(dataclasses.replace(fitted(), estimate=estimate))

    assert not say(surface)
    few = say(surface.where((surface.epochs == 1) | (surface.epochs == 4)))
    assert "only 2 numbers of epochs" in few["few_epochs"]
    rising = surface.value.copy()
    worst = (surface.params > 2e9) & (surface.data < 2e8) & (surface.epochs > 30)
    rising[worst] *= 2
    found = say(dataclasses.replace(surface, value=rising))["over_fitting"]
    assert "rises with more epochs at 1 of the sizes" in found
    assert "2.56B parameters and 100M examples, where" in found
    found = say(surface.where(surface.seen == 6.4e9))  # a fixed number of steps
    assert "as where all runs take as many steps" in found["confounded_epochs"]


def write(path, columns: dict) -> None:
    lines = zip(*(np.asarray(c).tolist() for c in columns.values()), strict=True)
    rows = "\n".join(",".join(str(cell) for cell in line) for line in lines)
    path.write_text(",".join(columns) + "\n" + rows + "\n")


def columns_of(surface: Surface) -> dict:
    return {
        "params": surface.params, "data": surface.data, "value": surface.value,
        "epochs": surface.epochs,
    }  # fmt: skip


def test_a_table_says_what_its_data_count(tmp_path):
    path, surface = tmp_path / "points.csv", simulate()
    columns = columns_of(surface)
    write(path, columns)

    def read(**options) -> Surface:
        return Surface.from_csv(path, metric="loss", **options)

    def assert_same(found: Surface, unit: str, note: str):
        assert found.epochs is not None
        assert surface.epochs is not None
        np.testing.assert_allclose(found.data, surface.data, rtol=1e-12)
        np.testing.assert_allclose(found.epochs, surface.epochs, rtol=1e-12)
        np.testing.assert_array_equal(found.value, surface.value)
        assert found.data_unit == unit
        assert note in found.notes[-1]

    assert read().epochs is None
    assert_same(read(data_counts="auto"), "examples", "taken for unique data")
    assert_same(read(data_counts="unique"), "examples", "given as unique data")
    write(path, {**columns, "data": surface.seen})
    assert_same(read(data_counts="seen"), "unique data", "data / epochs")
    write(path, {**columns, "data": surface.seen, "unique_tokens": surface.data})
    auto = read(data_counts="auto")
    assert_same(auto, "unique tokens", "repeats included; epochs = data / unique_tok")
    # Without asking for epochs the table is read as ever: data as they stand.
    np.testing.assert_array_equal(
        np.unique(read().where(read().params > 2e9).data),
        np.unique(surface.seen[surface.params > 2e9]),
    )


BAD_TABLES = {
    "no epochs": ({"epochs": None}, "auto", "no column epochs or unique_data; a law"),
    "no epochs, unique": ({"epochs": None}, "unique", "no column epochs; a law"),
    "half an epoch": ({"epochs": 0.5}, "auto", "epochs, row 1: 0.5 must be a number"),
    "zero": ({"epochs": 0.0}, "auto", "line 2, column epochs: '0.0' must be a pos"),
    "negative": ({"epochs": -2.0}, "auto", "column epochs: '-2.0' must be a positive"),
    "nan": ({"epochs": math.nan}, "auto", "column epochs: 'nan' must be a positive"),
    "two ways": ({"unique_data": 7.0}, "auto", "line 2: data / unique_data is "),
    "neither": ({}, "both", "data_counts='both': must be one of auto, unique, seen"),
}


@pytest.mark.parametrize(
    ("changes", "counts", "part"), BAD_TABLES.values(), ids=BAD_TABLES
)
def test_bad_tables_get_one_sentence(tmp_path, capsys, changes, counts, part):
    columns = columns_of(simulate())
    for name, value in changes.items():
        column = columns.pop(name, columns["data"]).copy()
        if value is not None:
            column[0] = value
            columns[name] = column
    write(tmp_path / "points.csv", columns)
    result = run_fit(
        capsys,
        f"--measurements={tmp_path / 'points.csv'}",
        f"--workdir={tmp_path / 'work'}",
        "--law=data_constrained",
        f"--data_counts={counts}",
    )
    assert_refused(result, part)
    assert not (tmp_path / "work").exists()


def test_the_command_takes_epochs_from_table_to_report(tmp_path, capsys):
    write(tmp_path / "points.csv", columns_of(simulate()))
    workdir = tmp_path / "work"
    arguments = [
        f"--measurements={tmp_path / 'points.csv'}", f"--workdir={workdir}",
        "--metric=loss", "--resamples=50",
    ]  # fmt: skip
    status, said, _ = run_fit(
        capsys, *arguments, "--law=data_constrained", "--fit_max_compute_ratio=16",
        "--target=params=1e10,data=1e10,epochs=4", "--target=params=1e10,data=1e10",
        "--target_value=2.6", "--budget=1e21", "--at_epochs=8", "--verbose",
    )  # fmt: skip
    assert status == 0
    assert "  table    data are taken for unique data" in said
    assert "a question that names no epochs is answered for data seen once" in said
    assert "data seen 4 times should reach a loss" in said
    assert "data seen once should reach a loss" in said
    assert "data seen 8 times" in said
    rows = list(csv.DictReader((workdir / "predictions.csv").read_text().splitlines()))
    often, once = rows[-2:]
    assert (often["epochs"], once["epochs"]) == ("4.0", "1.0")
    assert float(often["compute"]) == pytest.approx(6 * 1e20 * 4)
    assert float(often["predicted"]) < float(once["predicted"])
    held_out = [float(r["relative_error"]) for r in rows if r["region"] == "held_out"]
    assert np.mean(np.abs(held_out)) < 0.01
    record = json.loads((workdir / "fit.json").read_text())
    assert record["law"] == "data_constrained"
    assert record["parameters"]["R_D*"]["value"] == pytest.approx(15.4, rel=0.2)
    asked = json.loads((workdir / "answers.json").read_text())["answers"]
    assert {answer["asked"]["epochs"] for answer in asked} == {8.0}
    page = (workdir / "report.html").read_text()
    assert "Repeated data" in page
    assert (workdir / "figures" / "epochs.svg").is_file()
    fit.FLAGS.unparse_flags()
    # The target must be larger than what was fitted, in its epochs too.
    inside = "--target=params=1e7,data=1e8,epochs=2"
    refused = run_fit(capsys, *arguments, "--law=data_constrained", inside)
    assert_refused(refused, "lies inside the fit region")
    refused = run_fit(capsys, *arguments, "--data_counts=seen", "--law=chinchilla")
    assert_refused(refused, "--data_counts=seen: of no use with --law=chinchilla")
    refused = run_fit(capsys, *arguments, "--at_epochs=4", "--law=data_constrained")
    assert_refused(refused, "--at_epochs: of no use without")


def test_where_epochs_are_not_asked_for_no_file_mentions_them(tmp_path):
    surface = dataclasses.replace(simulate(epochs=(1,)), epochs=None)
    in_fit = fit_region(surface, max_compute=surface.work.max() / 16)
    fit = scalepred.fit(surface.where(in_fit), "chinchilla", resamples=0)
    found = results.make_results("t", surface, in_fit, fit, [fit.data_needed(3, 1e9)])
    results.write_results(results.epath.Path(tmp_path), found)
    machine.write_answers(results.epath.Path(tmp_path) / "answers.json", found)
    assert "epochs" not in (tmp_path / "predictions.csv").read_text()
    assert "epochs" not in (tmp_path / "answers.json").read_text()


def test_published_repeats(shared_data):
    """308 runs of Muennighoff et al. 2023, over-fitted ones too, read as they are.

    They publish R_D* = 15.4, R_N* = 5.3, fitted in a second step to 182 runs, with the
    exponents of the first. R_N* is not determined when all parameters are free.
    """
    path = shared_data / "measured" / "datablations_repeat.csv"
    surface = Surface.from_csv(path, data_counts="auto")
    assert surface.epochs is not None
    # To chinchilla a repeat is new data.
    seen = surface.params, surface.seen, surface.value
    plain = Surface.from_arrays(*seen, metric="loss")
    fit = scalepred.fit(surface, "data_constrained", resamples=0)
    assert 5 < fit.parameters["R_D*"].value < 50
    assert "over_fitting" in codes(fit)

    def errors(in_fit: np.ndarray, in_plain: np.ndarray) -> tuple[float, float]:
        """Mean absolute error of held-out repeats: of this law, of chinchilla."""
        assert surface.epochs is not None
        new = scalepred.fit(surface.where(in_fit), "data_constrained", resamples=0)
        old = scalepred.fit(plain.where(in_plain), "chinchilla", resamples=0)
        out = surface.where(~in_fit & (surface.epochs > 1.5))
        said = (
            new.predict(out.params, out.data, epochs=out.epochs).value,
            old.predict(out.params, out.seen).value,
        )
        first, second = (float(np.mean(np.abs(v / out.value - 1))) for v in said)
        return first, second

    for ratio in (10, 50):
        limit = surface.work.max() / ratio
        regions = (fit_region(s, max_compute=limit) for s in (surface, plain))
        constrained, chinchilla = errors(*regions)
        assert constrained < 0.6 * chinchilla
        assert constrained < 0.15


def test_huber_leaves_published_over_fitting_alone(shared_data):
    """The published constants are those of a Huber fit too."""
    path = shared_data / "measured" / "datablations_repeat.csv"
    surface = Surface.from_csv(path, data_counts="auto")
    residual = solver.Residual("huber", 1e-3)
    fit = scalepred.fit(surface, "data_constrained", residual=residual, resamples=0)
    assert 10 < fit.parameters["R_D*"].value < 100

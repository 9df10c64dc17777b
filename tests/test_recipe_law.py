"""Laws of the best rate: known answers, invariances, censored runs, edges, errors."""

import json
import math

import numpy as np
import pytest
from test_measurements import make_row

import scalepred
from scalepred.commands import recipe as command_of_recipe
from scalepred.config import UserError
from scalepred.fitting.recipe import Sweep, fit_sweep, read_sweeps
from scalepred.fitting.recipe.backtest import hide_largest
from scalepred.fitting.recipe.bowl import bowl
from scalepred.fitting.recipe.narrowing import narrow
from scalepred.fitting.recipe.sampler import draw
from scalepred.recipe import find_factor
from scalepred.report import recipe_figure, recipe_words
from scalepred.runtime import command
from scripts import bench_recipe

PARAMS, DATA = (
    size.ravel()
    for size in np.meshgrid(np.geomspace(1e4, 1e6, 3), np.geomspace(1e5, 1e7, 3))
)
RATES = np.geomspace(1e-3, 0.3, 6)
EXPONENTS = (-0.4, 0.2)


def best_rate(params, data, exponents=EXPONENTS):
    """The known truth."""
    return 0.02 * (params / 1e5) ** exponents[0] * (data / 1e6) ** exponents[1]


def make_runs(
    rates=RATES, params=PARAMS, data=DATA, noise=2e-3, seeds=1, diverges=math.inf,
    exponents=EXPONENTS,
):  # fmt: skip
    """Sizes, rates, values and seeds of every run, in flat arrays."""
    rng = np.random.default_rng(0)
    x = np.log(rates / best_rate(params, data, exponents)[:, None])
    log_value = np.log(1.5 + 300 * params**-0.35 + 300 * data**-0.3)[:, None]
    log_value = log_value + np.where(x < 0, 0.02, 0.06) * x**2
    value = np.exp(
        log_value[..., None] + noise * rng.standard_normal((*log_value.shape, seeds))
    )
    value[x > diverges] = np.nan
    shape = value.shape
    columns = params[:, None, None], data[:, None, None], rates[None, :, None]
    spread = [np.broadcast_to(column, shape).ravel() for column in columns]
    return *spread, value.ravel(), np.broadcast_to(np.arange(seeds), shape).ravel()


def make_sweep(**changes) -> Sweep:
    params, data, rates, value, seed = make_runs(**changes)
    return Sweep.from_arrays({"params": params, "data": data}, rates, value, seed=seed)


@pytest.fixture(scope="module")
def law():
    return fit_sweep(make_sweep())


def test_known_exponents_and_best_rate(law):
    for one, true in zip(law.exponents.values(), EXPONENTS, strict=True):
        assert one.lower < true < one.upper
        assert one.upper - one.lower < 0.15
    best = law.best(1e7, 1e8)
    true = best_rate(1e7, 1e8)
    assert best.lower < true < best.upper < 3 * best.lower
    assert best.setting == pytest.approx(true, rel=0.3)
    assert 0 <= best.regret.lower <= best.regret.value <= best.regret.upper < 0.02
    assert best.regret.diverges == 0


def test_the_rule_for_the_next_grid_says_the_same(law):
    base, rule = law.rule()
    for params, data in ((1e4, 1e7), (1e6, 1e5)):
        factor = find_factor("rule", rule, {"params": params, "data": data})
        assert base * factor == pytest.approx(law.best(params, data).middle, rel=0.03)
    assert f'training.learning_rate_rule="{rule}"' in repr(law)


def test_keeping_the_rate_of_the_largest_size_is_told(law):
    kept = law.regret(law.largest_setting, 1e9, 1e7)
    x = math.log(law.largest_setting / best_rate(1e9, 1e7))
    assert kept.lower < math.expm1(0.06 * x**2) < kept.upper
    assert kept.value > 5 * law.best(1e9, 1e7).regret.upper
    said = " ".join(recipe_words.describe_best(law, law.best(1e9, 1e7)))
    assert "to keep it costs" in said


def test_order_of_runs_and_units_change_nothing(law):
    sweep = make_sweep()
    order = np.random.default_rng(1).permutation(len(sweep.value))
    sizes = {name: size[order] for name, size in sweep.sizes.items()}
    again = Sweep.from_arrays(
        sizes, sweep.setting[order], sweep.value[order], seed=sweep.seed[order]
    )
    assert fit_sweep(again).best(1e7, 1e8) == law.best(1e7, 1e8)
    # Rates in thousandths, parameters in millions, values in other units.
    sizes = {"params": sweep.sizes["params"] / 1e6, "data": sweep.sizes["data"]}
    other = fit_sweep(Sweep.from_arrays(sizes, 1e3 * sweep.setting, 7 * sweep.value))
    best, same = law.best(1e7, 1e8), other.best(10.0, 1e8)
    assert same.middle == pytest.approx(1e3 * best.middle, rel=0.03)
    assert same.lower == pytest.approx(1e3 * best.lower, rel=0.1)
    assert same.upper == pytest.approx(1e3 * best.upper, rel=0.1)


def test_of_runs_that_diverged_it_is_known_that_the_best_lies_below():
    """The sweep ends at the best rate: only what diverged says that it does."""
    rates = np.geomspace(1e-3, 0.3, 7)
    law = fit_sweep(make_sweep(rates=rates, diverges=1.2))
    assert law.points.diverged.sum() > 5
    true = best_rate(1e7, 1e8)
    assert 0.7 < law.best(1e7, 1e8).middle / true < 1.4
    assert 1.5 < law.safe_factor < 2 * math.exp(1.2)
    assert law.regret(30 * true, 1e7, 1e8).diverges > 0.9
    assert law.regret(true / 3, 1e7, 1e8).diverges < 0.05
    assert "diverges with probability" in " ".join(
        recipe_words.describe_best(law, law.best(1e10, 1e5))
    )


def test_a_seeds_own_part_is_no_noise_of_the_bowl():
    params, data, rates, value, seed = make_runs(noise=1e-3, seeds=3)
    shared = np.exp(0.2 * np.array([-1.0, 0.3, 0.7]))[seed]
    sizes = {"params": params, "data": data}
    plain = fit_sweep(Sweep.from_arrays(sizes, rates, value, seed=seed))
    shifted = fit_sweep(Sweep.from_arrays(sizes, rates, value * shared, seed=seed))
    for at in ("lower", "upper"):
        one, other = (
            getattr(plain.best(1e7, 1e8), at),
            getattr(shifted.best(1e7, 1e8), at),
        )
        assert one == pytest.approx(other, rel=0.1)


def test_a_size_that_does_not_vary_has_an_open_exponent():
    own = np.isclose(PARAMS, PARAMS[0])
    law = fit_sweep(make_sweep(params=PARAMS[own], data=DATA[own]))
    assert law.seen == ["data"]
    near, far = law.best(PARAMS[0], 1e7), law.best(1e4 * PARAMS[0], 1e7)
    assert near.upper / near.lower < 3
    assert far.upper / far.lower > 100
    assert "Nothing is known of m" in repr(law)


def test_best_rates_at_the_edge_are_told_and_still_say_something():
    law = fit_sweep(make_sweep(rates=np.geomspace(1e-4, 8e-3, 6)))
    assert len(law.edges) >= 4
    assert {edge.side for edge in law.edges} == {"above"}
    assert "widen the sweep above" in repr(law)
    best = law.best(1e4, 1e7)
    assert best.upper > 2 * 8e-3
    assert fit_sweep(make_sweep()).edges == []


def test_a_law_of_the_smaller_sizes_is_held_against_the_larger():
    hidden = hide_largest(make_sweep(), 30)
    assert len(hidden) == 3
    for one in hidden:
        true = best_rate(**one.best.sizes)
        assert one.best.lower < true < one.best.upper
        assert abs(math.log(one.tried / true)) <= one.step
        assert 0 <= one.law < 0.03
    with pytest.raises(UserError, match="hides no size"):
        hide_largest(make_sweep(), 1.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"params": PARAMS[:1], "data": DATA[:1]}, "has one size, 1 of them"),
        ({"params": PARAMS[:2], "data": DATA[:2]}, "has 2 sizes"),
        ({"rates": RATES[:2]}, "0 of them with at least 3 settings"),
    ],
)
def test_too_little_is_refused_in_a_sentence(changes, says):
    with pytest.raises(UserError, match=says):
        fit_sweep(make_sweep(**changes))


def test_what_cannot_be_is_refused(law):
    sizes = {"params": [1.0, 2.0], "data": [1.0, 2.0]}
    for setting, value, says in (
        ([0.1, -1.0], [1.0, 1.0], "learning_rate: must be positive"),
        ([0.1, 0.1], [1.0, -1.0], "values must be above 0"),
        ([0.1, 0.1], [1.0], "has 1 entries"),
    ):
        with pytest.raises(UserError, match=says):
            Sweep.from_arrays(sizes, setting, value)
    with pytest.raises(UserError, match="data=-1: must be a number above 0"):
        law.best(1e5, -1)
    with pytest.raises(UserError, match=r"width=3: the law .* knows nothing of it"):
        law.best(1e5, width=3)


def test_a_further_sweep_narrows_as_much_as_it_is_said(law):
    target = {"params": 1e9, "data": 1e7}
    said = narrow(law, target)
    best = law.best(**target)
    assert said.before == pytest.approx(best.upper / best.lower, rel=0.15)
    assert said.after < said.before
    assert said.sizes == {"params": 4e6, "data": 1e7}  # towards the target
    params, data, rates, value, _ = make_runs()
    more = make_runs(np.array(said.settings), np.array([4e6]), np.array([1e7]))
    sizes = {
        "params": np.r_[params, more[0]], "data": np.r_[data, more[1]],
    }  # fmt: skip
    wider = Sweep.from_arrays(sizes, np.r_[rates, more[2]], np.r_[value, more[3]])
    again = fit_sweep(wider).best(**target)
    assert again.upper / again.lower == pytest.approx(said.after, rel=0.25)


def test_the_bowl_is_zero_and_flat_at_the_best_and_linear_far_from_it():
    shape = np.array(0.1), np.array(0.4), np.array(0.5)
    x = np.array([-60.0, -50.0, -1e-4, 0.0, 1e-4, 50.0, 60.0])
    found = bowl(x, *shape)
    assert found[3] == pytest.approx(0, abs=1e-15)
    assert np.all(np.delete(found, 3) > 0)
    # Curvature at the bottom: below above / ((below + above) width).
    assert found[4] == pytest.approx(0.5 * 0.16 * 1e-8, rel=1e-3)
    assert (found[0] - found[1]) / 10 == pytest.approx(0.1)
    assert (found[-1] - found[-2]) / 10 == pytest.approx(0.4)


def test_the_sampler_draws_a_known_normal_law():
    mean, factor = np.array([1.0, -2.0]), np.array([[1.0, 0.0], [3.0, 0.1]])
    inverse = np.linalg.inv(factor @ factor.T)

    def log_density(theta):
        gap = theta - mean
        return -np.einsum("wi,ij,wj->w", gap, inverse, gap) / 2

    rng = np.random.default_rng(0)
    start = rng.standard_normal((32, 2))
    drawn = draw(log_density, start, rng, burn_in=500, steps=3000, keep_every=10)
    assert np.allclose(drawn.mean(axis=0), mean, atol=0.25)
    assert np.allclose(np.cov(drawn.T), factor @ factor.T, rtol=0.12)


def write_table(path, others=""):
    """A table of a user's own, with batch sizes beside the rates."""
    lines = ["N,D,lr,batch,status,loss"]
    params, data, rates, value, _ = make_runs(diverges=1.5)
    for m, n, rate, own in zip(params, data, rates, value, strict=True):
        for batch, worse in ((64, 1.1), (128, 1.0)):
            is_good = math.isfinite(own)
            loss, status = (own * worse, "finished") if is_good else ("", "diverged")
            lines.append(f"{m:.0f},{n:.0f},{float(rate)!r},{batch},{status},{loss}")
    path.write_text("\n".join(lines) + "\n")


def test_a_table_is_read_with_the_other_settings_at_their_best(tmp_path):
    write_table(tmp_path / "runs.csv")
    rate, batch = read_sweeps(tmp_path / "runs.csv")
    assert (rate.knob, batch.knob) == ("learning_rate", "batch_size")
    assert rate.metric == "loss"
    assert len(rate.value) == len(PARAMS) * len(RATES)
    _, _, _, value, _ = make_runs(diverges=1.5)
    assert np.isnan(rate.value).sum() == np.isnan(value).sum()
    assert np.nanmin(rate.value) == pytest.approx(np.nanmin(value))
    assert set(batch.setting) == {64, 128}
    with pytest.raises(UserError, match="no column of it differs"):
        scalepred.fit_recipe(tmp_path / "runs.csv", "weight_decay")
    with pytest.raises(UserError, match="knob='width': must be one of"):
        scalepred.fit_recipe(tmp_path / "runs.csv", "width")


def test_rows_of_a_study_are_judged_on_the_validation_part():
    params, data, rates, value, seed = make_runs()
    rows = [
        make_row(
            f"{i:012x}", params=round(m), data=round(n), learning_rate=rate, seed=s,
            metric="loss", value=1.0 + i / 1e4, validation_value=own, others={},
        )
        for i, (m, n, rate, own, s) in enumerate(
            zip(params, data, rates, value, seed, strict=True)
        )
    ]  # fmt: skip
    (sweep,) = read_sweeps(rows)
    assert sorted(sweep.value) == pytest.approx(sorted(value))


def run_command(capsys, *arguments):
    command_of_recipe.FLAGS.unparse_flags()
    status = command.status_of(
        "recipe", command_of_recipe._USAGE, command_of_recipe.FLAGS,
        command_of_recipe._print_found, lambda argv: None, ["recipe", *arguments],
        positional="table", keeps_rows=False,
    )  # fmt: skip
    return status, *capsys.readouterr()


def test_the_command_says_it_and_writes_it(tmp_path, capsys):
    write_table(tmp_path / "runs.csv")
    out = tmp_path / "out"
    status, text, error = run_command(
        capsys, str(tmp_path / "runs.csv"), f"--workdir={out}", "--hide=30",
        "--knob=learning_rate", "--target=params=10M,data=100M",
    )  # fmt: skip
    assert status == 0, error
    assert "At 10M parameters and 100M examples take a learning rate of" in text
    assert "Hidden from a law of the other sizes were the 3 largest" in text
    assert "e+" not in text
    record = json.loads((out / "recipe.json").read_text())
    (target,) = record["laws"]["learning_rate"]["targets"]
    assert target["lower"] < best_rate(1e7, 1e8) < target["upper"]
    assert target["regret_of_largest"]["value"] > target["regret"]["value"]
    assert (out / "recipe_learning_rate.png").read_bytes()[:4] == b"\x89PNG"
    (out / "recipe.json").write_text('{"mine": true}')
    status, _, error = run_command(
        capsys, str(tmp_path / "runs.csv"), f"--workdir={out}"
    )
    assert status == 2
    assert "was not written by this command" in error
    (out / "recipe.json").unlink()
    (out / "recipe_learning_rate.png").write_bytes(b"\x89PNG")
    status, _, error = run_command(
        capsys, str(tmp_path / "runs.csv"), f"--workdir={out}"
    )
    assert status == 2
    assert "was not drawn by scalepred" in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give one table of runs"),
        (("nowhere.csv",), "there is no such file"),
        (("x.csv", "--hide=1"), "--hide=1: must be a number above 1"),
        (("x.csv", "--target=big"), "--target=big: must look like"),
        (("x.csv", "--nob=lr"), "did you mean --knob"),
    ],
)
def test_mistakes_end_with_a_sentence(capsys, arguments, says):
    status, _, error = run_command(capsys, *arguments)
    assert status == 2
    assert says in error
    assert "Traceback" not in error


def test_the_picture_marks_edges_and_targets(law):
    png = recipe_figure.draw(law, [law.best(1e7, 1e8)])
    assert png[:4] == b"\x89PNG"
    assert png == recipe_figure.draw(law, [law.best(1e7, 1e8)])


def _bench(count):
    held, costs = [], []
    for number in range(count):
        told, paid = bench_recipe.ask(bench_recipe.draw_truth(7, number), number)
        held += told
        costs += paid
    return held, costs


def _check_calibration(held, costs, least):
    for kind in ("exponent", "best rate", "regret"):
        own = [one.is_inside for one in held if one.what.startswith(kind)]
        assert np.mean(own) >= least, kind
    law, largest = (np.array([getattr(one, name) for one in costs])
                    for name in ("law", "largest"))  # fmt: skip
    assert np.mean(np.minimum(law, 0.2)) < np.mean(np.minimum(largest, 0.2))


@pytest.mark.short
def test_intervals_hold_what_they_promise_in_short():
    _check_calibration(*_bench(4), least=0.7)


@pytest.mark.slow
def test_intervals_hold_what_they_promise():
    _check_calibration(*_bench(40), least=0.84)


def test_the_bench_says_what_was_held(capsys):
    held = [bench_recipe.Held("best rate at 10x", True, 1.0, 1.0)]
    costs = [bench_recipe.Cost(far, 0.01, 0.1) for far in (10.0, 100.0)]
    text = "\n".join(bench_recipe.describe(held, costs))
    assert "| best rate at 10x | 100 | 1 | 1 |" in text
    assert "| 100x | largest | 11 | 11 | 11 |" in text

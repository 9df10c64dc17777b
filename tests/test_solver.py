"""The batched solver against scipy, closed forms, and bad lanes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from scalepred import config
from scalepred.config import UserError
from scalepred.fitting import laws, multistart, solver
from scalepred.fitting.auto import law as auto_law
from scalepred.fitting.laws import Scale
from scalepred.fitting.solver import elimination
from scalepred.fitting.solver import problem as solver_problem
from scalepred.fitting.solver import steps as solver_steps

SCALE = Scale(np.log(0.9), np.log(0.05), np.log(0.85))


def make_problem(rng, num_points=24, noise=0.05, law=laws.rosenfeld):
    """A noisy grid of the law at random parameters within reach of its starts."""
    theta = law.start(rng.uniform(size=(1, law.num_parameters)), SCALE)[0]
    x, y = -rng.uniform(0, 6, num_points), -rng.uniform(0, 5, num_points)
    log_value = np.asarray(law.log_value(theta, x, y, SCALE))
    log_value = log_value + noise * rng.standard_normal(num_points)
    zeros = np.zeros(law.num_parameters)
    problem = solver.Problem(x, y, log_value, np.ones(num_points), zeros, zeros, SCALE)
    return problem, theta


def rosenfeld_by_hand(theta, x, y):
    log_a, log_alpha, log_b, log_beta, log_c = theta
    t = np.exp(log_a - np.exp(log_alpha) * y)
    t = t + np.exp(log_b - np.exp(log_beta) * x) + np.exp(log_c)
    return 0.9 * t / np.sqrt(1 + t * t)


def chinchilla_by_hand(theta, x, y):
    log_e, log_a, log_alpha, log_b, log_beta = theta
    t = np.exp(log_a - np.exp(log_alpha) * x)
    return np.exp(log_e) + t + np.exp(log_b - np.exp(log_beta) * y)


def check_against_scipy(seed):
    """A fit is at or below the best of six of scipy's; the laws take turns."""
    rng = np.random.default_rng(seed)
    law, by_hand = [
        (laws.rosenfeld, rosenfeld_by_hand),
        (laws.chinchilla, chinchilla_by_hand),
    ][seed % 2]
    num_points = int(rng.integers(8, 60))
    noise = 10 ** rng.uniform(-3, -1)
    problem, _ = make_problem(rng, num_points, noise, law)
    starts = law.start(rng.uniform(size=(6, 5)), SCALE)
    points = multistart.Points(
        np.asarray(problem.x), np.asarray(problem.y), np.asarray(problem.log_value),
        np.asarray(problem.weight), 1.0, 1.0, float(SCALE.log_guess),
    )  # fmt: skip
    everything = np.ones((1, num_points), bool)
    found = multistart.fit_subsets(law, points, everything)

    def residuals(theta):
        return by_hand(theta, problem.x, problem.y) / np.exp(problem.log_value) - 1

    best = min(
        2 * scipy.optimize.least_squares(
            residuals, start, bounds=(law.lower, law.upper),
            xtol=1e-14, ftol=1e-14, gtol=1e-14, max_nfev=500,
        ).cost
        for start in starts
    )  # fmt: skip
    (objective,), (winner,) = found.objective, found.theta
    assert objective <= best * (1 + 1e-6), seed
    assert np.sum(residuals(winner) ** 2) == pytest.approx(objective, rel=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_scipy(seed):
    check_against_scipy(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(12, 200, 47))
def test_agrees_with_scipy_on_200_problems(first):
    for seed in range(first, first + 47):
        check_against_scipy(seed)


@pytest.mark.parametrize("kind", ["relative", "log", "huber"])
def test_objective_is_at_a_minimum(kind):
    """No nearby parameters are better, whatever is minimised."""
    rng = np.random.default_rng(3)
    problem, start = make_problem(rng)
    residual = solver.Residual(kind, delta=0.03)
    found = solver.solve(laws.rosenfeld, problem, start[None], residual)

    def objective(theta):
        d = np.log(rosenfeld_by_hand(theta, problem.x, problem.y)) - problem.log_value
        if kind == "relative":
            return np.sum(np.expm1(d) ** 2)
        if kind == "log":
            return np.sum(d**2)
        inside = np.abs(d) <= 0.03
        return np.sum(np.where(inside, d**2 / 2, 0.03 * (np.abs(d) - 0.015)))

    lowest = objective(found.theta[0])
    assert lowest == pytest.approx(found.objective[0], rel=1e-9)
    for _ in range(200):
        nearby = found.theta[0] + 1e-3 * rng.standard_normal(5)
        assert objective(nearby) >= lowest * (1 - 1e-7)


def test_prior_alone_is_met_exactly():
    problem, start = make_problem(np.random.default_rng(0))
    mean = np.array([-1.0, -0.5, -2.0, -0.3, -3.0])
    problem = problem._replace(
        weight=np.zeros_like(problem.weight),
        prior_mean=mean,
        prior_precision=np.full(5, 2.0),
    )
    found = solver.solve(laws.rosenfeld, problem, start[None])
    np.testing.assert_allclose(found.theta[0], mean, atol=1e-8)


def test_prior_and_data_balance():
    """One parameter, log residual: the precision-weighted mean in closed form."""
    law = laws.law_from_function(
        "constant",
        lambda p, m, n: p["level"] + 0 * m * n,
        [laws.Parameter("level", 1e-6, 1e6)],
    )
    log_value = np.array([0.3, 0.5, 1.0])
    weight = np.array([1.0, 2.0, 1.0])
    problem = solver.Problem(
        np.zeros(3), np.zeros(3), log_value, weight,
        np.array([-1.0]), np.array([4.0]), SCALE,
    )  # fmt: skip
    found = solver.solve(law, problem, np.zeros((1, 1)), solver.Residual("log"))
    expected = (np.sum(weight * log_value) - 4.0) / (np.sum(weight) + 4.0)
    assert found.theta[0, 0] == pytest.approx(expected, abs=1e-9)


def test_bad_lane_disturbs_no_other():
    rng = np.random.default_rng(5)
    problem, _ = make_problem(rng)
    starts = laws.rosenfeld.start(rng.uniform(size=(8, 5)), SCALE)
    alone = solver.solve(laws.rosenfeld, problem, starts)
    log_values = np.broadcast_to(problem.log_value, (8, 24)).copy()
    log_values[3, 7] = np.nan
    mixed = solver.solve(laws.rosenfeld, problem._replace(log_value=log_values), starts)
    assert mixed.status[3] == solver.Status.NOT_FINITE
    assert np.isinf(mixed.objective[3])
    others = np.arange(8) != 3
    np.testing.assert_array_equal(mixed.theta[others], alone.theta[others])
    assert np.all(alone.status <= solver.Status.BOUND_HIT)


def test_bound_hit_and_iteration_limit_are_told():
    law = laws.law_from_function(
        "bounded",
        lambda p, m, n: p["level"] + 0 * m * n,
        [laws.Parameter("level", 0.1, 1.0)],
    )
    zeros = np.zeros(1)
    problem = solver.Problem(
        np.zeros(2), np.zeros(2), np.log([3.0, 4.0]), np.ones(2), zeros, zeros, SCALE
    )
    found = solver.solve(law, problem, np.log([[0.5]]))
    assert found.status[0] == solver.Status.BOUND_HIT
    assert found.theta[0, 0] == 0.0
    stopped = solver.solve(law, problem, np.log([[0.11]]), max_iterations=1)
    assert stopped.status[0] == solver.Status.ITERATION_LIMIT


@given(seed=st.integers(0, 10**6), extra=st.integers(0, 9))
def test_left_out_points_and_order_do_not_matter(seed, extra):
    rng = np.random.default_rng(seed)
    problem, start = make_problem(rng, num_points=20)
    found = solver.solve(laws.rosenfeld, problem, start[None])

    order = rng.permutation(20 + extra)

    def shuffle(values, fill):
        return np.append(values, np.full(extra, fill))[order]

    more = problem._replace(
        x=shuffle(problem.x, 0.0),
        y=shuffle(problem.y, 0.0),
        log_value=shuffle(problem.log_value, np.nan),
        weight=shuffle(problem.weight, 0.0),
    )
    again = solver.solve(laws.rosenfeld, more, start[None])
    np.testing.assert_allclose(again.objective, found.objective, rtol=1e-9, atol=1e-25)


def test_more_lanes_than_a_block_keep_their_order():
    rng = np.random.default_rng(8)
    problem, _ = make_problem(rng)
    starts = laws.rosenfeld.start(rng.uniform(size=(150, 5)), SCALE)
    together = solver.solve(laws.rosenfeld, problem, starts)
    for lane in (0, 63, 64, 149):
        alone = solver.solve(laws.rosenfeld, problem, starts[lane : lane + 1])
        np.testing.assert_array_equal(alone.theta[0], together.theta[lane])


@pytest.mark.parametrize("size", [1, 5, 9, 10, 14])
def test_positive_definite_systems(size):
    rng = np.random.default_rng(size)
    factor = rng.standard_normal((size, size + 2)) * np.exp(rng.normal(0, 4, (size, 1)))
    matrix, vector = factor @ factor.T, rng.standard_normal(size)
    with jax.enable_x64(True):
        found = elimination.solve_positive(jnp.asarray(matrix), jnp.asarray(vector))
    np.testing.assert_allclose(matrix @ np.asarray(found), vector, rtol=1e-6, atol=1e-6)


def test_buckets_hold_their_size_and_waste_little():
    for size in range(1, 3000):
        padded = solver.bucket(size)
        assert size <= padded <= max(4, 1.25 * size)
    assert len({solver.bucket(size) for size in range(1, 3000)}) < 45


def test_unknown_residual_is_refused():
    with pytest.raises(UserError, match="one of relative, log, huber, robust"):
        solver.Residual("cubic")
    for numbers in ({"delta": 0.0}, {"above": -1.0}, {"delta": np.inf}):
        with pytest.raises(UserError, match="must be a number above 0"):
            solver.Residual("huber", **numbers)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("relative", solver.RELATIVE),
        ("log", solver.Residual("log")),
        ("huber", solver.Residual("huber", 1e-3)),
        ("huber:0.02", solver.Residual("huber", 0.02)),
        ("robust:1e-2", solver.Residual("robust", 0.01)),
    ],
)
def test_residuals_are_read(text, expected):
    found = solver.Residual.of(config.Fitting(law="chinchilla", residual=text))
    assert found == expected
    assert solver.Residual.of(config.Fitting(residual=str(found))) == expected


@pytest.mark.parametrize("size", [1, 5, 9, 10, 26, 58])
def test_normal_equations(size):
    rng = np.random.default_rng(size)
    factor = rng.normal(size=(3, size, size + 2)) * 10 ** rng.uniform(-4, 4, (size, 1))
    matrix, vector = factor @ factor.mT, rng.normal(size=(3, size))
    with jax.enable_x64(True):
        solve = jax.vmap(elimination.solve_positive)
        found, bad = (
            np.asarray(solve(jnp.asarray(sign * matrix), jnp.asarray(vector)))
            for sign in (1, -1)
        )
    left = np.einsum("lij,lj->li", matrix, found) - vector
    size_of = np.einsum("lij,lj->li", np.abs(matrix), np.abs(found))
    assert np.max(np.abs(left) / size_of) < 1e-12
    assert np.all(np.isnan(bad))


@pytest.mark.parametrize("num_levels", [0, 16])
def test_programs_call_nothing_that_waits_for_threads(num_levels):
    """LAPACK's calls do; fits in two Python threads on two cores hung in them."""
    law = auto_law.make_law(num_levels, is_loss=True)
    size, residual = law.num_parameters, solver.Residual("robust", 2.0)
    theta, zeros, points = np.zeros((32, size)), np.zeros(size), np.zeros(40)
    scale = SCALE._replace(levels=np.zeros(num_levels))
    problem = solver.Problem(points, points, points, points, zeros, zeros, scale)
    problem = solver_problem.spread_lanes(problem, len(theta))
    with jax.enable_x64(True):
        lanes = solver_steps.begin(theta)
        steps = solver_steps.Steps(1, 0, 1)
        advance = jax.jit(solver_steps.advance.__wrapped__, static_argnums=(0, 1))
        text = advance.lower(law, residual, steps, problem, lanes).as_text()
    assert "func.func" in text
    assert "lapack" not in text

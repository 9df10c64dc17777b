"""Options of XLA: those that it has are used, and programs stay the same functions."""

import concurrent.futures

import jax.numpy as jnp
import numpy as np

from scalepred.runtime import compiler


def test_only_options_that_xla_has_are_passed_on():
    made_up = {"xla_cpu_no_such_thing": True}
    assert compiler.known(made_up) == {}
    level = {"xla_backend_optimization_level": "1"}
    assert compiler.known({**level, **made_up}) == level
    # If XLA drops one, fits take longer, to compile or to run: find another.
    assert compiler.known(compiler.WIDE_LOOPS) == compiler.WIDE_LOOPS


def test_plain_loops_change_rounding_only():
    def function(power, x):
        return jnp.sum(jnp.exp(-(x**power)) * jnp.log1p(x))

    x = np.random.default_rng(0).uniform(size=1000)
    found = compiler.jit_plainly(static_argnums=0)(function)(3, x)
    np.testing.assert_allclose(found, function(3, x), rtol=1e-5)


def test_threads_share_a_program():
    traced = []

    @compiler.jit_plainly(static_argnums=())
    def function(x):
        traced.append(x)
        return x + 1

    function(np.float32(0))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(function, np.arange(8, dtype=np.float32)))
    assert found == list(range(1, 9))
    assert len(traced) == 1


def test_an_option_that_goes_away_is_left_out(monkeypatch):
    """Fits go on, compiled as XLA would by itself."""
    monkeypatch.setattr(compiler, "WIDE_LOOPS", {"xla_cpu_no_such_thing": True})
    twice = compiler.jit_plainly(static_argnums=())(lambda x: 2 * x)
    assert twice(jnp.ones(3)).tolist() == [2, 2, 2]

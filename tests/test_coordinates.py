"""The coordinate check: what is recorded, slopes, and which parametrisation passes."""

import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalepred import config, coordinates
from scalepred.config import UserError
from scalepred.coordinates import MAX_SLOPE, Slope, check_coordinates, fit_slope
from scalepred.data import digits, markov
from scalepred.models.activations import record
from scalepred.models.model import build_model

DIGITS = digits.load()


def test_activations_of_an_mlp_are_its_products():
    model = build_model("mlp(parametrization='mup', base_width=2)", 4, 2, (8, 8, 1), 3)
    variables = model.init(jax.random.key(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 8, 8, 1)), jnp.float32)
    found = record(model, variables, x, jax.random.key(0))
    assert list(found) == ["layers.0", "layers.1", "layers.2"]
    ratio = 2.0
    h = x.reshape(5, -1)
    for index, name in enumerate(found):
        layer = variables.params["layers"][index]
        weights = layer["kernel"] / (1 if index == 0 else ratio)
        np.testing.assert_allclose(found[name], h @ weights, rtol=1e-4, atol=1e-6)
        h = jnp.tanh(h @ weights + layer["bias"])


def test_activations_of_a_decoder_are_all_its_layers():
    model = build_model("transformer", 16, 2, (6,), 7)
    x = jnp.zeros((2, 6), jnp.int32)
    found = record(model, model.init(jax.random.key(0)), x, jax.random.key(0))
    block = ("attention.qkv", "attention.out", "expand", "contract")
    assert list(found) == [
        "embedding",
        *(f"blocks.{index}.{name}" for index in range(2) for name in block),
        "output",
    ]
    table = model.init(jax.random.key(0)).params["embedding"]["table"]
    np.testing.assert_array_equal(found["embedding"], table[x])


def test_slopes_are_those_of_powers():
    sizes = (8, 16, 64)
    values = np.array([[3 * s**0.5, 5 * s**0.5] for s in sizes])
    assert fit_slope(sizes, values) == pytest.approx((0.5, 0.5, 0.5))
    noisy = fit_slope(sizes, values * np.exp(np.array([[0, 0.3], [0, 0], [0, 0]])))
    assert noisy.low < noisy.value < noisy.high
    assert fit_slope(sizes, values[:, :1]).low == -math.inf
    for bad in (0.0, math.nan, math.inf):
        broken = values.copy()
        broken[1, 1] = bad
        assert fit_slope(sizes, broken).verdict == "no number"


@pytest.mark.parametrize(
    ("slope", "verdict"),
    [
        ((0.0, -0.1, 0.1), "transfers"),
        ((0.5, 0.4, 0.6), "grows"),
        ((-0.5, -0.6, -0.4), "shrinks"),
        ((0.1, 0.0, 0.2), "not clear"),
        ((0.0, -math.inf, math.inf), "not clear"),
    ],
)
def test_verdicts(slope, verdict):
    assert Slope(*slope).verdict == verdict


def _check(family, dataset, widths, depths=(2,), **training):
    experiment = config.Experiment(
        name="x",
        dataset=dataset.name,
        family=family,
        grid=config.Grid(widths=widths, depths=depths, data_fractions=(1.0,), seeds=2),
        training=config.Training(
            **{"optimizer": "adam", "learning_rate": 0.003, "steps": 5}
            | {"schedule": "constant", "batch_size": 16}
            | training
        ),
    )
    found = check_coordinates(experiment, dataset, begin=lambda size: None)
    return {moves.layer: found.find_slope(moves).value for moves in found.moves}


@pytest.mark.parametrize(
    ("optimizer", "rate"),
    [("adam", 0.003), pytest.param("sgd", 0.05, marks=pytest.mark.slow)],
)
def test_an_mlp_moves_alike_at_every_width_under_mup_only(optimizer, rate):
    training = {"optimizer": optimizer, "learning_rate": rate}
    widths = (64, 256)
    family = "mlp(parametrization='mup', base_width=64)"
    maximal = _check(family, DIGITS, widths, (3,), **training)
    standard = _check("mlp", DIGITS, widths, (3,), **training)
    assert list(maximal) == ["layers.0", "layers.1", "layers.2", "layers.3"]
    assert all(abs(slope) < MAX_SLOPE for slope in maximal.values()), maximal
    if optimizer == "adam":  # all but the first layer move the more the wider
        assert all(standard[f"layers.{index}"] > 0.2 for index in (1, 2, 3)), standard
    else:  # the first layer hardly moves where it is wide
        assert standard["layers.0"] < -0.3, standard


def test_a_decoder_moves_alike_at_every_width_under_mup_only():
    dataset, widths = markov.load(), (32, 128)
    family = "transformer(parametrization='mup', base_width=32)"
    maximal = _check(family, dataset, widths, (1,))
    standard = _check("transformer", dataset, widths, (1,))
    assert all(abs(slope) < MAX_SLOPE for slope in maximal.values()), maximal
    assert standard["output"] > 0.4, standard
    assert standard["blocks.0.contract"] > 0.4, standard


@pytest.mark.slow
def test_a_decoder_moves_alike_at_every_depth_under_completep_only():
    dataset, depths = markov.load(), (2, 8)
    ends = {}
    for name in ("mup", "completep"):
        base = ", base_depth=2" if name == "completep" else ""
        family = f"transformer(parametrization='{name}', base_width=32{base})"
        found = _check(family, dataset, (32,), depths)
        assert "blocks.last.contract" in found
        ends[name] = found["output"]
    assert abs(ends["completep"]) < MAX_SLOPE < ends["mup"], ends


def test_sizes_along_two_axes_are_refused():
    with pytest.raises(UserError, match="--widths=4,8 --depths=1,2: give several of"):
        _check("mlp", DIGITS, (4, 8), (1, 2))
    with pytest.raises(UserError, match="--widths=4 --depths=2: give several of one"):
        _check("mlp", DIGITS, (4,))


def test_the_last_block_is_called_so_at_every_depth():
    numbers = np.zeros(1), np.zeros((1, 1))
    names = ("stem", "blocks.0.a", "blocks.1.a", "blocks.10.a", "output")
    found = coordinates._align(dict.fromkeys(names, numbers))
    assert list(found) == [
        "stem",
        "blocks.0.a",
        "blocks.1.a",
        "blocks.last.a",
        "output",
    ]


def _ask(tmp_path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scalepred.commands.coordinates", *flags],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_the_command_says_it_and_draws(tmp_path):
    done = _ask(
        tmp_path, "--widths=8,16", "--depths=1", "--steps=3", "--seeds=2",
        "--family=mlp(parametrization='mup')", "--out=moves.png",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "widths 8 to 16: change of activations after 3 steps" in done.stdout
    assert "of 2 layers transfer" in done.stdout
    assert (tmp_path / "moves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--widths: missing"),
        (["--widths=8,wide"], "--widths=8,wide: must be whole numbers"),
        (["--widths=8,16", "--family=mlp(a=1)"], "mlp has no option a"),
        (["--widths=8,16", "--steps=0"], "training.steps=0"),
        (["--widths=8,16", "--out=own.png"], "--out=own.png: was not drawn by"),
    ],
)
def test_mistakes_are_told_in_a_sentence(tmp_path, flags, words):
    (tmp_path / "own.png").write_bytes(b"\x89PNG of the user's own")
    done = _ask(tmp_path, *flags)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr

"""Rules of a recipe: what a run's numbers are, by its size."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepred import config, grid, validation
from scalepred.config import UserError
from scalepred.data import digits, markov
from scalepred.models.model import build_model
from scalepred.recipe import find_factor

SIZES = {"width": 64.0, "depth": 2.0, "steps": 1000.0}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("", 1.0),
        ("2", 2.0),
        ("64 / width", 1.0),
        ("(32 / width)**0.5", math.sqrt(0.5)),
        ("sqrt(depth) * (steps / 10)**-0.5", math.sqrt(2) / 10),
        ("min(1, 100 / width) + max(depth, 3)", 4.0),
        ("--width", 64.0),
    ],
)
def test_arithmetic(rule, expected):
    assert find_factor("f", rule, SIZES) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        ("64 / widht", "unknown name 'widht'"),
        ("1 /", "cannot be computed"),
        ("width / 0", "cannot be computed"),
        ("width - width", "must be a number above 0"),
        ("-width", "must be a number above 0"),
        ("(-2)**0.5", "must be a number above 0"),
        ("1e999", "must be a number above 0"),
        ("9**9**9**9", "cannot be computed"),
        ("__import__('os')", "unknown name"),
        ("width.real", "is no arithmetic"),
        ("[width]", "is no arithmetic"),
        ("'a' * 3", "is no arithmetic"),
    ],
)
def test_anything_else_is_told(rule, part):
    with pytest.raises(UserError, match=r"training\.x=") as told:
        find_factor("training.x", rule, SIZES)
    assert part in str(told.value)


@given(st.text(max_size=20))
def test_no_text_does_anything_but_give_a_number_or_a_sentence(rule):
    with contextlib.suppress(UserError):
        assert 0 < find_factor("f", rule, SIZES) < math.inf


def _cells(dataset, grid_changes=None, **training):
    experiment = config.Experiment(
        name="x",
        family="mlp" if dataset.labels.ndim == 1 else "context_mlp",
        grid=config.Grid(
            **{"widths": (8, 32), "depths": (2,), "data_fractions": (0.5, 1.0),
               **(grid_changes or {})}
        ),
        training=config.Training(**training),
    )  # fmt: skip
    validation.validate(experiment)
    return experiment, grid.make_cells(experiment, dataset)


def test_rates_and_batches_follow_the_size():
    dataset = digits.load()
    _, cells = _cells(
        dataset,
        learning_rate=0.1,
        learning_rate_rule="(8 / width) * (seen / 1280)**-0.5",
        weight_decay=0.01,
        weight_decay_rule="depth / steps",
        batch_size=32,
        batch_size_rule="sqrt(width / 8)",
        epochs=2,
    )
    assert [(c.width, c.dataset_size) for c in cells] == [
        (8, 640), (8, 1280), (32, 640), (32, 1280)
    ]  # fmt: skip
    assert [c.batch_size for c in cells] == [32, 32, 64, 64]
    assert [c.steps for c in cells] == [40, 80, 20, 40]
    for cell in cells:
        seen = cell.steps * cell.batch_size
        rate = 0.1 * 8 / cell.width * (seen / 1280) ** -0.5
        assert cell.learning_rate == pytest.approx(rate)
        assert cell.weight_decay == pytest.approx(0.01 * 2 / cell.steps)


def test_rates_before_the_rules_are_found_again():
    dataset = digits.load()
    experiment, cells = _cells(
        dataset,
        {"learning_rates": (0.1, 0.3), "weight_decays": (0.0, 0.01)},
        learning_rate_rule="8 / params**0.5",
        weight_decay_rule="1 / steps",
        steps=10,
    )
    for cell in cells:
        rate, decay = grid.find_base_rates(experiment, dataset, cell)
        assert any(math.isclose(rate, tried) for tried in (0.1, 0.3))
        assert any(math.isclose(decay, tried, abs_tol=1e-12) for tried in (0.0, 0.01))


def test_steps_grow_with_parameters():
    dataset = markov.load()
    _, cells = _cells(dataset, data_per_param=20, batch_size=8)
    for cell in cells:
        params = build_model("context_mlp", cell.width, 2, (32,), 64).num_params
        seen = cell.steps * cell.batch_size * dataset.units_per_example
        assert 20 * params <= seen < 20 * params + 8 * 32
    assert len({cell.steps for cell in cells}) == 2  # the same at every n


def test_data_grow_with_parameters():
    dataset = markov.load()
    _, cells = _cells(dataset, {"data_per_param": (5.0, 20.0)}, epochs=1)
    for cell, ratio in zip(cells, (5, 20, 5, 20), strict=True):
        params = build_model("context_mlp", cell.width, 2, (32,), 64).num_params
        n = cell.dataset_size * dataset.units_per_example
        assert n == pytest.approx(ratio * params, abs=32)
        assert cell.epochs == pytest.approx(1, abs=32 / cell.dataset_size)


def test_more_data_by_parameter_than_there_are_is_told():
    with pytest.raises(UserError, match=r"data_per_param.*more than the 4,194,304"):
        _cells(markov.load(), {"data_per_param": (1e5,)}, epochs=1)


def test_warm_up_in_steps():
    _, cells = _cells(digits.load(), warmup_steps=20, epochs=2)
    assert [round(c.warmup_fraction * c.steps) for c in cells] == [20, 20, 20, 20]
    with pytest.raises(UserError, match="give one of them and leave the other 0"):
        _cells(digits.load(), warmup_steps=20, warmup_fraction=0.1, epochs=2)


def test_without_rules_ids_are_what_they_were():
    """Nobody's tables lose their runs when the config learns to say more."""
    _, cells = _cells(digits.load(), epochs=2)
    assert cells[0].cell_id == "514db43b63bc"

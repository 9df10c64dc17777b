"""What a plan needs is said before it is trained."""

import dataclasses
import types

import pytest

from scalepred import config, grid
from scalepred.config import UserError
from scalepred.data.dataset import load_dataset
from scalepred.training import ensemble, limits

DATASET = load_dataset("digits")
EXPERIMENT = config.Experiment(
    name="x",
    grid=config.Grid(widths=(4, 8), depths=(1,), data_fractions=(0.25, 1.0), seeds=3),
    training=config.Training(steps=20, batch_size=16),
    packing=config.Packing(lanes=3, lane_axis="vmap"),
)


def plan(**packing):
    changed = dataclasses.replace(EXPERIMENT.packing, **packing)
    experiment = dataclasses.replace(EXPERIMENT, packing=changed)
    cells = grid.make_cells(experiment, DATASET)
    return ensemble.plan_cells(experiment, DATASET, cells)


@pytest.mark.parametrize("lane_axis", ["vmap", "map"])
def test_needs_by_hand(lane_axis):
    four, eight = sorted(
        limits.estimate_needs(plan(lane_axis=lane_axis), DATASET),
        key=lambda need: need.num_params,
    )
    assert four.num_params == 64 * 4 + 4 + 4 * 10 + 10
    assert eight.num_params == 64 * 8 + 8 + 8 * 10 + 10
    # Doubling the width adds as many bytes to parameters, momentum and gradient.
    more = 4 * (eight.num_params - four.num_params)
    assert eight.lane_bytes - four.lane_bytes == 3 * more
    gradients = 3 if lane_axis == "vmap" else 1
    assert eight.device_bytes - four.device_bytes == (2 * 3 + gradients) * more
    data_bytes = DATASET.inputs.nbytes + DATASET.labels.nbytes + 4 * 3 * 1797
    assert four.device_bytes - data_bytes < 4 * (four.num_params * 9 + 3 * 32)
    forward = 2 * (64 * 8 + 8 * 10)
    assert eight.flops == pytest.approx(3 * forward * 6 * 20 * 16, rel=0.1)


def device(**stats):
    return types.SimpleNamespace(
        memory_stats=lambda: stats, platform="gpu", device_kind="tiny"
    )


def test_a_cell_that_cannot_fit_is_named_with_its_bytes():
    whole = plan()
    needs = limits.estimate_needs(whole, DATASET)
    eight = max(needs, key=lambda need: need.num_params)
    at_least = eight.device_bytes - 2 * eight.lane_bytes  # one lane of three
    limits.check_fits(whole, DATASET, [device(bytes_limit=at_least)])
    with pytest.raises(UserError) as caught:
        limits.check_fits(whole, DATASET, [device(bytes_limit=at_least - 1)])
    assert "grid.widths=8, grid.depths=1: one run needs at least" in str(caught.value)
    assert f"and tiny has {limits.show_bytes(at_least - 1)}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_device_that_does_not_say():
    assert limits.count_device_bytes(device()) == float("inf")
    limits.check_fits(plan(), DATASET)  # a CPU has its share of the machine


def test_a_trial_leaves_nothing_behind():
    (first, _) = plan().packs
    traced = ensemble.traces.total()
    trial = ensemble.try_pack(first, DATASET)
    assert ensemble.traces.total() == traced + 1
    assert trial.seconds_per_step > 0
    need = limits.estimate_needs(plan(), DATASET)[0]
    assert trial.device_bytes is not None
    assert trial.device_bytes > need.device_bytes / 2


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12 bytes"), (1234, "1.23 kB"), (15.6e9, "15.6 GB")]
)
def test_bytes_are_readable(count, text):
    assert limits.show_bytes(count) == text

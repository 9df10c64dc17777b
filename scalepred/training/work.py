"""What a cell is and takes, counted and not measured: parameters, FLOPs, time."""

from collections.abc import Sequence

from scalepred.data.dataset import Dataset
from scalepred.grid import Cell
from scalepred.models.model import Model, build_for
from scalepred.training.branches import count_own_steps, find_chains
from scalepred.training.cost import STEP_OVERHEAD_FLOPS
from scalepred.training.plan import Plan


def build(cell: Cell, dataset: Dataset) -> Model:
    """The model that a cell trains."""
    return build_for(dataset, cell.family, cell.width, cell.depth)


def count_params(cell: Cell, dataset: Dataset) -> int:
    """m of a cell, as the law counts it."""
    return build(cell, dataset).num_params


def count_flops(cell: Cell, dataset: Dataset) -> float:
    """Training FLOPs of a cell: a step is three forward passes of its batch."""
    model = build(cell, dataset)
    forward = model.count_forward_flops(dataset.input_spec) * dataset.task.views
    return 3 * forward * cell.steps * cell.batch_size


def count_spent(cells: Sequence[Cell], dataset: Dataset) -> float:
    """Training FLOPs that cells take together, the steps of a trunk counted once."""
    return sum(
        count_flops(cell, dataset) * own / cell.steps
        for chain in find_chains(cells)
        for cell, own in zip(chain, count_own_steps(chain), strict=True)
    )


def estimate_work(plan: Plan, dataset: Dataset) -> dict[str, float]:
    """Relative time of each planned cell, by id; for the time left, nothing else.

    Of a branch, of what it adds to those before it.
    """
    chains = [chain for pack in plan.packs for chain in find_chains(pack.queue)]
    steps = {
        cell: own
        for chain in chains
        for cell, own in zip(chain, count_own_steps(chain), strict=True)
    }
    keys = {cell.program_key: cell for cell in steps}
    num_params = {
        key: build(cell, dataset).num_params_total for key, cell in keys.items()
    }
    return {
        cell.cell_id: own
        * (6.0 * num_params[cell.program_key] * cell.batch_size + STEP_OVERHEAD_FLOPS)
        for cell, own in steps.items()
    }

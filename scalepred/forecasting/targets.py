"""What is to be forecast: the targets, and the grid's cells beyond the evidence."""

from scalepred.fitting.cost import Cost
from scalepred.forecasting.forecast import Asked
from scalepred.forecasting.parts import Study
from scalepred.grid import Cell
from scalepred.training.work import count_flops


def ask(study: Study) -> dict[Asked, list[Cell]]:
    """What is to be forecast, with its cells: the targets, then the grid's rest."""
    parts = study.parts
    kinds: dict[tuple[float, float, float | None], str] = {}
    runs: dict[tuple[float, float, float | None], list[Cell]] = {}
    for kind, cells in (("target", parts.targets), ("held_out", parts.held_out)):
        for cell in cells:
            size = study.size_of(cell)
            place = size.params, size.data, size.epochs if study.knows_epochs else None
            if kinds.setdefault(place, kind) == kind:
                runs.setdefault(place, []).append(cell)
    found = {}
    for place, own in runs.items():
        asked = Asked(
            name=f"width {own[0].width}, depth {own[0].depth}",
            kind=kinds[place],
            params=float(place[0]),
            data=float(place[1]),
            epochs=place[2],
            flops=count_flops(own[0], study.dataset),
            num_seeds=len({cell.seed for cell in own}),
            num_measured=sum(cell.cell_id in study.rows for cell in own),
        )
        found[asked] = own
    return found


def ask_plain(study: Study, cost: Cost) -> list[Asked]:
    """The plain sizes of the targets, at what their FLOPs are by the cost of the table.

    Args:
        study: whose config names them.
        cost: what FLOPs buy.
    """
    targets = study.experiment.targets
    times = targets.epochs or (None,) * len(targets.data)
    sizes = zip(targets.params, targets.data, times, strict=True)
    return [
        Asked("", "plain", m, n, epochs, float(cost.flops(m, n * (epochs or 1.0))))
        for m, n, epochs in sizes
    ]

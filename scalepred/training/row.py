"""A finished cell as a row of the table."""

import math

from scalepred.grid import Cell
from scalepred.table.rows import Measurement
from scalepred.training.engine import Engine
from scalepred.training.plan import Pack
from scalepred.training.score import Scores


def make_row(
    cell: Cell,
    pack: Pack,
    engine: Engine,
    scores: Scores | None,
    seconds: float,
) -> Measurement:
    """A finished cell as a row; one that diverged has no value.

    Args:
        cell: the run.
        pack: that it was trained in.
        engine: of the pack.
        scores: None: it diverged and was given up. Its row is that of a diverged run
            that went on to its end, so that no row depends on when this was noticed.
        seconds: it took.
    """
    model, dataset = engine.models[cell.width], engine.dataset
    diverged = scores is None or bool(scores.diverged)
    columns = dataset.columns
    values = dict.fromkeys(columns, math.nan)
    if scores is not None and not diverged:
        values = dict(zip(columns, scores.values.reshape(-1).tolist(), strict=True))
    own = (cell.metric, f"train_{cell.metric}", f"validation_{cell.metric}")
    value, train_value, validation_value = (values.pop(name) for name in own)
    examples = cell.steps * cell.batch_size
    return Measurement(
        cell_id=cell.cell_id,
        task=cell.dataset,
        family=cell.family,
        width=cell.width,
        depth=cell.depth,
        params=model.num_params,
        params_total=model.num_params_total,
        data=cell.dataset_size * dataset.units_per_example,
        data_unit=dataset.unit,
        epochs=cell.epochs,
        steps=cell.steps,
        seed=cell.seed,
        learning_rate=cell.learning_rate,
        flops=3 * engine.forward_flops[cell.width] * examples,
        metric=cell.metric,
        value=value,
        train_value=train_value,
        status="diverged" if diverged else "ok",
        seconds=seconds,
        device=engine.mesh.devices.flat[0].device_kind,
        program=pack.describe(),
        validation_value=validation_value,
        others=values,
    )

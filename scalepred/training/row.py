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
    scores: Scores,
    seconds: float,
) -> Measurement:
    """A finished cell as a row; one that diverged has no value."""
    model, dataset = engine.models[cell.width], engine.dataset
    diverged = bool(scores.diverged)
    columns = dataset.columns
    values = dict(zip(columns, scores.values.reshape(-1).tolist(), strict=True))
    if diverged:
        values = dict.fromkeys(columns, math.nan)
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

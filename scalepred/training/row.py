"""A finished cell as a row of the table."""

import math

from scalepred.grid import Cell
from scalepred.table.rows import FORECAST_COLUMNS, STOPPED, Measurement
from scalepred.training.engine import Engine
from scalepred.training.outlook import Outlook
from scalepred.training.plan import Pack
from scalepred.training.score import Scores


def make_row(
    cell: Cell,
    pack: Pack,
    engine: Engine,
    scores: Scores | None,
    seconds: float,
    outlook: Outlook | None = None,
) -> Measurement:
    """A finished cell as a row; one that diverged or was stopped has no value.

    Args:
        cell: the run.
        pack: that it was trained in.
        engine: of the pack.
        scores: None: it diverged and was given up. Its row is that of a diverged run
            that went on to its end, so that no row depends on when this was noticed.
        seconds: it took.
        outlook: what was forecast of it when it was stopped; None: it was not. Its row
            counts the steps until then, though it took some more to notice.
    """
    model, dataset = engine.models[cell.width], engine.dataset
    if outlook is not None:
        scores, status = None, STOPPED
    else:
        status = "diverged" if scores is None or bool(scores.diverged) else "ok"
    columns = dataset.columns
    values = dict.fromkeys(columns, math.nan)
    if scores is not None and status == "ok":
        values = dict(zip(columns, scores.values.reshape(-1).tolist(), strict=True))
    own = (cell.metric, f"train_{cell.metric}", f"validation_{cell.metric}")
    value, train_value, validation_value = (values.pop(name) for name in own)
    steps = outlook.steps if outlook else cell.steps
    examples = steps * cell.batch_size
    forecast = outlook[1:] if outlook else ()
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
        epochs=examples / cell.dataset_size,
        steps=steps,
        seed=cell.seed,
        learning_rate=cell.learning_rate,
        flops=3 * engine.forward_flops[cell.width] * examples,
        metric=cell.metric,
        value=value,
        train_value=train_value,
        status=status,
        seconds=seconds,
        device=engine.mesh.devices.flat[0].device_kind,
        program=pack.describe(),
        validation_value=validation_value,
        others=values | dict(zip(FORECAST_COLUMNS, forecast, strict=False)),
    )

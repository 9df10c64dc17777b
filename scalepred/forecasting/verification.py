"""What was said of a study before, sealed; and how it did."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from scalepred import sweep
from scalepred.config import UserError
from scalepred.fitting.answers import Answer
from scalepred.fitting.fit import Fit
from scalepred.forecasting import forecast as forecasts
from scalepred.forecasting import targets
from scalepred.forecasting.evidence import weigh_evidence
from scalepred.forecasting.parts import Study, TargetRates
from scalepred.forecasting.tuning import Tuning
from scalepred.grid import Cell
from scalepred.runtime import processes
from scalepred.runtime.files import write_whole
from scalepred.runtime.workdir import log, warn
from scalepred.table.numbers import write_size
from scalepred.table.rows import Measurement


def seal_forecast(study: Study, fit: Fit, answers: Sequence[Answer]) -> None:
    """Seals what the fit says of everything that is not evidence.

    Args:
        study: its rows hold the evidence.
        fit: of the evidence.
        answers: to the questions asked.
    """
    experiment = study.experiment
    own = targets.ask(study)
    asked = [*own, *targets.ask_plain(study, fit.cost)]
    if not asked:
        return
    config = dataclasses.asdict(experiment)
    # These change no result.
    del config["packing"], config["keep_rows"], config["arms"]
    # What it says stands in the numbers and rules.
    del config["training"]["recipe"]
    record = forecasts.make_record(
        fit,
        asked,
        weigh_evidence([study.rows[cell.cell_id] for cell in study.parts.evidence]),
        title=study.title,
        config=config,
        answers=answers,
        target_value=experiment.questions.target_value,
        tuning=_find_tuning(study, own),
    )
    sealed = forecasts.seal(study.workdir / "forecasts", record, fit)
    log(study.workdir, f"forecast {sealed.digest} of {len(asked)} sizes stands")


def _find_tuning(
    study: Study, asked: dict[forecasts.Asked, list[Cell]]
) -> dict[forecasts.Asked, Tuning]:
    """Of each target what is known of its rates."""
    rates = study.rates
    if rates is None or not rates.said:
        return {}
    number = {cell.cell_id: i for i, cell in enumerate(study.parts.targets)}
    found = {}
    for one, cells in asked.items():
        own = [number[cell.cell_id] for cell in cells if cell.cell_id in number]
        if one.kind == "target" and own:
            regret = rates.regrets[own[0]] if rates.regrets else np.zeros(1)
            found[one] = Tuning(rates.said[own[0]], regret)
    return found


def await_forecast(study: Study) -> Study:
    """All processes have the first one's targets, of which something was said."""
    if study.table is not None:
        check_forecast(study)
    processes.wait_for_first(f"forecast {study.arm}")  # a name is waited for once
    cells = study.parts.targets
    if not cells:
        return study
    own = [(cell.learning_rate, cell.weight_decay) for cell in cells]
    # As bytes: JAX would round them to 32 bits, and with them the cells' ids.
    sent = processes.same_everywhere(np.array(own, np.float64).view(np.uint8))
    rates = sent.astype(np.uint8).view(np.float64).reshape(-1, 2).tolist()
    chosen = study.rates or TargetRates([])
    of_cells = [(rate, decay) for rate, decay in rates]
    return study.with_rates(chosen._replace(of_cells=of_cells))


def check_forecast(study: Study) -> None:
    """Whether something was said of everything that is to be verified.

    Raises:
        UserError: of one size nothing was.
    """
    told, _ = forecasts.read_all(study.workdir / "forecasts")
    for one in targets.ask(study):
        if not forecasts.choose(told, one.params, one.data, one.epochs):
            raise UserError(
                f"--stages=verify: no forecast says anything of {one.name} with "
                f"{write_size(one.data)} {study.dataset.unit}; add fit,forecast to "
                "--stages"
            )


def score_forecast(
    study: Study,
) -> tuple[forecasts.Forecast | None, list[forecasts.Verified]]:
    """The newest forecast, and every forecast size that was measured, scored.

    Writes verification.csv where there is any.
    """
    told, notes = forecasts.read_all(study.workdir / "forecasts")
    for note in notes:
        warn(study.workdir, note)
    verified = []
    for asked, cells in targets.ask(study).items():
        found = forecasts.choose(told, asked.params, asked.data, asked.epochs)
        runs = find_runs(study, cells)
        if found and runs:
            values = [row.read(study.metric) for row in runs if row.status == "ok"]
            verified.append(forecasts.score(*found, values))
    if verified:
        text = forecasts.format_scores(verified)
        write_whole(study.workdir / "verification.csv", text)
    return told[-1] if told else None, verified


def find_runs(study: Study, cells: Sequence[Cell]) -> list[Measurement]:
    """The runs that count of one size: all there are, or those with its best rates."""
    done = [cell for cell in cells if cell.cell_id in study.rows]
    rates = {(cell.learning_rate, cell.weight_decay) for cell in cells}
    is_whole = len(rates) == 1 or len(done) == len(cells)
    return sweep.choose(done, study.rows, study.metric)[0] if done and is_whole else []

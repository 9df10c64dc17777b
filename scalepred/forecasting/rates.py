"""The rates of targets: by the law of the evidence's best ones, or as at its largest.

The best rate moves with the sizes. A rate that is right for the evidence may be far off
for a target a hundred times larger, which then does worse than was said.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from scalepred import grid, sweep
from scalepred.config import UserError
from scalepred.fitting.recipe.law import RecipeLaw, fit_sweep
from scalepred.fitting.recipe.reading import Run, keep_best, make_sweep
from scalepred.forecasting.parts import Study, TargetRates
from scalepred.grid import Cell
from scalepred.report import recipe_words
from scalepred.table import stopped


def choose_rates(study: Study) -> TargetRates:
    """Learning rate and weight decay of each target.

    Raises:
        UserError: not all of the evidence is trained.
    """
    experiment, evidence = study.experiment, study.parts.evidence
    missing = sum(cell.cell_id not in study.rows for cell in evidence)
    if missing:
        raise UserError(
            f"{study.workdir}: {len(evidence) - missing} of the {len(evidence)} runs "
            "that are fitted are there; add train to --stages"
        )
    if not study.is_sweep or not study.parts.targets:
        return TargetRates([_rates(cell) for cell in study.parts.targets])
    base = _best_at_largest(study)
    cells = grid.make_target_cells(experiment, study.dataset, base)
    laws, notes = _fit_laws(study)
    chosen: list[tuple[float, float]] = []
    said: list[dict[str, Any]] = []
    regrets: list[np.ndarray] = []
    for cell in cells:
        sizes = _sizes(study, cell)
        own: dict[str, float] = dict(zip(sweep.RATES, _rates(cell), strict=True))
        told, regret = {}, np.zeros(1)
        for name, law in laws.items():
            if experiment.targets.rates_from == "law" and not _is_given(study, name):
                own[name] = law.best(**sizes).setting
            told[name] = _tell(law, own[name], sizes)
            drawn = law.draw_regrets(own[name], sizes)
            regret = regret + drawn - law.tried_regret
        chosen.append((own["learning_rate"], own["weight_decay"]))
        said.append(told)
        regrets.append(regret)
    notes += _describe(study, laws, cells, chosen)
    return TargetRates(chosen, tuple(notes), said, regrets if laws else ())


def _rates(cell: Cell) -> tuple[float, float]:
    return cell.learning_rate, cell.weight_decay


def _sizes(study: Study, cell: Cell) -> dict[str, float]:
    size = study.size_of(cell)
    return {"params": float(size.params), "data": float(size.data)}


def _is_given(study: Study, name: str) -> bool:
    """Whether the config says the rate of targets."""
    targets = study.experiment.targets
    if name == "learning_rate":
        return targets.learning_rate > 0
    return targets.weight_decay >= 0


def _best_at_largest(study: Study) -> tuple[float, float]:
    """Rates, before rules, that were best at the largest evidence."""
    cells = study.parts.evidence
    chosen, _ = sweep.choose(cells, study.rows, study.metric)
    largest = max(chosen, key=lambda row: row.params * row.data)
    cell = next(cell for cell in cells if cell.cell_id == largest.cell_id)
    return grid.find_base_rates(study.experiment, study.dataset, cell)


def _fit_laws(study: Study) -> tuple[dict[str, RecipeLaw], list[str]]:
    """The law of each rate that was swept, and why there is none of another."""
    laws, notes = {}, []
    for name in sweep.RATES:
        if len(getattr(study.experiment.grid, f"{name}s")) < 2:
            continue
        try:
            laws[name] = fit_sweep(_read(study, name))
        except UserError as error:
            notes.append(
                f"targets have the {name.replace('_', ' ')} that was best at the "
                f"largest evidence, as no law of it can be fitted ({error})"
            )
    return laws, notes


def _read(study: Study, name: str) -> Any:
    """The sweep of a rate in the evidence, judged as `sweep.choose` does."""
    (other,) = (one for one in sweep.RATES if one != name)
    runs = []
    cells, _ = stopped.leave_out(
        study.parts.evidence,
        lambda cell: study.rows[cell.cell_id].status,
        lambda cell: (
            *_sizes(study, cell).values(),
            cell.depth,
            cell.width,
            _rates(cell),
        ),
    )
    for cell in cells:
        row = study.rows[cell.cell_id]
        is_good = row.status == "ok"
        runs.append(
            Run(
                place=tuple(_sizes(study, cell).values()),
                setting=getattr(cell, name),
                others=(cell.depth, cell.width, getattr(cell, other)),
                seed=str(cell.seed),
                value=sweep.read_validation(row, study.metric) if is_good else math.nan,
            )
        )
    _check_zero(name, runs)
    about = {"metric": study.metric, "data_unit": study.dataset.unit}
    return make_sweep(name, ("params", "data"), keep_best(runs), **about)


def _check_zero(name: str, runs: Sequence[Run]) -> None:
    """A power law never gets to 0, where some sizes may have their best."""
    best: dict[tuple[float, ...], Run] = {}
    for run in runs:
        if not math.isnan(run.value):
            known = best.setdefault(run.place, run)
            best[run.place] = min(known, run, key=lambda one: one.value)
    count = sum(run.setting == 0 for run in best.values())
    if count:
        raise UserError(f"0 is best at {count} of {len(best)} sizes")


def _tell(law: RecipeLaw, setting: float, sizes: dict[str, float]) -> dict[str, Any]:
    """What a forecast keeps of a rate."""
    best, regret = law.best(**sizes), law.regret(setting, **sizes)
    return {
        "setting": setting,
        "best": best.middle,
        "lower": best.lower,
        "upper": best.upper,
        "regret": regret.value,
        "regret_upper": regret.upper,
        "diverges": regret.diverges,
        "largest": law.largest_setting,
    }


def _describe(
    study: Study, laws: dict[str, RecipeLaw], cells: Sequence[Cell], rates: Sequence
) -> list[str]:
    """Which rates were taken, and why; of the largest target."""
    number = max(
        range(len(cells)), key=lambda i: math.prod(_sizes(study, cells[i]).values())
    )
    sizes = _sizes(study, cells[number])
    own: dict[str, float] = dict(zip(sweep.RATES, rates[number], strict=True))
    notes = []
    for name, law in laws.items():
        how = study.experiment.targets.rates_from
        how = "given" if _is_given(study, name) else how
        notes += recipe_words.describe_choice(law, own[name], sizes, how)
    return notes

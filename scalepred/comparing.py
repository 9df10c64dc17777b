"""The path of a comparison: tables -> surfaces -> fits -> comparison -> files.

Every group is fitted and reported by itself (`analysis`), in a folder of its own; what
is set beside each other are the fits.
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from scalepred import analysis, config
from scalepred.config import UserError
from scalepred.fitting.comparison import Comparison, check_alike, compare
from scalepred.fitting.fit import Fit
from scalepred.report import compare_screen, console
from scalepred.report.page import families
from scalepred.runtime import steps
from scalepred.runtime.files import open_path, write_json
from scalepred.runtime.workdir import (
    check_workdir,
    is_taken,
    log,
    prepare_workdir,
)
from scalepred.table.readers import files
from scalepred.table.surface import Surface

_LONGEST_NAME = 40  # of a folder
_SAID = 2  # reasons in one sentence


class Case(NamedTuple):
    """A table as it is going to be fitted.

    Attributes:
        surface: every point.
        in_fit: the fit region [points].
        questions: to be answered.
        targets: (params, data), or (params, data, epochs).
        losses: beside the errors of a task, through which they may be predicted.
    """

    surface: Surface
    in_fit: np.ndarray
    questions: config.Questions
    targets: list[tuple[float, ...]]
    losses: Surface | None = None


class Asked(NamedTuple):
    """What is asked of a comparison.

    Attributes:
        settings: of every fit.
        baseline: group that all others are held against; "": the first.
        title: of the page; "": the groups.
    """

    settings: config.Fitting
    baseline: str = ""
    title: str = ""


# (path, further --where) -> a table as it is going to be fitted.
Read = Callable[[str, Sequence[str]], Case]


def read_groups(
    paths: Sequence[str], by: str, read: Read
) -> tuple[dict[str, Case], list[str]]:
    """The groups of one table, or a group a table.

    Args:
        paths: tables.
        by: column whose values are the groups; "": every table is one.
        read: reads one.

    Returns:
        Groups by name; a sentence for each that cannot be read.

    Raises:
        UserError: there are fewer than two.
    """
    if by and len(paths) > 1:
        raise UserError(f"--by={by}: takes the groups of one table; give one")
    cases: dict[str, Case] = {}
    said: list[str] = []
    if by:
        for value in _values_of(paths[0], by):
            # A group is too small, or broken; the others are none the less.
            try:
                cases[value] = read(paths[0], [f"{by}={value}"])
            except UserError as error:
                said.append(f"{value} is left out: {error}")
        _check_enough(cases, said, f"--by={by}")
        return cases, said
    for name, path in zip(_name_tables(paths), paths, strict=True):
        cases[name] = read(path, ())
    return cases, said


def _values_of(path: str, by: str) -> list[str]:
    """Values of a column, in the order in which they come.

    Raises:
        UserError: there is no such column, or all rows have one value.
    """
    rows = files.read(open_path("measurements", path)).rows
    if by not in rows[0][1]:
        raise UserError(
            f"--by={by}: {path} has no such column (columns found: "
            f"{', '.join(rows[0][1])})"
        )
    values = list(dict.fromkeys(row[by].strip() for _, row in rows))
    values = [value for value in values if value]
    if len(values) < 2:
        raise UserError(
            f"--by={by}: all rows of {path} have one value; nothing to compare"
        )
    return values


def _name_tables(paths: Sequence[str]) -> list[str]:
    """Names of files, with as much of their folders as tells them apart.

    Raises:
        UserError: one stands twice.
    """
    parts = [pathlib.PurePath(path).with_suffix("").parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-count:]) for own in parts]
        if len(set(names)) == len(names):
            return names
    raise UserError(f"--measurements={paths[0]}: stands twice; give each table once")


def _check_enough(groups: Mapping[str, object], said: Sequence[str], what: str) -> None:
    if len(groups) < 2:
        why = "; ".join(said[:_SAID]) or "there is only one"
        why += f"; and {len(said) - _SAID} more" if len(said) > _SAID else ""
        raise UserError(f"{what}: fewer than two groups can be compared: {why}")


def compare_tables(
    cases: Mapping[str, Case],
    workdir: epath.Path,
    record: Mapping[str, Any],
    asked: Asked,
    said: Sequence[str] = (),
) -> Comparison:
    """Fits every group, sets the fits beside each other, writes and prints all that.

    Args:
        cases: groups by name, two or more.
        workdir: where the results go; each group has a folder in it.
        record: what config.json holds.
        asked: how to compare.
        said: sentences on what is left out already.

    Raises:
        UserError: fewer than two groups can be fitted, or they cannot be compared.
    """
    record = dict(record)
    check_workdir(workdir, record, "measurements")
    _check_baseline(asked.baseline, cases)
    check_alike({name: case.surface for name, case in cases.items()})
    prepare_workdir(workdir, record, "measurements")
    folders, fits, said = _name_folders(cases), {}, list(said)
    for name, case in cases.items():
        try:
            fits[name] = _fit_group(name, case, workdir / folders[name], record, asked)
        except UserError as error:
            said.append(f"{name} is left out: {error}")
    _check_baseline(asked.baseline, fits)
    _check_enough(fits, said, "compare")
    steps.begin(f"comparing {len(fits)} groups")
    found = _compare(fits, cases, asked)
    found = dataclasses.replace(found, notes=(*said, *found.notes))
    write(found, workdir, folders, asked.title)
    return found


def _check_baseline(baseline: str, groups: Mapping[str, object]) -> None:
    if baseline and baseline not in groups:
        raise UserError(
            f"--baseline={baseline}: there is no such group (there: "
            f"{', '.join(groups)})"
        )


def _fit_group(
    name: str, case: Case, folder: epath.Path, record: dict[str, Any], asked: Asked
) -> Fit:
    """Fits and reports one group."""
    own = {**record, "runs": {**record["runs"], "group": name}}
    results, _ = analysis.fit_table(
        case.surface,
        folder,
        own,
        case.in_fit,
        asked.settings,
        case.questions,
        case.targets,
        title=name,
    )
    return results.fit


def _compare(
    fits: dict[str, Fit], cases: Mapping[str, Case], asked: Asked
) -> Comparison:
    first = next(iter(fits))
    questions, targets = cases[first].questions, cases[first].targets
    # Such a ladder has FLOPs in the place of data.
    is_ladder = cases[first].surface.data_unit == "FLOPs"
    axes = {axis for fit in fits.values() for axis in fit.law.axes}
    notes = []
    budgets = [questions.budget] if questions.budget else []
    if budgets and not is_ladder and not {"params", "data"} <= axes:
        notes.append("--budget is left out: the laws follow one size, not compute")
        budgets = []
    why = next(filter(None, (one.surface.why_no_costs for one in cases.values())), "")
    if budgets and why:
        notes.append(f"--budget is left out: {why}; give a column of FLOPs")
        budgets = []
    if targets and is_ladder:
        notes.append(
            "--target is left out of the comparison: each ladder has FLOPs of its own "
            "there; give --budget"
        )
        targets = []
    found = compare(
        fits,
        baseline=asked.baseline or None,
        budgets=budgets,
        targets=targets,
        values=[questions.target_value] if questions.target_value else [],
        seed=asked.settings.seed,
    )
    return dataclasses.replace(found, notes=(*notes, *found.notes))


def write(
    found: Comparison,
    workdir: epath.Path,
    folders: Mapping[str, str],
    title: str,
    with_page: bool = True,
) -> None:
    """Writes and prints a comparison.

    Args:
        found: the comparison.
        workdir: where it goes.
        folders: of the groups' own reports, in the workdir.
        title: of the page; "": the groups.
        with_page: whether a page is written, too.
    """
    write_json(workdir / "comparison.json", found.to_record())
    log(workdir, f"compared {', '.join(group.name for group in found.groups)}")
    lines = compare_screen.describe(found)
    if with_page:
        links = {name: f"{folder}/report.html" for name, folder in folders.items()}
        families.write_page(workdir / "report.html", found, links, title)
        lines.append(f"Report: {workdir / 'report.html'}")
    steps.end()
    for line in lines:
        console.print_line(line)


def _name_folders(names: Mapping[str, object]) -> dict[str, str]:
    """A folder for each group, whatever it is called; no two are the same."""
    folders: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:_LONGEST_NAME]
        folder, count = plain or "group", 1
        used = {other.lower() for other in folders.values()}
        while folder.lower() in used or is_taken(folder):
            count += 1
            folder = f"{plain or 'group'}_{count}"
        folders[name] = folder
    return folders

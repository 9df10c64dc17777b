"""Laws of the best rate: python -m scalepred.commands.recipe."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from absl import flags

from scalepred.config import UserError
from scalepred.recipe import KIND
from scalepred.runtime import command, steps

if TYPE_CHECKING:
    from etils import epath

    from scalepred.fitting.recipe import Best, RecipeLaw
    from scalepred.fitting.recipe.backtest import Hidden
    from scalepred.runtime.command import CommandResult

_USAGE = """\
Says which learning rate, weight decay or batch size is best at a size, from a sweep.

  python -m scalepred.commands.recipe runs/x --target=params=7B,data=1.4T
  python -m scalepred.commands.recipe runs.csv --workdir=DIR --target=params=7B

  TABLE        workdir of a study that swept rates, or a table of runs with a column of
               the knob (lr, weight_decay, batch_size) beside params, data and a value
  --target     sizes to say it of, as params=70B,data=1.4T; may be given more than once.
               A size that is left out is the largest of the sweep
  --workdir    where recipe.json and pictures go; the workdir itself, or nowhere
  --hide       fits the sizes of at most 1/RATIO of the largest m n, too, and prints how
               that law does at the others
  --knob       learning_rate, weight_decay or batch_size; all that vary if left out
  --column     that holds the knob, where its name does not tell
  --metric, --task, --where=COLUMN=VALUE, --columns=params=N,...  as for scalepred-fit
  --seed       of the draws (0)
  --json       prints what was found as JSON, for programs
"""

FLAGS = flags.FlagValues()
_TABLES = flags.DEFINE_multi_string("table", [], "Of runs.", flag_values=FLAGS)
_WORKDIR = flags.DEFINE_string("workdir", "", "For results.", flag_values=FLAGS)
_TARGETS = flags.DEFINE_multi_string("target", [], "Sizes.", flag_values=FLAGS)
_HIDE = flags.DEFINE_float("hide", 0.0, "Of the sizes.", flag_values=FLAGS)
_KNOB = flags.DEFINE_string("knob", "", "What was tried.", flag_values=FLAGS)
_COLUMN = flags.DEFINE_string("column", "", "That holds it.", flag_values=FLAGS)
_METRIC = flags.DEFINE_string("metric", None, "Of the runs.", flag_values=FLAGS)
_TASK = flags.DEFINE_string("task", None, "Of the runs.", flag_values=FLAGS)
_COLUMNS = flags.DEFINE_string("columns", "", "Ours=theirs.", flag_values=FLAGS)
_WHERE = flags.DEFINE_multi_string("where", [], "Rows that count.", flag_values=FLAGS)
_SEED = flags.DEFINE_integer("seed", 0, "Of the draws.", flag_values=FLAGS)
_JSON = flags.DEFINE_bool("json", False, "For programs.", flag_values=FLAGS)


def _run() -> CommandResult:
    from scalepred.commands.fit_flags import parse_target
    from scalepred.fitting.recipe import fit_sweep, read_sweeps
    from scalepred.fitting.recipe.backtest import hide_largest
    from scalepred.runtime.command import CommandResult
    from scalepred.runtime.files import open_path
    from scalepred.table.naming import parse_columns

    if len(_TABLES.value) != 1:
        raise UserError(
            f"{', '.join(_TABLES.value) or 'TABLE'}: give one table of runs, or the "
            "workdir of a study"
        )
    if _HIDE.value and not _HIDE.value > 1:
        raise UserError(f"--hide={_HIDE.value:g}: must be a number above 1")
    (table,) = _TABLES.value
    asked = [(text, parse_target(text)) for text in _TARGETS.value]
    path = open_path("TABLE", table)
    folder = open_path("--workdir", _WORKDIR.value) if _WORKDIR.value else None
    if folder is None and path.is_dir():
        folder = path
    if folder is not None:
        _check_free(folder)
    steps.begin(f"reading {table}")
    sweeps = read_sweeps(
        path,
        _KNOB.value,
        column=_COLUMN.value,
        metric=_METRIC.value,
        task=_TASK.value,
        named=parse_columns(_COLUMNS.value),
        where=_WHERE.value,
    )
    record: dict[str, Any] = {"kind": KIND, "table": table, "laws": {}}
    pictures = {}
    for sweep in sweeps:
        steps.begin(f"fitting the law of {sweep.knob}")
        law = fit_sweep(sweep, _SEED.value)
        targets = [_ask(law, text, sizes) for text, sizes in asked]
        hidden = hide_largest(sweep, _HIDE.value, _SEED.value) if _HIDE.value else []
        steps.end()
        _print(law, targets, hidden)
        record["laws"][law.knob] = describe(law, targets, hidden)
        if folder is not None:
            from scalepred.report import recipe_figure

            pictures[f"recipe_{law.knob}.png"] = recipe_figure.draw(law, targets)
    if folder is not None:
        _write(folder, record, pictures)
    return CommandResult(record)


def _ask(law: RecipeLaw, text: str, sizes: tuple[float, ...]) -> Best:
    """What the law says of a target."""
    names = ("params", "data", "epochs")
    own = {n: s for n, s in zip(names, sizes, strict=False) if s == s}
    try:
        return law.best(**own)
    except UserError as error:
        raise UserError(f"--target={text}: {error}") from None


def _print(law: RecipeLaw, targets: list[Best], hidden: list[Hidden]) -> None:
    from scalepred.report import recipe_words

    for line in recipe_words.describe(law):
        print(line)
    for best in targets:
        for line in recipe_words.describe_best(law, best):
            print(line)
    if hidden:
        print("\n".join(recipe_words.describe_hidden(law, hidden)))
    for note in law.sweep.notes:
        print(f"Note: {note}.")
    print()


def describe(
    law: RecipeLaw, targets: list[Best], hidden: list[Hidden]
) -> dict[str, Any]:
    """A law and what it says of targets, for programs; all that JSON can hold."""
    from scalepred.fitting.recipe.narrowing import narrow
    from scalepred.grid import read_programs
    from scalepred.report import recipe_words
    from scalepred.runtime.files import jsonable

    record = {
        "metric": law.sweep.metric,
        "data_unit": law.sweep.data_unit,
        "trained": read_programs(law.sweep.programs),
        "formula": recipe_words.formula(law),
        "rule": dict(zip(("base", "factor"), law.rule(), strict=True)),
        "num_runs": len(law.sweep.value),
        "sizes": law.largest,
        "exponents": {
            name: {**dataclasses.asdict(one), "is_seen": name in law.seen}
            for name, one in law.exponents.items()
        },
        "deviation": law.deviation,
        "diverges_from": law.safe_factor,
        "largest_setting": law.largest_setting,
        "bottoms": [one._asdict() for one in law.bottoms],
        "edges": [one._asdict() for one in law.edges],
        "hidden": [{**one._asdict(), "best": one.best._asdict()} for one in hidden],
        "targets": [
            {
                **best._asdict(),
                "regret": best.regret._asdict(),
                "next_sweep": narrow(law, best.sizes)._asdict(),
                "regret_of_largest": law.regret(
                    law.largest_setting, **best.sizes
                )._asdict(),
            }
            for best in targets
        ],
        "sentences": recipe_words.describe(law),
        "notes": list(law.sweep.notes),
    }
    return json.loads(json.dumps(jsonable(record)))


def _check_free(folder: epath.Path) -> None:
    """Refuses to replace a recipe.json or picture that is the user's own."""
    from scalepred.runtime.files import check_picture, list_files

    for picture in list_files(folder, ".png"):
        if picture.name.startswith("recipe_"):
            check_picture("--workdir", picture)
    path = folder / "recipe.json"
    if not path.exists():
        return
    try:
        is_ours = json.loads(path.read_text()).get("kind") == KIND
    except (OSError, ValueError, AttributeError):
        is_ours = False
    if not is_ours:
        raise UserError(
            f"{path}: was not written by this command, and would be replaced; move it "
            "away or choose another --workdir"
        )


def _write(
    folder: epath.Path, record: dict[str, Any], pictures: dict[str, bytes]
) -> None:
    from scalepred.runtime.files import write_json, write_whole

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "recipe.json", record)
    for name, content in pictures.items():
        write_whole(folder / name, content)
    print(
        f"{', '.join(['recipe.json', *pictures])} in {folder}; a study follows them "
        f"with --config.training.recipe={folder}"
    )


def main() -> None:
    """Entry point."""
    command.run(
        "scalepred.commands.recipe",
        _USAGE,
        FLAGS,
        _print_found,
        positional="table",
        keeps_rows=False,
    )


def _print_found() -> int:
    return command.run_and_print(_JSON.value, _run)


if __name__ == "__main__":
    main()

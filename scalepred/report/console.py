"""What the terminal shows: progress while training, and the answers at the end."""

import math
import sys
import time
from typing import TYPE_CHECKING, Any, Self, TextIO

from scalepred.fitting.answers import Answer
from scalepred.report import format, words
from scalepred.report.results import Results

if TYPE_CHECKING:
    from collections.abc import Sequence

    import rich.progress

    from scalepred.fitting.design.cells import NextCell
    from scalepred.fitting.fit import Fit
    from scalepred.forecasting.forecast import Verified
    from scalepred.forecasting.gate import Verdict

# A log file gets no more lines than this allows.
_SECONDS_BETWEEN_LINES = 5.0
# More targets than this stand in predictions.csv only.
_MAX_TARGETS = 12


class Progress:
    """Cells done, lanes busy and time left: a bar, or lines where there is no terminal.

    with Progress(num_cells) as progress:
        progress.update(num_done=12, lanes_busy=0.93, program="digits/mlp/width8")
    """

    def __init__(self, num_cells: int, file: TextIO | None = None):
        """Shows nothing yet.

        Args:
            num_cells: to train in this call.
            file: where to; None: standard error.
        """
        self._num_cells = num_cells
        self._file = file or sys.stderr
        self._num_done = 0
        self._lanes_busy = math.nan
        self._wait_seconds = math.nan
        self._started = self._last_line = 0.0
        self._bar: rich.progress.Progress | None = None

    def __enter__(self) -> Self:
        self._started = self._last_line = time.monotonic()
        if self._num_cells == 0:
            return self
        # Not above: fitting a table shows no progress.
        import rich.console
        import rich.progress

        console = rich.console.Console(file=self._file)
        if not console.is_terminal:
            _print_line(self._file, f"training {self._num_cells:,} cells")
            return self
        # Names of programs are no markup.
        self._bar = rich.progress.Progress(
            rich.progress.BarColumn(bar_width=24),
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("{task.fields[program]}", markup=False),
            console=console,
        )
        self._bar.start()
        self._task = self._bar.add_task(
            f"0 of {self._num_cells:,} cells", total=1.0, program="compiling"
        )
        return self

    def __exit__(self, error_type: type | None, *_: object) -> None:
        if self._num_cells == 0:
            return
        if self._bar is not None:
            self._bar.stop()
        took = format.duration(time.monotonic() - self._started)
        verb = "trained" if error_type is None else "stopped after"
        _print_line(
            self._file, f"{verb} {self._state()} in {took}{self._compilation()}"
        )

    def update(
        self,
        *,
        num_done: int,
        lanes_busy: float = math.nan,
        share_done: float | None = None,
        program: str = "",
        wait_seconds: float = math.nan,
    ) -> None:
        """Tells how far training is.

        Args:
            num_done: cells finished in this call.
            lanes_busy: live lane-steps over all lane-steps so far, 0 to 1.
            share_done: of all work, 0 to 1; cells differ a hundredfold in length, so
                that steps or FLOPs tell the time left better than cells. None: cells.
            program: what is being trained.
            wait_seconds: in which nothing was trained for want of a program.
        """
        self._num_done, self._lanes_busy = num_done, lanes_busy
        self._wait_seconds = wait_seconds
        now = time.monotonic()
        share = num_done / max(self._num_cells, 1) if share_done is None else share_done
        left = _time_left(share, now - self._started, wait_seconds)
        text = self._state() + left
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=share,
                description=text,
                program=format.printable(program),
            )
        elif now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            _print_line(self._file, f"{text}; {program}" if program else text)

    def _state(self) -> str:
        text = f"{self._num_done:,} of {self._num_cells:,} cells"
        if math.isfinite(self._lanes_busy):
            text += f", lanes {self._lanes_busy:.0%} busy"
        return text

    def _compilation(self) -> str:
        if not math.isfinite(self._wait_seconds):
            return ""
        return f", {format.duration(self._wait_seconds)} of it waiting for compilation"


def _time_left(share: float, elapsed: float, wait_seconds: float) -> str:
    """Waiting for a program comes once, so it is no part of the pace."""
    working = elapsed - (wait_seconds if math.isfinite(wait_seconds) else 0.0)
    if not 0 < share < 1 or working <= 0:
        return ""
    seconds = working * (1 - share) / share
    return f", about {format.duration(max(1, round(seconds)))} left"


def print_answers(results: Results, file: TextIO | None = None) -> None:
    """Prints headline, notes, warnings, answers, cost, then the result in five lines.

    The five lines are always there, in the same order: fit, held out, size, budget,
    compute; what was not asked says so.
    """
    out = file or sys.stdout
    if first := words.headline(results):
        _print_line(out, first)
    notes = dict.fromkeys((*results.surface.notes, *results.fit.notes))
    for note in notes:
        _print_line(out, f"note: {note}")
    for warning in results.fit.warnings:
        _print_line(out, f"warning [{warning.code}] {warning.sentence}")
    size = _find_answer(results, "data_needed", "params_needed")
    budget = _find_answer(results, "best_for_budget")
    for answer in results.answers:
        if answer is not size and answer is not budget:
            _print_line(
                out, f"answer: {words.describe_answer(answer, results.surface)}"
            )
    rows = words.targets(results)
    for row in rows[:_MAX_TARGETS]:
        _print_line(out, f"target: {words.describe_target(row, results)}")
    if len(rows) > _MAX_TARGETS:
        _print_line(out, f"target: {len(rows) - _MAX_TARGETS} more in predictions.csv")
    _print_line(out, f"cost: {words.describe_cost(results)}")
    lines = {
        "fit": words.describe_fit(results),
        "held out": words.describe_held_out(results),
        "size": "not asked: name a target value to learn the data it takes",
        "budget": "not asked: name a budget in FLOPs to learn the best model for it",
        "compute": words.describe_compute(results),
    }
    if size is not None:
        lines["size"] = words.describe_answer(size, results.surface)
    if budget is not None:
        lines["budget"] = words.describe_answer(budget, results.surface)
    for name, line in lines.items():
        _print_line(out, f"{name + ':':<10}{line}")


def print_verified(scores: "Sequence[Verified]", metric: str, unit: str) -> None:
    """Prints what was said and what was measured, the largest first."""
    for one in sorted(scores, key=lambda one: -one.compute):
        _print_line(sys.stdout, words.describe_verified(one, metric, unit))


def print_scores(scores: "Sequence[Verified]", metric: str, unit: str) -> None:
    """Prints each target that was measured: error, interval and log score."""
    insides = {
        "50": "inside the 50% interval",
        "90": "inside the 90% interval",
        "none": "outside the 90% interval",
        "unknown": "its interval is not known",
    }
    for one in sorted(scores, key=lambda one: -one.compute):
        _print_line(
            sys.stdout,
            f"{words.describe_verified(one, metric, unit)}: relative error "
            f"{format.percent(one.relative_error)}, {insides[one.inside]}, log score "
            f"{one.log_score:.2f}",
        )


def print_saved(
    fit: "Fit", answers: "Sequence[Answer]", said: "Sequence[dict[str, Any]]"
) -> None:
    """Prints what a saved fit answers."""
    for target in said:
        _print_line(sys.stdout, words.describe_said(target, fit.surface))
    for answer in answers:
        _print_line(sys.stdout, f"answer: {words.describe_answer(answer, fit.surface)}")


def print_plan(cells: "Sequence[NextCell]", unit: str, cost: str) -> None:
    """Prints the runs to do next, what each costs and what it is worth."""
    if not cells:
        _print_line(sys.stdout, "plan: nothing that the budget buys would help")
    for cell in cells:
        _print_line(sys.stdout, f"plan: {words.describe_cell(cell, unit, cost)}")


def print_verdicts(verdicts: "Sequence[Verdict]") -> None:
    """Prints which gates are passed."""
    for gate, chance, passed in verdicts:
        says = "passed" if passed else "NOT passed"
        known = "not known" if math.isnan(chance) else f"{chance:.3f}"
        _print_line(sys.stdout, f"gate {gate.text}: {says}, probability {known}")


def _find_answer(results: Results, *questions: str) -> Answer | None:
    """The first answer to one of the questions."""
    for answer in results.answers:
        if answer.question in questions:
            return answer
    return None


def _print_line(file: TextIO, text: str) -> None:
    """One line, in whatever letters the file can hold."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    line = format.printable(text).encode(encoding, "replace").decode(encoding)
    print(line, file=file, flush=True)

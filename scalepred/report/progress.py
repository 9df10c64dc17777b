"""How far training is: a bar and the time left, or lines where there is no terminal."""

import math
import sys
import time
from typing import Self, TextIO

from scalepred.report import format
from scalepred.report.console import print_line
from scalepred.runtime import steps

# The name of what is trained is left out where less than this is left for it.
_SHORTEST_NAME = 12


class Progress:
    """Cells done, lanes busy and time left.

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
        self._share_done = 0.0
        self._program = "compiling"
        self._started = self._last_line = 0.0
        self._line: steps.Line | None = None

    def __enter__(self) -> Self:
        self._started = self._last_line = time.monotonic()
        if self._num_cells == 0:
            return self
        steps.end()
        if steps.is_terminal(self._file):
            self._line = steps.Line(self._file, self._fit_line)
            self._line.start()
        else:
            print_line(f"training {self._num_cells:,} cells", self._file)
        return self

    def __exit__(self, error_type: type | None, *_: object) -> None:
        if self._num_cells == 0:
            return
        if self._line is not None:
            self._line.stop()
        took = format.duration(time.monotonic() - self._started)
        verb = "trained" if error_type is None else "stopped after"
        said = f"{verb} {self._state()} in {took}{self._compilation()}"
        print_line(said, self._file)

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
        share = num_done / max(self._num_cells, 1) if share_done is None else share_done
        self._share_done, self._program = share, format.printable(program)
        if self._line is not None:
            self._line.draw()
            return
        now = time.monotonic()
        if now - self._last_line >= steps.SECONDS_BETWEEN_LINES:
            self._last_line = now
            text = self._state() + self._time_left()
            print_line(f"{text}; {program}" if program else text, self._file)

    def _state(self) -> str:
        text = f"{self._num_done:,} of {self._num_cells:,} cells"
        if math.isfinite(self._lanes_busy):
            text += f", lanes {self._lanes_busy:.0%} busy"
        return text

    def _compilation(self) -> str:
        if not math.isfinite(self._wait_seconds):
            return ""
        return f", {format.duration(self._wait_seconds)} of it waiting for compilation"

    def _time_left(self) -> str:
        """Waiting for a program comes once, so it is no part of the pace."""
        waited = self._wait_seconds if math.isfinite(self._wait_seconds) else 0.0
        working = time.monotonic() - self._started - waited
        share = self._share_done
        if not 0 < share < 1 or working <= 0:
            return ""
        seconds = working * (1 - share) / share
        return f", about {format.duration(max(1, round(seconds)))} left"

    def _fit_line(self, columns: int) -> str:
        """The line of a terminal: bar, cells and time left always, the rest if it fits.

        60 columns hold the first three.
        """
        cells = f"{self._num_done:,} of {self._num_cells:,} cells"
        left = self._time_left()
        if not left:
            left = f" ... {steps.clock(time.monotonic() - self._started)}"
        bar = _draw_bar(self._share_done, 10 if columns < 120 else 24)
        text = f"{bar} {cells}{left}"
        full = f"{bar} {self._state()}{left}"
        if len(full) > columns:
            return text
        room = columns - len(full) - 2
        if room < _SHORTEST_NAME or not self._program:
            return full
        return f"{full}  {cut_middle(self._program, room)}"


def _draw_bar(share: float, columns: int) -> str:
    full = round(min(max(share, 0.0), 1.0) * columns)
    return "━" * full + "─" * (columns - full)


def cut_middle(text: str, length: int) -> str:
    """The text, or its two ends where it is longer: both tell programs apart."""
    if len(text) <= length:
        return text
    end = (length - 1) // 2
    return f"{text[: length - 1 - end]}…{text[len(text) - end :]}"

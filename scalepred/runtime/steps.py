"""What a command is doing: a line of the terminal that changes, or lines of a log.

    steps.show()                  the command alone does so; Python users see nothing
    steps.begin("fitting the law")
    steps.begin("drawing figures")
    steps.end()                   before anything else is printed

A terminal has one line, written over a few times a second by a thread, as most steps
are one long computation. A log gets a line when a step lasts, and not more than one in
five seconds.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_DRAWINGS = 0.25
_SECONDS_TO_REPEAT = 30.0  # a step that goes on is said again in a log
_WIDEST = 200
# For terminals of few letters.
_PLAIN = str.maketrans(
    {"\N{MINUS SIGN}": "-", "±": "+-", "…": "...", "━": "#", "─": "-", "·": "-"}
)


def is_terminal(file: TextIO) -> bool:
    """Whether a line of it can be written over."""
    return file.isatty() and os.environ.get("TERM") != "dumb"


def find_width(file: TextIO) -> int:
    """Columns of a terminal, at most 200; COLUMNS says otherwise."""
    told = os.environ.get("COLUMNS", "")
    if told.isdigit() and int(told):
        return min(int(told), _WIDEST)
    try:
        return min(os.get_terminal_size(file.fileno()).columns or 80, _WIDEST)
    except (OSError, ValueError):
        return 80


def writable(text: str, file: TextIO) -> str:
    """The text in letters that the file can hold."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
    return text


class Line:
    """The last line of a terminal, written over until it is stopped."""

    def __init__(self, file: TextIO, make: Callable[[int], str]):
        """Writes nothing yet.

        Args:
            file: a terminal.
            make: the text, by the columns there are.
        """
        self._file, self._make = file, make
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def draw(self) -> None:
        """Writes the line as it is now."""
        columns = find_width(self._file) - 1  # the last one would move the cursor on
        text = writable(self._make(columns), self._file)[:columns]
        self._file.write(f"\r{text}\x1b[K")
        self._file.flush()

    def stop(self) -> None:
        """Takes the line away."""
        self._stopped.set()
        self._thread.join()
        self._file.write("\r\x1b[K")
        self._file.flush()

    def _run(self) -> None:
        while not self._stopped.wait(_SECONDS_BETWEEN_DRAWINGS):
            self.draw()


class Steps:
    """The step that a command is at, and for how long."""

    def __init__(self, file: TextIO):
        self._file = file
        self._text, self._since, self._share = "", 0.0, 0.0
        self._said, self._last_line = "", time.monotonic()
        self._line: Line | None = None
        self._watch: threading.Thread | None = None
        self._ended = threading.Event()

    def begin(self, text: str) -> None:
        """The step before is over, and this one begins."""
        self._text, self._since, self._share = text, time.monotonic(), 0.0
        if is_terminal(self._file):
            if self._line is None:
                self._line = Line(self._file, self._describe)
                self._line.start()
        elif self._watch is None:
            self._ended.clear()
            self._watch = threading.Thread(target=self._run, daemon=True)
            self._watch.start()

    def tell(self, share: float) -> None:
        """How much of the step is done, 0 to 1."""
        self._share = share

    def end(self) -> None:
        """No step is being done, until one begins."""
        if self._line is not None:
            self._line.stop()
            self._line = None
        if self._watch is not None:
            self._ended.set()
            self._watch.join()
            self._watch = None

    def say(self) -> None:
        """Prints the step to a log, unless that was done lately."""
        now = time.monotonic()
        passed = now - self._last_line
        is_news = self._text != self._said
        if passed < (SECONDS_BETWEEN_LINES if is_news else _SECONDS_TO_REPEAT):
            return
        self._said, self._last_line = self._text, now
        print(self._describe(_WIDEST), file=self._file, flush=True)

    def _describe(self, columns: int) -> str:
        passed = time.monotonic() - self._since
        after = f" ... {clock(passed)}"
        if 0 < self._share < 1:
            after += f", about {clock(passed / self._share - passed)} left"
        return self._text[: columns - len(after)] + after

    def _run(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN_DRAWINGS):
            self.say()


def clock(seconds: float) -> str:
    """0:07, 12:34."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02}"


_shown: Steps | None = None


def show(file: TextIO | None = None) -> None:
    """From now on steps are shown; None: on standard error."""
    global _shown
    end()
    _shown = Steps(file or sys.stderr)


def hide() -> None:
    """From now on nothing is shown: of several processes one speaks."""
    global _shown
    end()
    _shown = None


def begin(text: str) -> None:
    """Says what is done from now on, where steps are shown."""
    if _shown is not None:
        _shown.begin(text)


def tell(share: float) -> None:
    """How much of what is done now is done, 0 to 1; it need not be known."""
    if _shown is not None:
        _shown.tell(share)


def end() -> None:
    """Takes away what is shown, before something else is printed."""
    if _shown is not None:
        _shown.end()

"""How far a command is, as a terminal of any width and a log file show it."""

import io
import re
import time

import pytest

from scalepred.report import progress
from scalepred.report.progress import Progress
from scalepred.runtime import steps


class _Clock:
    """Time that moves only when told."""

    def __init__(self, monkeypatch, module):
        self.now = 100.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


def test_progress_in_a_file_is_few_lines(monkeypatch):
    clock, file = _Clock(monkeypatch, progress), io.StringIO()
    with Progress(100, file) as bar:
        for done in range(1, 101):
            clock.now += 0.2
            bar.update(
                num_done=done,
                lanes_busy=0.93,
                share_done=done / 100,
                program="digits/mlp",
                wait_seconds=2.0,
            )
    lines = file.getvalue().splitlines()

    assert lines[0] == "training 100 cells"
    assert 3 <= len(lines[1:-1]) <= 4  # 20 s, one line each 5 s
    # A quarter took 5 s, 2 of them compiling.
    assert lines[1].startswith("25 of 100 cells, lanes 93% busy, about 9 s left")
    assert lines[1].endswith("digits/mlp")
    assert lines[-1] == (
        "trained 100 of 100 cells, lanes 93% busy in 20 s, "
        "2 s of it waiting for compilation"
    )


def test_progress_that_breaks_off_says_so():
    file = io.StringIO()

    def train() -> None:
        with Progress(9, file) as bar:
            bar.update(num_done=4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert file.getvalue().splitlines()[-1].startswith("stopped after 4 of 9 cells")


def test_nothing_to_train_prints_nothing():
    file = io.StringIO()
    with Progress(0, file):
        pass
    assert file.getvalue() == ""


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


PROGRAM = "digits/mlp/width128/depth2/batch32/sgd-nesterov/float32"


@pytest.mark.parametrize("columns", [58, 60, 80, 100, 200])
def test_a_terminal_of_any_width_has_bar_cells_and_time_left(monkeypatch, columns):
    clock = _Clock(monkeypatch, progress)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    file = _Terminal()
    with Progress(1048, file) as bar:
        clock.now += 60
        bar.update(
            num_done=416, lanes_busy=1.0, share_done=0.02, program=f"[red]{PROGRAM}"
        )
    *drawn, last = re.split(r"[\r\n]", file.getvalue().replace("\x1b[K", "").strip())
    line = drawn[-2] if not drawn[-1] else drawn[-1]
    assert max(len(part) for part in drawn) < columns
    assert "─" in line
    assert "416 of 1,048 cells" in line
    assert "about 49 min 0 s left" in line
    assert ("lanes 100% busy" in line) == (columns >= 80)
    # As it is, no markup; what is too long loses its middle.
    assert ("  [red]dig" in line) == (columns >= 100)
    assert line.endswith("float32") == (columns >= 100)
    assert last.startswith("trained 416 of 1,048 cells")


def test_a_long_name_loses_its_middle():
    assert progress.cut_middle("abcdefghij", 10) == "abcdefghij"
    assert progress.cut_middle("abcdefghij", 7) == "abc…hij"
    assert len(progress.cut_middle(PROGRAM, 20)) == 20


@pytest.fixture
def shown():
    """A file of steps; nothing is shown any more after the test."""

    def show(file):
        steps.show(file)
        return file

    yield show
    steps.hide()


def test_python_users_see_no_steps(capsys):
    steps.begin("fitting the law")
    steps.tell(0.5)
    steps.end()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_the_step_at_once_and_takes_it_away(shown, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    file = shown(_Terminal())
    steps.begin("fitting the law")
    deadline = time.monotonic() + 2  # nothing is silent for longer
    while "fitting the law ... 0:0" not in file.getvalue():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    steps.begin("drawing " + "figures" * 20)
    while "drawing" not in file.getvalue():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    steps.end()
    text = file.getvalue()
    assert "\n" not in text
    assert text.endswith("\r\x1b[K")
    assert max(map(len, text.replace("\x1b[K", "").split("\r"))) < 60
    assert "... 0:0" in text.replace("\x1b[K", "").split("\r")[-2]  # the clock stays


def test_a_log_has_a_line_of_each_long_step_only(monkeypatch):
    clock, file = _Clock(monkeypatch, steps), io.StringIO()
    one = steps.Steps(file)
    for text, seconds in (("reading", 1), ("fitting", 12), ("drawing", 40)):
        one._text, one._since, one._share = text, clock.now, 0.0
        for _ in range(seconds):
            clock.now += 1
            one.say()
    assert file.getvalue().splitlines() == [
        "fitting ... 0:04", "drawing ... 0:01", "drawing ... 0:31",
    ]  # fmt: skip


def test_the_time_left_is_told_where_it_is_known(monkeypatch):
    clock = _Clock(monkeypatch, steps)
    one = steps.Steps(io.StringIO())
    one._text, one._since = "fitting", clock.now
    clock.now += 60
    assert one._describe(80) == "fitting ... 1:00"
    one.tell(0.25)
    assert one._describe(80) == "fitting ... 1:00, about 3:00 left"


def test_letters_that_a_file_cannot_hold_are_written_plainly():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert steps.writable("−4.5% ± 1% … ü", file) == "-4.5% +- 1% ... ?"
    assert steps.writable("−4.5%", io.StringIO()) == "−4.5%"

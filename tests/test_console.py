"""Progress and the closing answers, as a terminal or a log file shows them."""

import dataclasses
import io

import pytest
from example_results import ODD, grid

from scalepred.fitting.warn import Warn
from scalepred.report import console, format, words

LABELS = ["fit:", "held out:", "size:", "budget:", "compute:"]


def _print(results) -> list[str]:
    file = io.StringIO()
    console.print_answers(results, file)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("kind", ODD)
def test_ends_in_five_lines_whatever_there_is(kind):
    lines = _print(ODD[kind]())

    assert [line[:10].strip().split(":")[0] + ":" for line in lines[-5:]] == LABELS
    assert all(line.isprintable() for line in lines)
    assert not any("nan" in line.split() for line in lines)


def test_five_lines_carry_the_numbers():
    results = grid()
    fit, held_out, size, budget, compute = _print(results)[-5:]

    score = results.scores[1]
    assert format.mean_and_std(score.mean, score.std) in held_out
    assert f"{score.num_points} points" in held_out
    assert f"{len(results.fit.surface)} points" in fit
    assert words.describe_answer(results.answers[0], results.surface) in size
    assert words.describe_answer(results.answers[1], results.surface) in budget
    assert words.describe_compute(results) in compute


def test_warnings_notes_and_further_answers_come_before():
    results = grid()
    results = dataclasses.replace(
        results,
        surface=dataclasses.replace(results.surface, notes=("two rows left out",)),
        fit=dataclasses.replace(
            results.fit, extra_warnings=(Warn("few_points", "rests"),)
        ),
    )

    lines = _print(results)[:-5]

    assert "note: two rows left out" in lines
    assert "warning [few_points] rests" in lines
    assert sum(line.startswith("answer: ") for line in lines) == 3
    assert sum(line.startswith("target: ") for line in lines) == 1


def test_says_what_was_not_asked_and_not_held_out():
    *_, held_out, size, budget, compute = _print(ODD["few_points"]())
    assert "no point was held out" in held_out
    assert "not asked" in size
    assert "not asked" in budget
    assert "nothing larger was predicted" in compute


def test_terminal_without_unicode():
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    console.print_answers(grid(), file)
    assert b"held out:" in raw.getvalue()


class _Clock:
    """Time that moves only when told."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(console.time, "monotonic", lambda: self.now)


def test_progress_in_a_file_is_few_lines(monkeypatch):
    clock, file = _Clock(monkeypatch), io.StringIO()
    with console.Progress(100, file) as progress:
        for done in range(1, 101):
            clock.now += 0.2
            progress.update(
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
        with console.Progress(9, file) as progress:
            progress.update(num_done=4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert file.getvalue().splitlines()[-1].startswith("stopped after 4 of 9 cells")


def test_nothing_to_train_prints_nothing():
    file = io.StringIO()
    with console.Progress(0, file):
        pass
    assert file.getvalue() == ""


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    file = _Terminal()
    with console.Progress(2, file) as progress:
        progress.update(num_done=1, lanes_busy=0.5, program="[red]mlp[/red]")
        progress.update(num_done=2, lanes_busy=0.5, program="[red]mlp[/red]")
    shown = file.getvalue()
    assert "━" in shown
    assert "[red]mlp[/red]" in shown
    assert "trained 2 of 2 cells" in shown.splitlines()[-1]

"""The closing answers, as terminals of any width and log files show them."""

import dataclasses
import io
import re

import pytest
from example_results import ODD, grid

from scalepred.fitting.warn import Warn
from scalepred.report import console, format, words
from scalepred.report.verdict import cards


def _print(results, **how) -> list[str]:
    file = io.StringIO()
    console.print_answers(results, file, **how)
    return file.getvalue().splitlines()


def _named(lines: list[str]) -> dict[str, list[str]]:
    """Texts by the name that they stand behind."""
    found: dict[str, list[str]] = {}
    for line in lines[1:-1]:
        assert line.startswith("  ")
        found.setdefault(line[2:11].strip(), []).append(line[11:])
    return found


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("kind", ODD)
def test_answers_come_first_whatever_there_is(kind, verbose):
    results = ODD[kind]()
    lines = _print(results, verbose=verbose, report="runs/x/report.html")

    assert format.printable(words.describe_title(results)) == lines[0]
    assert lines[1].startswith("  trust    ")
    assert lines[-1].startswith("Report: runs/x/report.html")
    assert ("--verbose" in lines[-1]) != verbose
    assert {"trust", "worth"} <= _named(lines).keys()
    assert all(line.isprintable() for line in lines)
    assert not any("nan" in line.split() for line in lines)
    if kind != "nasty":
        assert not re.search(r"\de[+]\d|params=|out of reach|-0%", "\n".join(lines))


def test_lines_carry_the_numbers():
    results = grid()
    lines = _print(results)
    named = _named(lines)

    assert lines[0] == "Grid: 30 sizes in 60 runs, 15 fitted, 15 held out"
    trust, _, worth = cards(results)
    assert named["trust"][0].startswith(trust.headline)
    assert trust.badge in named["trust"][0]
    assert named["worth"][0].startswith(worth.headline)
    (target,) = words.targets(results)
    assert named["target"] == [words.describe_target(target, results)]
    sentences = [words.describe_answer(one, results.surface) for one in results.answers]
    data, budget, never, size, cheapest = sentences
    assert named["data"][0].startswith(f"{data}; measured: ")
    assert named["data"][1].startswith(never)
    assert named["size"][0].startswith(size)
    assert named["budget"][0].startswith(budget)
    assert named["cheapest"][0].startswith(cheapest)


def test_where_nothing_was_asked_twice_the_data_are_told():
    (more,) = _named(_print(ODD["few_points"]()))["more"]
    assert more.startswith("How much do twice as many examples help? From ")


def test_the_weightiest_warnings_are_shown_and_the_rest_counted():
    results = grid()
    codes = ("plateau_points", "outliers", "low_coverage", "few_points", "bound_hit")
    found = tuple(Warn(code, f"{code} is so (an aside)") for code in codes)
    fit = dataclasses.replace(results.fit)
    vars(fit)["warnings"] = found
    results = dataclasses.replace(results, fit=fit)

    named = _named(_print(results))
    assert named["warning"] == [
        "low_coverage is so", "few_points is so", "outliers is so"
    ]  # fmt: skip
    assert named[""] == ["2 more: --verbose or the page"]
    named = _named(_print(results, verbose=True))
    assert named["warning"][0] == (
        f"low_coverage is so (an aside); {found[2].advice} [low_coverage, stops]"
    )
    assert len(named["warning"]) == 3
    assert any("[bound_hit, note]" in line for line in named["note"])
    assert {"fit", "held out", "cost", "compute"} <= named.keys()


def test_what_a_table_was_taken_for_is_never_missed():
    results = grid()
    notes = ("seeds are averaged", "two names", "5 of 65 rows are left out", "one more")
    surface = dataclasses.replace(results.surface, notes=notes)
    results = dataclasses.replace(results, surface=surface)

    assert _named(_print(results))["table"] == [
        "5 of 65 rows are left out",
        "seeds are averaged (2 more: --verbose or the page)",
    ]
    assert {*notes} <= {*_named(_print(results, verbose=True))["note"]}


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [40, 60, 80, 120, 200])
def test_a_terminal_has_no_line_that_is_too_long_nor_a_broken_word(
    monkeypatch, columns
):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    file = _Terminal()
    console.print_answers(grid(), file)
    lines = file.getvalue().splitlines()

    assert max(map(len, lines)) <= max(columns, 60)
    whole = " ".join(_print(grid()))
    assert " ".join(file.getvalue().split()) == " ".join(whole.split())


def test_terminal_without_unicode():
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    console.print_answers(grid(), file, verbose=True)
    assert b"  held out " in raw.getvalue()
    assert b" +- " in raw.getvalue()


def test_what_is_unchecked_says_which_flag_checks_it():
    (trust,) = _named(_print(ODD["few_points"]()))["trust"]
    assert trust.startswith("Unchecked: nothing was held out; ")
    assert "no run was held out" not in trust
    assert "--fit_max_compute_ratio=" in trust

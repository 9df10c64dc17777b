"""The README as a newcomer meets it: short, and every command and snippet runs."""

import pathlib
import re

import pytest
from etils import epath

from scalepred.report import words
from scripts import run_pages, score_forecasts

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_it_is_short():
    assert len(README.splitlines()) < 150


def test_it_begins_with_a_sentence_a_picture_and_how_to_install():
    beginning = "\n".join(README.splitlines()[:20])
    (picture,) = re.findall(r"!\[([^]]+)\]\(([^)]+)\)", beginning)
    assert len(picture[0]) > 20, "it says what is seen"
    assert (ROOT / picture[1]).is_file()
    assert "pip install" in beginning
    assert "arxiv.org/abs/1909.12673" in beginning


def test_commands_and_snippets_print_what_is_written(tmp_path):
    said = run_pages.play(README, tmp_path)
    assert len(said) == 2
    for block, printed in said:
        assert run_pages.agree(block.text, printed), (
            f"{block.text}\nis now\n{printed}\n"
            "python scripts/run_pages.py --refresh writes it"
        )
    assert (tmp_path / "runs/points/report.html").is_file()


def test_quoted_forecast_is_the_committed_one():
    """The quickstart's answer, made from the rows in docs/results/forecasts."""
    _, scores = score_forecasts.score(
        epath.Path(ROOT / "docs" / "results" / "forecasts" / "python")
    )
    (one,) = scores
    assert f"```text\n{words.describe_verified(one, 'loss', 'bytes')}\n```" in README


def test_quoted_errors_are_those_of_the_benchmarks():
    """From 1/50 of the compute: of the eight studies, and of those not chosen by."""
    benchmarks = (ROOT / "docs" / "benchmarks.md").read_text()
    rows = re.findall(r"^\| 1/50 \|.*\*\*(.*)%\*\* \((\d+)%\)", benchmarks, re.M)
    (chosen, inside), (others, others_inside) = (
        (f"{float(error):.1f} %", f"{coverage} %") for error, coverage in rows
    )
    assert (
        f"`law=auto` errs by {chosen} and its 90 % intervals hold {inside} of the "
        f"points; on studies that nothing was chosen by, {others} and {others_inside}."
    ) in README
    trust = (ROOT / "docs" / "trust.md").read_text()
    assert f"{chosen} over eight public studies; {others} over five" in trust


@pytest.mark.parametrize(
    ("written", "printed", "is_same"),
    [
        ("a loss of 2.258 nats\n", "a loss of 2.26 nats", True),
        ("a loss of 2.258 nats\n", "a loss of 2.5 nats", False),
        ("a loss of 2.258 nats\n", "an error of 2.258 nats", False),
        ("off by 0.7%", "off by 0.8%", True),  # a digit
        ("off by 0.7%", "off by 0.9%", False),
        ("1,176 runs", "1,176 runs", True),
        ("1,176 runs", "176 runs", False),
        ("3.03e21 FLOPs", "3.1e21 FLOPs", True),
        ("3.03e21 FLOPs", "3.03e22 FLOPs", False),
        ("two lines\nhere", "two lines here", True),  # a narrower terminal
    ],
)
def test_outputs_are_compared_by_words_and_near_numbers(written, printed, is_same):
    assert run_pages.agree(written, printed) == is_same

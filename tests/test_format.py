"""Numbers as people write them: one form each, and read back what was written."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepred.report import format
from scalepred.table import numbers


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (4100, "4,100"),
        (4132.7, "4,130"),
        (999_999, "999,999"),
        (999_999.5, "1M"),
        (57_216_000, "57.2M"),
        (999_999_999, "1B"),
        (1.234e9, "1.23B"),
        (7e10, "70B"),
        (1.4e12, "1.4T"),
        (9.999e14, "1e15"),
        (5.75e23, "5.75e23"),
        (26_122.4, "26,100"),
        (-1500, "−1,500"),
        (-2.5e6, "−2.5M"),
        (0.0123, "0.0123"),
        (1.5e-7, "1.5e-7"),
        (0, "0"),
        (math.inf, "never"),
        (math.nan, "n/a"),
    ],
)
def test_counts(number, text):
    assert format.count(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (5.8e23, "5.8e23"),
        (1.2345e21, "1.23e21"),
        (9.999e9, "1e10"),
        (85_002, "8.5e4"),
        (600, "600"),
        (0, "0"),
        (math.inf, "never"),
        (math.nan, "n/a"),
    ],
)
def test_flops_have_one_form(number, text):
    assert format.flops(number) == text


def test_values_and_percentages():
    assert format.measured(0.0421, "error") == "4.21%"
    assert format.measured(0.02, "error") == "2.00%"
    assert format.measured(20.0, "error") == "2,000%"
    assert format.measured(2e-7, "error") == "2e-5%"
    assert format.measured(2.1, "loss") == "2.100 nats"
    assert format.measured(2.00612, "loss") == "2.006 nats"
    assert format.measured(12_345.6, "perplexity") == "12,350"
    assert format.wanted(0.05, "error") == "5%"
    assert format.wanted(1.95, "loss") == "1.95 nats"
    assert format.percent(-0.0449) == "−4.5%"
    assert format.percent(-1e-9) == "0%"
    assert format.percent(-0.0004) == "−0.04%"
    assert format.percent(0.9996) == "100.0%"
    assert format.percent(12.34) == "1,230%"
    assert format.percent(math.nan) == "n/a"
    assert format.number(-0.38123) == "−0.3812"
    assert format.number(1.60908e9) == "1.609e9"
    assert format.duration(3725) == "1 h 2 min"
    assert format.duration(59.9) == "1 min 0 s"


def test_intervals_have_their_unit_at_both_ends_or_at_none():
    assert format.ends(0.025, 0.0612, "error") == "2.50% to 6.12%"
    assert format.ends(1.9213, 2.0876, "loss") == "1.92 to 2.09"
    assert format.ends(2.0012, 2.0049, "loss") == "2.001 to 2.005"  # too near for three
    assert format.ends(1.9, math.inf, "loss") == "1.90 to any value"
    assert format.ends(math.nan, math.nan, "loss") == ""
    assert format.ends(2.0, 2.0, "loss") == ""
    assert format.interval(360, math.inf) == " (90% interval 360 to perhaps never)"
    assert format.interval(1.2e9, 3.4e9) == " (90% interval 1.2B to 3.4B)"
    assert format.interval(1e20, 3e21, format.flops) == (" (90% interval 1e20 to 3e21)")
    assert format.interval(math.inf, math.inf) == ""


def test_ratios_are_words():
    assert format.ratio(2413, 1) == "2,400"
    assert format.ratio(3.14e6, 1) == "3.1 million"
    assert format.ratio(2.2e11, 1) == "2.2e11"


@pytest.mark.parametrize("size", [1, 4100, 85_002, 5.72e7, 1.29e9, 5.6e12, 3e17])
def test_sizes_are_read_back(size):
    assert numbers.parse(format.count(size)) == pytest.approx(size, rel=5e-3)
    assert numbers.parse(format.flops(size)) == pytest.approx(size, rel=5e-3)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (6250, "6250"),
        (999_999.7, "1M"),
        (16_000_000, "16M"),
        (1_234_567_890, "1.23457B"),
        (1.4e12, "1.4T"),
        (1e15, "1e15"),
        (1.2e21, "1.2e21"),
        (2.5e-5, "2.5e-5"),
    ],
)
def test_sizes_as_flags_take_them(number, text):
    assert numbers.write_size(number) == text


@given(st.floats(1e-6, 1e30))
def test_sizes_are_read_back_to_six_digits(number):
    """So a target that a sentence names can be given as it stands there."""
    text = numbers.write_place(number, 7e9)
    params, data = text.split(",")
    assert data == "data=7B"
    read = numbers.parse(params.removeprefix("params="))
    assert read == pytest.approx(number, rel=1e-5)

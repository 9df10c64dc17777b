"""Fits side by side: known answers, honest intervals, shared noise that cancels."""

import dataclasses
import functools
import json
import math
import re

import numpy as np
import pytest

import scalepred
from scalepred import comparing
from scalepred.config import UserError
from scalepred.fitting import differences, pairing
from scalepred.fitting.comparison import Comparison, Pair, compare
from scalepred.fitting.fit import Fit
from scalepred.fitting.predict import Estimate
from scalepred.report import arms_words, compare_screen, compare_words
from scalepred.report.page import families
from scalepred.table.surface import Surface

pytestmark = pytest.mark.usefixtures("undrawn")

_M, _N = (
    size.ravel()
    for size in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(2e8, 2e10, 5))
)
NASTY = "</script><script>alert('x')</script>"


def _law(m, n, floor=1.7, a=400.0, alpha=0.34):
    return floor + a * m**-alpha + 410.0 * n**-0.28


def _frontier(budget, **law):
    """The least value that 6 m n = budget buys, by trying."""
    m = np.geomspace(1e4, 1e16, 200_001)
    return float(np.min(_law(m, budget / 6 / m, **law)))


def _table(value, names="0", noise=0.0, shared=None, share=0.0, rng=None, **about):
    """Runs of a law; of their noise a share (of the variance) is `shared` with others.

    Args:
        value: of the law [points].
        names: a letter for each seed.
        noise: standard deviation in ln.
        shared: standard normal [seeds, points].
        share: 0 to 1.
        rng: of the rest.
    """
    seeds = len(names)
    drawn = np.zeros((seeds, len(value)))
    if rng is not None:
        drawn = math.sqrt(1 - share) * rng.standard_normal(drawn.shape)
    if shared is not None:
        drawn = drawn + math.sqrt(share) * shared
    about = {"metric": "loss", "data_unit": "tokens", **about}
    return Surface.from_arrays(
        np.tile(_M, seeds),
        np.tile(_N, seeds),
        (value * np.exp(noise * drawn)).ravel(),
        seed=np.repeat(list(names), len(value)),
        **about,
    )


def _pair(trial, shift, names, share, noise=0.005, resamples=200) -> dict[str, Fit]:
    """Two fits whose laws differ by `shift` and whose noise is shared in part."""
    shared = np.random.default_rng([trial, 0]).standard_normal((len(names), len(_M)))
    fits = {}
    for number, (name, factor) in enumerate((("a", 1.0), ("b", 1.0 + shift)), 1):
        rng = np.random.default_rng([trial, number])
        table = _table(factor * _law(_M, _N), names, noise, shared, share, rng)
        fits[name] = scalepred.fit(table, "chinchilla", resamples=resamples)
    return fits


def _unpaired(fits: dict[str, Fit]) -> dict[str, Fit]:
    """The same fits, as if no size of the one were a size of the other."""
    moved = {}
    for number, (name, fit) in enumerate(fits.items()):
        surface = fit.surface
        own = dataclasses.replace(surface, data=surface.data * (1 + 1e-4 * number))
        estimate = dataclasses.replace(fit.estimate, surface=own)
        moved[name] = dataclasses.replace(fit, estimate=estimate)
    return moved


@functools.cache
def _known() -> Comparison:
    """Three laws with little noise: b is 10 % lower, c crosses a."""
    laws = {
        "a": _law(_M, _N),
        "b": 0.9 * _law(_M, _N),
        "c": _law(_M, _N, floor=1.5, a=620.0),
    }
    fits = {
        name: scalepred.fit(
            _table(value, noise=5e-4, rng=np.random.default_rng(number)),
            "chinchilla",
            resamples=100,
        )
        for number, (name, value) in enumerate(laws.items())
    }
    return compare(fits, budgets=[1e20, 1e21], targets=[(1e9, 1e11)], values=[2.5, 1.0])


def _of(found: Comparison, name: str) -> Pair:
    return next(pair for pair in found.pairs if pair.second == name)


def test_a_law_ten_percent_lower_is_ten_percent_better() -> None:
    pair = _of(_known(), "b")
    for place in (*pair.places, *pair.targets):
        assert place.relative.value == pytest.approx(-0.1, abs=0.004)
        assert place.relative.lower <= -0.1 <= place.relative.upper
        assert place.better == 1.0
    assert pair.headline.verdict == "second"
    assert pair.crossing.chance == 0.0
    np.testing.assert_allclose(pair.difference.value, -0.1, atol=0.01)


def test_values_are_those_of_the_frontier() -> None:
    pair = _of(_known(), "c")
    for place in pair.places:
        budget = place.at["budget"]
        assert place.first.value == pytest.approx(_frontier(budget), rel=3e-3)
        c = _frontier(budget, floor=1.5, a=620.0)
        assert place.second.value == pytest.approx(c, rel=3e-3)
    target = pair.targets[0]
    assert target.at == {"params": 1e9, "data": 1e11}
    assert target.first.value == pytest.approx(_law(1e9, 1e11), rel=3e-3)


def test_the_compute_multiplier_is_that_of_the_formulas() -> None:
    """b needs the budget at which 0.9 times its frontier is that of a."""
    pair = _of(_known(), "b")
    budgets = np.geomspace(1e16, 1e22, 241)
    own = np.array([0.9 * _frontier(budget) for budget in budgets])
    for place in pair.places:
        budget = place.at["budget"]
        needed = np.interp(-_frontier(budget), -own, np.log(budgets))
        expected = budget / math.exp(needed)
        assert place.multiplier is not None
        assert place.multiplier.value == pytest.approx(expected, rel=0.08)
        assert place.multiplier.lower <= expected <= place.multiplier.upper


def test_a_crossing_is_found_where_the_formulas_cross() -> None:
    pair = _of(_known(), "c")
    budgets = np.geomspace(1e17, 1e24, 281)
    gap = [_frontier(b, floor=1.5, a=620.0) - _frontier(b) for b in budgets]
    crossing = float(np.exp(np.interp(0.0, -np.array(gap), np.log(budgets))))
    assert pair.crossing.ahead == "second"
    assert pair.crossing.size.lower <= crossing <= pair.crossing.size.upper
    assert pair.crossing.size.value == pytest.approx(crossing, rel=0.4)
    assert pair.crossing.chance == 1.0


def test_what_is_needed_for_a_value_and_what_is_never_reached() -> None:
    near, never = _of(_known(), "b").needed
    budgets = np.geomspace(1e17, 1e22, 201)
    frontier = np.array([_frontier(budget) for budget in budgets])
    expected = float(np.exp(np.interp(-2.5, -frontier, np.log(budgets))))
    assert near.first.value == pytest.approx(expected, rel=0.05)
    assert near.second.value < near.first.value
    assert near.better == 1.0
    assert math.isinf(never.first.value)
    assert math.isinf(never.second.value)
    assert math.isnan(never.ratio.value)


def test_the_best_group_comes_first_and_the_baseline_can_be_chosen() -> None:
    found = _known()
    assert [group.name for group in found.groups] == ["a", "b", "c"]
    values = [pair.headline.relative.value for pair in found.pairs]
    assert values == sorted(values)
    fits = {group.name: group.fit for group in found.groups}
    other = compare(fits, baseline="b", budgets=[1e20])
    assert other.groups[0].name == "b"
    back, there = _of(other, "a").headline, _of(found, "b").headline
    product = (1 + back.relative.value) * (1 + there.relative.value)
    assert product == pytest.approx(1.0, rel=1e-3)


def test_by_default_three_budgets_from_the_largest_that_all_have() -> None:
    fits = {group.name: group.fit for group in _known().groups[:2]}
    places = [place.at["budget"] for place in compare(fits).pairs[0].places]
    np.testing.assert_allclose(places, [1.2e20, 1.2e21, 1.2e22], rtol=1e-9)


def test_equal_tables_are_no_copies_of_one_draw() -> None:
    """Fits of the same numbers come from the same random numbers; draws must not."""
    fits = _unpaired(_pair(0, 0.0, "0", 1.0))
    place = compare(fits).pairs[0].headline
    alone = fits["a"].fitted.predict(1e9, 2e10)
    own = math.log(float(alone.mean_upper / alone.mean_lower))
    both = math.log((1 + place.relative.upper) / (1 + place.relative.lower))
    assert place.relative.value == pytest.approx(0.0, abs=1e-9)
    assert 0.9 * own < both < 2.2 * own
    assert place.verdict == "none"


@pytest.mark.parametrize("names", ["0", "012"])
def test_pairing_narrows_what_shares_noise(names: str) -> None:
    fits = _pair(1, -0.02, names, 0.9)
    paired = compare(fits).pairs[0]
    apart = compare(_unpaired(fits)).pairs[0]
    assert paired.pairing.why_not == ""
    assert paired.pairing.runs == 25 * len(names)
    assert "no run of the one" in apart.pairing.why_not
    assert not apart.scales
    for near, wide in zip(paired.places, apart.places, strict=True):
        assert _width(near) < 0.6 * _width(wide)


def _width(place: differences.Difference) -> float:
    return place.relative.upper - place.relative.lower


def _count_inside(trials: int, shift: float, names: str, share: float) -> np.ndarray:
    """Share of trials whose intervals hold the true difference, place by place."""
    inside = [
        [
            place.relative.lower <= shift <= place.relative.upper
            for place in compare(_pair(trial, shift, names, share)).pairs[0].places
        ]
        for trial in range(trials)
    ]
    return np.mean(inside, axis=0)


@pytest.mark.short
def test_paired_intervals_hold_the_truth() -> None:
    """Of 12, nine or more: fewer come about once in 200 times at 90 %."""
    assert np.all(_count_inside(12, -0.02, "012", 0.9) >= 9 / 12)


@pytest.mark.slow
@pytest.mark.parametrize("names", ["0", "012"])
@pytest.mark.parametrize("share", [0.0, 0.9])
def test_intervals_hold_the_truth_as_often_as_they_say(
    names: str, share: float
) -> None:
    """At 90 %, fewer than 50 of 60 come about once in 25 times, 47 once in 500."""
    assert np.all(_count_inside(60, -0.02, names, share) >= 47 / 60)


def test_shared_runs_are_found_by_size_and_name() -> None:
    rng = np.random.default_rng(0)
    first = _table(_law(_M, _N), "012", 0.01, rng=rng)
    second = _table(_law(_M, _N), "123", 0.01, rng=rng).where(_M < 5e8)
    shared = pairing.find_shared(first, second)
    assert shared.by == "seed"
    assert len(shared) == 20
    np.testing.assert_array_equal(shared.params, second.params)
    np.testing.assert_array_equal(shared.data, second.data)
    np.testing.assert_array_equal(shared.runs, 2)  # seeds 1 and 2
    own = first.where(_M < 5e8).seed_values
    expected = np.log(second.seed_values[:, :2]) - np.log(own[:, 1:])
    np.testing.assert_allclose(shared.difference, expected)


def test_runs_of_no_common_seed_are_set_against_each_other_by_size() -> None:
    rng = np.random.default_rng(0)
    first = _table(_law(_M, _N), "012", 0.01, rng=rng)
    second = _table(_law(_M, _N), "xy", 0.01, rng=rng)
    shared = pairing.find_shared(first, second)
    assert shared.by == "size"
    np.testing.assert_array_equal(shared.runs, 2)
    expected = np.log(second.seed_values) - np.log(first.seed_values[:, :2])
    np.testing.assert_allclose(shared.difference, expected)


@pytest.mark.parametrize(
    ("kept", "part"),
    [(0, "no run of the one"), (2, "only 2 runs at 2 sizes"), (8, "only 8 of 25")],
)
def test_too_few_shared_sizes_are_left_to_the_laws(kept: int, part: str) -> None:
    first = _table(_law(_M, _N))
    data = np.where(np.arange(25) < kept, first.data, first.data * 1.01)
    second = dataclasses.replace(first, data=data)
    shared = pairing.find_shared(first, second)
    assert part in pairing.describe_pairing(first, second, shared).why_not


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_how_alike_the_noise_of_two_arms_is(share: float) -> None:
    common = np.random.default_rng(1).standard_normal((4, 25))
    first, second = (
        _table(_law(_M, _N), "0123", 0.01, common, share, np.random.default_rng(n))
        for n in (2, 3)
    )
    shared = pairing.find_shared(first, second)
    found = pairing.describe_pairing(first, second, shared).alike
    assert found == pytest.approx(share, abs=0.2)


def test_laws_of_one_size_are_compared_along_it() -> None:
    n = np.geomspace(1e3, 1e6, 9)
    fits = {
        name: scalepred.fit(
            Surface.from_arrays(np.full(9, 1e6), n, factor * (0.2 + 30 * n**-0.6)),
            "power",
            resamples=50,
        )
        for name, factor in (("a", 1.0), ("b", 0.8))
    }
    found = compare(fits, budgets=[1e6], targets=[(math.nan, 1e7)])
    assert found.axis == "data"
    assert found.unit == "examples"
    pair = found.pairs[0]
    assert pair.headline.relative.value == pytest.approx(-0.2, abs=1e-3)
    assert pair.targets[0].at == {"data": 1e7}
    assert "examples" in "\n".join(compare_screen.describe(found))


def test_fits_of_any_kind_are_compared_by_their_shared_runs(tmp_path) -> None:
    """Loaded, robust: the difference is that of the runs, whatever the law."""
    fits = _pair(2, -0.02, "01", 0.9, resamples=50)
    for name, fit in fits.items():
        fit.save(tmp_path / f"{name}.npz")
    loaded = {name: scalepred.load(tmp_path / f"{name}.npz") for name in fits}
    robust = {
        name: scalepred.fit(
            fit.surface,
            "chinchilla",
            residual=scalepred.Residual("huber", 1e-3),
            resamples=20,
        )
        for name, fit in fits.items()
    }
    for one in (fits, loaded, robust):
        pair = compare(one).pairs[0]
        assert pair.pairing.why_not == ""
        assert pair.headline.relative.value == pytest.approx(-0.02, abs=0.004)
    note = compare(_unpaired(loaded)).notes
    assert any("taken as independent" in text for text in note)


def test_without_resamples_there_is_no_interval_and_no_chance() -> None:
    fits = {
        name: scalepred.fit(_table(factor * _law(_M, _N)), "chinchilla", resamples=0)
        for name, factor in (("a", 1.0), ("b", 0.9))
    }
    found = compare(fits)
    place = found.pairs[0].headline
    assert place.relative.value == pytest.approx(-0.1, abs=1e-3)
    assert math.isnan(place.relative.lower)
    assert math.isnan(place.better)
    assert place.verdict == "none"
    assert "nan" not in repr(found).lower()


def test_what_cannot_be_compared_is_refused_in_a_sentence() -> None:
    table = _table(_law(_M, _N))
    fit = scalepred.fit(table, "chinchilla", resamples=0)
    images = dataclasses.replace(table, data_unit="images")
    errors = dataclasses.replace(table, value=table.value / 100, metric="error")
    others = {
        "two or more": {"a": fit},
        "metric is loss in a and error in b": {
            "a": fit,
            "b": dataclasses.replace(
                fit, estimate=dataclasses.replace(fit.estimate, surface=errors)
            ),
        },
        "data_unit is tokens in a and images in b": {
            "a": fit,
            "b": scalepred.fit(images, "chinchilla", resamples=0),
        },
        "a has a law of compute, b one of data": {
            "a": fit,
            "b": scalepred.fit(
                table.where(table.params == _M.min()), "power", resamples=0
            ),
        },
    }  # fmt: skip
    for part, fits in others.items():
        with pytest.raises(UserError, match=part):
            compare(fits)
    with pytest.raises(UserError, match="baseline=c: there is no such group"):
        compare({"a": fit, "b": fit}, baseline="c")
    with pytest.raises(UserError, match="budgets=-1: must be positive"):
        compare({"a": fit, "b": fit}, budgets=[-1.0])


def test_a_comparison_is_one_screen_of_sentences() -> None:
    text = repr(_known())
    assert text == "\n".join(compare_screen.describe(_known()))
    assert len(text.splitlines()) <= 32
    assert "b is better than a: it needs" in text
    assert re.search(r"(9\.9|10\.[01])% lower", text)
    for bad in ("nan", "inf ", "e+", "-0%"):
        assert bad not in text


def test_the_page_has_cards_tables_and_curves_and_escapes_names() -> None:
    known = _known()
    fits = {group.name: group.fit for group in known.groups}
    found = compare({"a": fits["a"], NASTY: fits["b"]}, budgets=[1e20], values=[2.5])
    page = families.make_page(found, {"a": "a/report.html", NASTY: "b/report.html"})
    assert NASTY not in page
    assert "alert(&#x27;x&#x27;)" in page
    assert page.count('data-card="pair"') == 1
    assert 'data-verdict="yes"' in page
    assert "difference at 1e20 FLOPs" in page
    assert 'href="b/report.html"' in page
    overlay = page[page.index('data-chart="families"') :].split("</svg>")[0]
    assert overlay.count('class="s1 line" data-series="a"') == 1
    assert overlay.count('class="s2 line"') == 1
    assert len(page) < 150_000


def test_the_record_is_plain_and_says_the_same() -> None:
    record = json.loads(json.dumps(_known().to_record()))
    pair = record["pairs"][0]
    assert pair["second"] == _known().pairs[0].second
    assert pair["verdict"] == "second"
    assert len(pair["sizes"]) == len(pair["difference"]["value"])


def test_tables_are_named_by_what_tells_them_apart() -> None:
    name = comparing._name_tables
    assert name(["x/a.csv", "y/b.csv"]) == ["a", "b"]
    assert name(["x/a.csv", "y/a.csv"]) == ["x/a", "y/a"]
    with pytest.raises(UserError, match="stands twice"):
        name(["x/a.csv", "x/a.csv"])


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((2.0, 1.5, 3.0), "1.5 to 3 times less"),
        ((0.8, 0.5, 0.9), "1.11 to 2 times as much"),
        ((1.1, 0.8, 1.25), "1.25 times as much to 1.25 times less"),
        ((0.5, 0.0, 0.8), "perhaps never to 1.25 times as much"),
        ((1.5, 1.0, 2.0), "as much to 2 times less"),
    ],
)
def test_how_much_less_is_said_from_the_smaller_to_the_larger(ends, said):
    assert compare_words.span(Estimate(*ends), compare_words.say_times) == said


def test_the_one_that_needs_more_is_named():
    """As `it` would be the better one."""
    rng = np.random.default_rng(0)
    fits = {}
    for name, factor in (("a", 1.0), ("b", 1.2)):
        m, n = (x.ravel() for x in np.meshgrid(*(np.geomspace(1e4, 1e7, 5),) * 2))
        value = 1 + factor * 50 * m**-0.35 + 50 * n**-0.35
        value *= np.exp(1e-3 * rng.standard_normal(len(m)))
        surface = scalepred.Surface.from_arrays(m, n, value, metric="loss")
        fits[name] = scalepred.fit(surface, law="chinchilla", resamples=100)
    found = scalepred.compare(fits, budgets=[1e16])
    (pair,) = found.pairs
    said = arms_words.describe_verdict(pair, found)
    assert said.startswith("a is better than b: b needs 1.")
    assert "times as much compute" in said

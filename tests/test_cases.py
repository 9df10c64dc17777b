"""Tables that were once answered wrongly or refused, and neighbours of each kind.

Here are those that no other test has. All kinds, and where they are:

| kind | tests |
| --- | --- |
| accuracy, or values that rise | test_tables: what_rises, values_that_rise, a_wanted_accuracy; here: along_one_size |
| a wanted value of a curve | test_tables: a_curve_answers; here: a_curve_answers |
| the other size of a curve | test_tables: points_elsewhere; here: another_size |
| rates averaged as seeds | test_tables: tries_are_no_seeds, seeds_of_the_best_try, validation_chooses; here: settings, measured |
| outliers that hide each other | test_outliers: all |
| costs below 6 m n | test_cost: the_best_split (eleven costs), a_narrow_table, noise_errs |
| decimal commas, dialects | test_tables: a_grid_is_read, one_thousand_or_one; here: a_grid_is_read |
| sizes as people write them | test_tables: numbers_as_people_write_them; here: numbers, a_grid_is_read |
| failed runs | test_tables: runs_that_failed, words, flags; test_left_out; here: a_size_that_is_no_number, other_flags |
| intervals at little noise | test_intervals: less_noise_is_no_wider_interval; here: exact_tables |
| a cliff beyond a curve | test_average: a_curve_of_eight_points; here: no_cliff |
| units | test_tables: sizes_that_are_no_counts; here: units, no_counts, mixed_units |
| a run without errors | test_tables: of_one_run_zero; test_magnitudes; here: without_errors |
| deleted lines | test_workdir: lines_that_are_missing (six ways) |
| whose cross-validation | test_average: what_is_scored_is_what_predicts (five tables) |
| a ladder | test_tables: a_ladder, a_grid_is_no_ladder; here: ladders |
| most runs diverged | test_left_out: all; test_hopeless |
| accuracy through the loss | test_through: all; here: through_the_loss |
| names of columns | test_tables: a_grid_is_read, columns_can_be_said; here: a_grid_is_read, a_missing_size, shapes |
| intervals and weights on known truths | test_flexible, test_sharpness, test_calibration; test_scaling (peaks, bends, noise); scripts/bench_extrapolation and bench_calibration |
"""  # noqa: E501

import itertools
import math

import numpy as np
import pytest
from test_tables import (
    ERROR,
    LADDER,
    LOSS,
    M_ACC,
    N_ACC,
    ROWS,
    SIZES_M,
    M,
    N,
    assert_whole,
    lines,
    loss_at,
    read,
)

import scalepred
from scalepred.analysis import check_questions, complete_target, leave_out
from scalepred.config import Questions, UserError
from scalepred.fitting.two_stage import find_inner
from scalepred.report import format
from scalepred.table import numbers
from scalepred.table.ladder import along_compute, place_on_ladder
from scalepred.table.naming import parse_columns
from scalepred.table.surface import Surface


def write_german(number: float) -> str:
    return f"{number:,.6f}".translate(str.maketrans(",.", ".,"))


def write_raised(number: float) -> str:
    mantissa, power = f"{number:.5e}".split("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} \N{MULTIPLICATION SIGN} 10{raised}"


READ = {
    "points for thousands": "\n".join(
        ["params;data;loss", *(";".join(map(write_german, row)) for row in ROWS)]
    ),
    "apostrophes for thousands": lines("{m:,.0f};{n:,.0f};{v}", "N;D;loss").replace(
        ",", "'"
    ),
    "spaces": lines("{m:.0f} {n:.0f}  {v:.6f}", "params   data  loss"),
    "numpy": lines("{m:.18e} {n:.18e} {v:.18e}", "# params data loss"),
    "numpy with commas": lines("{m:.18e},{n:.18e},{v:.18e}", "# params,data,loss"),
    "numbers of parameters": lines("{m:.0e},{n:.0e},{v:.6f}", "#params,#tokens,loss"),
    "a comma behind every row": lines("{m:.0f},{n:.0f},{v:.6f},"),
    "names of rows by R": lines('"1",{m:.0f},{n:.0f},{v:.6f}'),
    "cp1252": lines("{m:.0f};{n:.0f};{v:.6f};ä", "N;D;loss;größe").encode("cp1252"),
    "no-break spaces": lines("{m:,.0f};{n:,.0f};{v:.6f}", "N;D;loss")
    .replace(",", "\xa0")
    .encode("cp1252"),
    "powers of ten": "\n".join(
        ["N,D,loss", *(f"{write_raised(m)},{n / 1e8:g}x10^8,{v}" for m, n, v in ROWS)]
    ),
    "letters with units": lines("{m:.0f}e-6,{n:.0f}e-9,{v:.6f}", "N (M),D_billion,L"),
    "EFLOPs": "\n".join(
        ["N,FLOPs (1e18),loss", *(f"{m},{6e-18 * m * n},{v}" for m, n, v in ROWS)]
    ).replace("N,", "params,", 1),
    "petaflop/s-days": "\n".join(
        [
            "params,compute (PF-days),loss",
            *(f"{m},{6 * m * n / 8.64e19},{v}" for m, n, v in ROWS),
        ]
    ),
}


@pytest.mark.parametrize("text", READ.values(), ids=READ.keys())
def test_a_grid_is_read_without_a_flag(tmp_path, text):
    assert_whole(read(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1.2x10^20", 1.2e20),
        ("3 * 10**9", 3e9),
        ("10^7", 1e7),
        (write_raised(2e-5), 2e-5),
        ("1,5x10^9", 1.5e9),
    ],
)
def test_numbers_with_powers(text, number):
    decimal = "," if "," in text else "."
    assert numbers.parse(text, decimal) == pytest.approx(number, rel=1e-12)


@pytest.mark.parametrize("text", ["2x100", "x10^3", "10^", "1x10x10", "0x10"])
def test_other_powers_are_no_numbers(text):
    with pytest.raises(ValueError, match="not a number"):
        numbers.parse(text)


def test_units_of_columns_that_are_named(tmp_path):
    """What stands in a name counts, whoever says that it is the size."""
    text = lines("{m:.0f}e-6,{n:.0f}e-6,{v:.6f}", "size (M),seen in millions,c")
    said = parse_columns("params=size (M),data=seen in millions,value=c")
    assert_whole(read(tmp_path, text, columns=said))
    plain = lines(header="size_m,seen_b,c")
    said = parse_columns("params=size_m,data=seen_b,value=c")
    assert_whole(read(tmp_path, plain, columns=said))  # letters of anything


def test_a_unit_in_cell_and_column_is_refused(tmp_path):
    rows = [(f"{m / 1e6:g}M", n, v) for m, n, v in ROWS]
    with pytest.raises(UserError, match="has a unit, and so has the name"):
        read(tmp_path, lines("{m},{n},{v}", "params (M),data,loss", rows))


@pytest.mark.parametrize("unit", [1e9, 1e15, 1e18])
def test_flops_that_are_no_counts_are_refused(tmp_path, unit):
    rows = [(m, f"{n},{6 * m * n / unit}", v) for m, n, v in ROWS]
    with pytest.raises(UserError, match=r"flops: .* name the column so, as FLOPs"):
        read(tmp_path, lines("{m},{n},{v}", "params,data,flops,loss", rows))
    rows = [(m, 6 * m * n / 1e18, v) for m, n, v in ROWS]
    with pytest.raises(UserError, match=r"data: FLOPs / \(6 params\) are .* no count"):
        read(tmp_path, lines("{m},{n},{v}", "params,flops,loss", rows))


@pytest.mark.parametrize(
    ("size", "change"),
    [
        ("params", lambda m, n: (m / 1e6 if m < 1e8 else m, n)),
        ("params", lambda m, n: (m if m < 1e9 else m * 1e6, n)),
        ("data", lambda m, n: (m, n / 1e6 if n < 1e9 else n)),
    ],
)
def test_mixed_units_are_told(tmp_path, size, change):
    rows = [(*change(m, n), v) for m, n, v in ROWS]
    notes = read(tmp_path, lines("{m},{n},{v}", rows=rows)).notes
    assert any(f"{size} go from" in note and "millions" in note for note in notes)


MISSING = ["FLOPS (giga)", "train EFLOPs", "unique_tokens", "hours", "num_images_b"]


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_size_is_asked_about(tmp_path, name):
    """Runs of other data are no seeds, whatever their column is called."""
    text = lines("{m:.0f},{n:.0f},{v}", f"params,{name},loss")
    with pytest.raises(UserError, match=r"no column of data, and .* differs among"):
        read(tmp_path, text)
    said = parse_columns(f"data={name},value=loss")
    assert len(read(tmp_path, text, columns=said)) == 25


@pytest.mark.parametrize("name", ["width", "d_model", "n_layers"])
def test_shapes_of_models_are_no_seeds(tmp_path, name):
    rows = [(round(m**0.3), n, v) for m, n, v in ROWS]
    with pytest.raises(UserError, match=f"no column of params, and {name} differs"):
        read(tmp_path, lines("{m},{n},{v}", f"{name},data,loss", rows))


@pytest.mark.parametrize("name", ["data (%)", "percent of data", "tokens_percent"])
def test_shares_are_no_counts(tmp_path, name):
    rows = [(m, 100 * n / 2e10, v) for m, n, v in ROWS]
    text = lines("{m},{n},{v}", f"params,{name},loss", rows)
    with pytest.raises(UserError, match="is a share, and no count"):
        read(tmp_path, text, columns={"data": name})


@pytest.mark.parametrize(
    ("name", "good", "bad", "said"),
    [
        ("ok", "True", "False", "not ok"),
        ("exit_code", "0", "137", "exit code 137"),
        ("returncode", "0", "-9", "exit code -9"),
        ("oom", "no", "yes", "oom"),
    ],
)
def test_other_flags_say_that_a_run_failed(tmp_path, name, good, bad, said):
    rows = [(m, n, f"{v},{good}") for m, n, v in ROWS]
    text = lines("{m},{n},{v}", f"N,D,loss,{name}", rows) + f"\n1e9,6e10,7.0,{bad}"
    surface = read(tmp_path, text)
    assert_whole(surface)
    assert f"1 of 26 runs are left out (1 {said})" in surface.left_out.sentence


SETTINGS = ["decay_steps", "z_loss_weight", "clip_value", "group", "peak_lr", "rate"]


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_by_any_name_are_no_seeds(tmp_path, name):
    rows = [(m, n, f"{k},{v + 0.02 * k * k}") for m, n, v in ROWS for k in (-1, 0, 2)]
    surface = read(tmp_path, lines("{m},{n},{v}", f"params,data,{name},loss", rows))
    assert_whole(surface)
    assert any(name in note and "best" in note for note in surface.notes)


@pytest.mark.parametrize("name", ["split", "eval_set", "benchmark", "Domain"])
def test_what_was_measured_is_chosen_by_the_user(tmp_path, name):
    """The easiest of several sets is no better run."""
    rows = [(m, n, f"{k},{v + d}") for m, n, v in ROWS for k, d in (("a", 0), ("b", 1))]
    text = lines("{m},{n},{v}", f"params,data,{name},loss", rows)
    with pytest.raises(UserError, match=f"choose one with --where={name}="):
        read(tmp_path, text)
    assert_whole(read(tmp_path, text, where=[f"{name}=a"]))


@pytest.mark.parametrize("size", ["nan", "", "N/A", "?"])
def test_a_size_that_is_no_number_is_told_as_none(tmp_path, size):
    said = read(tmp_path, lines() + f"\n{size},2e10,3.0").left_out.sentence
    assert said.startswith("1 of 26 runs are left out (1 without")
    assert " nan " not in said


FREE = {
    "accuracy 1": ("accuracy", lambda error: 1 - error),
    "accuracy 100%": ("accuracy", lambda error: f"{100 * (1 - error)}%"),
    "error in percent": ("test_error", lambda error: 100 * error),
    "error": ("error", lambda error: error),
}


@pytest.mark.parametrize(("name", "show"), FREE.values(), ids=FREE)
def test_a_seed_without_errors_counts(tmp_path, name, show):
    """The mean of two seeds, of which one got all right at the largest size."""
    rows = [
        (m, n, f"{seed},{show(error * seed if is_last else error)}")
        for m, n, error, is_last in zip(
            M_ACC, N_ACC, ERROR, ERROR.min() == ERROR, strict=True
        )
        for seed in (0, 1)
    ]
    surface = read(tmp_path, lines("{m},{n},{v}", f"params,data,seed,{name}", rows))
    assert surface.value[-1] == pytest.approx(ERROR.min() / 2)
    assert len(surface) == 16


@pytest.mark.parametrize("name", ["loss", "log_likelihood", "value"])
def test_values_below_zero_are_told_as_such(tmp_path, name):
    text = lines("{m:.0f},{n:.0f},-{v:.5f}", f"params,data,{name}")
    with pytest.raises(UserError, match="every value is below zero"):
        read(tmp_path, text, columns={"value": name})


def test_two_sizes_of_a_mixture_of_experts_are_asked_about(tmp_path):
    rows = [(m, n, f"{8 * m},{v}") for m, n, v in ROWS]
    text = lines("{m},{n},{v}", "active_params,tokens,total_params,loss", rows)
    with pytest.raises(UserError, match="are two sizes of a model; say which one"):
        read(tmp_path, text)
    assert_whole(read(tmp_path, text, columns={"params": "active_params"}))
    assert_whole(read(tmp_path, lines(header="active_params,tokens,loss")))


def test_bits_are_those_of_a_loss(tmp_path):
    surface = read(tmp_path, lines(header="params,bytes,bpb"))
    assert surface.metric == "bits"
    assert format.thing(surface) == "a loss"
    named = read(tmp_path, lines("{m},{n},{v}", "params (B),data,loss"))
    assert "times 1e9" in named.notes[0]


CURVE = 100 * 2.0 ** np.arange(8)
FALLING = 0.02 + 3 * CURVE**-0.35


@pytest.mark.parametrize("name", ["accuracy", "top1_acc", "r2", "f1"])
@pytest.mark.parametrize("size", ["params", "data"])
def test_what_rises_along_one_size(tmp_path, name, size):
    rows = [(m, v, "") for m, v in zip(CURVE, 1 - FALLING, strict=True)]
    surface = read(tmp_path, lines("{m},{n}", f"{size},{name}", rows))
    np.testing.assert_allclose(surface.value, FALLING, rtol=1e-9)
    fit = scalepred.fit(
        surface, "power" if size == "data" else "power_params", resamples=0
    )
    sizes = (1, 1e6) if size == "data" else (1e6, 1)
    assert fit.predict(*sizes).value == pytest.approx(0.0438, abs=2e-4)


def test_values_that_rise_along_one_size_are_refused(tmp_path):
    for size, name in itertools.product(("params", "data"), ("value", "quality")):
        rows = [(m, v, "") for m, v in zip(CURVE, 1 - FALLING, strict=True)]
        text = lines("{m},{n}", f"{size},{name}", rows)
        with pytest.raises(UserError, match=f"value: rises with {size}"):
            read(tmp_path, text, columns={"value": name})


def curve(size: str) -> Surface:
    other = np.full(8, 4400.0)
    sizes = (other, CURVE) if size == "data" else (CURVE, other)
    return Surface.from_arrays(*sizes, FALLING, metric="error")


@pytest.mark.parametrize("size", ["data", "params"])
@pytest.mark.parametrize("law", ["power", "m4"])
def test_a_curve_answers_along_its_size(size, law):
    law, other = law + "_params" * (size == "params"), {"data": "params"}.get(size)
    other = other or "data"
    points = curve(size)
    fit = scalepred.fit(points, law, resamples=0)
    ask = fit.data_needed if size == "data" else fit.params_needed
    right = ((0.08 - 0.02) / 3) ** (-1 / 0.35)
    assert ask(0.08, 4400.0).value == pytest.approx(right, rel=1e-3)
    left, said = leave_out(law, points, Questions(budget=1e12, target_value=0.08))
    assert (left.budget, left.target_value) == (0.0, 0.08)
    assert f"--budget is left out: law={law} follows {size} alone" in said[0]
    with pytest.raises(UserError, match=f"speaks of {other}=4400 only"):
        ask(0.08, 1e6)


@pytest.mark.parametrize("size", ["data", "params"])
@pytest.mark.parametrize("law", ["auto", "power", "bnsl"])
def test_a_curve_says_nothing_of_another_size(size, law):
    law += "_params" * (size == "params" and law != "auto")
    points, there = curve(size), {"data": (4400.0, 1e5), "params": (1e5, 4400.0)}[size]
    check_questions(law, points, Questions(), [there], [])
    with pytest.raises(UserError, match=r"speaks of \w+=4400 only"):
        check_questions(law, points, Questions(), [(1e5, 1e5)], [])
    open_size = {"data": (math.nan, 1e5), "params": (1e5, math.nan)}[size]
    assert complete_target(open_size, points, law) == there


@pytest.mark.parametrize("count", [6, 7, 9, 10])
def test_no_cliff_beyond_the_last_point(count):
    n = 100 * 2.0 ** np.arange(count)
    noise = np.exp(0.01 * np.random.default_rng(count).standard_normal(count))
    surface = Surface.from_arrays(np.full(count, 1e3), n, 0.02 + 3 * n**-0.35 * noise)
    fit = scalepred.fit(surface, resamples=0)
    truth = 0.02 + 3 * (2 * n[-1]) ** -0.35
    assert fit.predict(1e3, 2 * n[-1]).value == pytest.approx(truth, rel=0.12)


@pytest.mark.parametrize("digits", [4, 6, 12])
def test_exact_tables_are_not_said_to_fail(digits):
    """By their rounding they miss what a perfect fit promises."""
    rounded = Surface.from_arrays(M, N, np.round(LOSS, digits), metric="loss")
    curves = Surface.from_arrays(
        np.full(8, 1e3), CURVE, np.round(FALLING, digits), metric="error"
    )
    for surface, law in ((rounded, "chinchilla"), (curves, "power")):
        fit = scalepred.fit(surface, law, resamples=0)
        assert "back_test_failed" not in {warning.code for warning in fit.warnings}


@pytest.mark.parametrize("law", ["power", "m4"])
@pytest.mark.parametrize(("ratio", "cost"), [(20, 6.0), (4000, 6.5), (0.5, 2.0)])
def test_ladders_are_followed_along_their_compute(law, ratio, cost):
    """Of any ratio of data to parameters, at what their FLOPs are."""
    m = np.geomspace(1e7, 1e9, 7)
    value = 1.5 + 40 * (m / 1e6) ** -0.5
    surface = Surface.from_arrays(
        m, ratio * m, value, metric="loss", compute=cost * ratio * m * m
    )
    place = place_on_ladder(surface, (7e9, ratio * 7e9))
    assert place == pytest.approx((1.0, cost * ratio * 7e9**2), rel=1e-6)
    fit = scalepred.fit(along_compute(surface), law, resamples=0)
    right = 1.5 + 40 * 7000**-0.5
    assert fit.predict(*place).value == pytest.approx(right, rel=2e-3)
    left, said = leave_out("auto", surface, Questions(budget=1e22))
    assert not left.budget
    assert "rise together" in said[0]
    with pytest.raises(UserError, match="speaks of the ladder"):
        place_on_ladder(surface, (7e9, 100 * ratio * 7e9))


def test_three_anchors_of_a_ladder():
    m = np.array(SIZES_M[:3])
    points = Surface.from_arrays(m, LADDER[:3], loss_at(m, LADDER[:3]), metric="loss")
    fit = scalepred.fit(along_compute(points), "power", resamples=0)
    place = place_on_ladder(points, (1e9, 2e10))
    assert fit.predict(*place).value == pytest.approx(loss_at(1e9, 2e10), rel=0.03)


@pytest.mark.parametrize(
    ("floor", "height", "steep", "middle"),
    [(0.0, 0.9, 3.0, 3.0), (0.5, 0.45, 4.0, 2.8), (0.1, 0.8, 2.0, 2.4)],
)
def test_other_thresholds_are_met_through_the_loss(floor, height, steep, middle):
    error = 1 - (floor + height / (1 + np.exp(steep * (LOSS - middle))))
    errors = Surface.from_arrays(M, N, error, metric="error")
    losses = Surface.from_arrays(M, N, LOSS, metric="loss")
    fit = scalepred.fit(
        errors, "chinchilla", resamples=0, losses=losses, is_through=True
    )
    assert find_inner(fit.law) is not None
    far = loss_at(1e10, 2e11)
    right = 1 - (floor + height / (1 + np.exp(steep * (far - middle))))
    assert fit.predict(1e10, 2e11).value == pytest.approx(right, rel=0.02)

"""Tables as people have them: read without a flag, or refused in one sentence."""

import json
import math

import numpy as np
import pytest
from test_commands import assert_refused, run_fit

from scalepred.analysis import leave_out
from scalepred.config import Questions, UserError
from scalepred.fitting.estimate import knows_split
from scalepred.forecasting.gate import parse_gate
from scalepred.table import numbers
from scalepred.table.ladder import along_compute, place_on_ladder
from scalepred.table.naming import parse_columns
from scalepred.table.surface import Surface

pytestmark = pytest.mark.usefixtures("undrawn")

SIZES_M = [1e7, 3e7, 1e8, 3e8, 1e9]
SIZES_N = [2e8, 6e8, 2e9, 6e9, 2e10]
M, N = (grid.reshape(-1) for grid in np.meshgrid(SIZES_M, SIZES_N, indexing="ij"))


def loss_at(m, n):
    """The law of Hoffmann et al. 2022 with its published constants."""
    return 1.69 + 406.4 * m**-0.34 + 410.7 * n**-0.28


LOSS = loss_at(M, N)
ROWS = list(zip(M, N, LOSS, strict=True))
BEYOND = "--target=params=10B,data=200B"


def lines(template="{m:.0f},{n:.0f},{v:.6f}", header="params,data,value", rows=ROWS):
    return "\n".join([header, *(template.format(m=m, n=n, v=v) for m, n, v in rows)])


def read(tmp_path, text, name="points.csv", **asked):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Surface.from_csv(path, **asked)


def assert_whole(surface, rtol=1e-5):
    """All 25 points, with the numbers that were written."""
    np.testing.assert_allclose(surface.params, M, rtol=rtol)
    np.testing.assert_allclose(surface.data, N, rtol=rtol)
    np.testing.assert_allclose(surface.value, LOSS, rtol=rtol)


def comma(number):
    return f"{number:.6f}".replace(".", ",")


GRIDS = {
    "plain": lines(),
    "byte order mark": "\ufeff" + lines(),
    "UTF-16": lines().encode("utf-16"),
    "carriage returns": lines().replace("\n", "\r\n"),
    "semicolons": lines("{m:.0f};{n:.0f};{v:.6f}", "params;data;value"),
    "decimal comma": "\n".join(
        ["params;data;value", *(f"{m:.0f};{n:.0f};{comma(v)}" for m, n, v in ROWS)]
    ),
    "quoted decimal comma": "\n".join(
        ["params,data,value", *(f'{m:.0f},{n:.0f},"{comma(v)}"' for m, n, v in ROWS)]
    ),
    "tabs": lines("{m:.0f}\t{n:.0f}\t{v:.6f}", "params\tdata\tvalue"),
    "bars": lines("{m:.0f}|{n:.0f}|{v:.6f}", "params|data|value"),
    "markdown": lines(
        "| {m:.0f} | {n:.0f} | {v:.6f} |", "| N | D | loss |\n|--|--|--|"
    ),
    "sep": "sep=;\n" + lines("{m:.0f};{n:.0f};{v:.6f}", "params;data;value"),
    "comments": "# made on Monday\n\n" + lines(),
    "title": "Our runs\n\n" + lines(),
    "header behind a sign": lines(header="# params,data,value"),
    "index without a name": lines("0,{m:.0f},{n:.0f},{v:.6f}", ",params,data,value"),
    "index of pandas": lines("7,{m},{n},{v}", "Unnamed: 0,params,data,value"),
    "capitals": lines(header="Params,Tokens,Loss"),
    "N and D": lines(header="N,D,loss"),
    "m and n": lines(header="m,n,test_loss"),
    "train loss": lines(header="n_params,tokens,train/loss"),
    "underscores": lines("{m:_.0f},{n:_.0f},{v:.6f}"),
    "thousands": lines('"{m:,.0f}","{n:,.0f}",{v:.6f}'),
    "unit in the name": lines(
        "{m:.0f}e-6,{n:.0f}e-9,{v:.6f}", "params (M),tokens (B),loss"
    ),
    "FLOPs for data": "\n".join(
        ["Model Size,Training FLOP,loss", *(f"{m},{6 * m * n},{v}" for m, n, v in ROWS)]
    ),
    "compute beside": "\n".join(
        ["C,N,D,loss", *(f"{6 * m * n},{m},{n},{v}" for m, n, v in ROWS)]
    ),
    "perplexity": "\n".join(
        ["params,tokens,ppl", *(f"{m},{n},{math.exp(v)}" for m, n, v in ROWS)]
    ),
    "JSON lines": "\n".join(
        json.dumps({"config": {"params": m}, "tokens": n, "eval_loss": v})
        for m, n, v in ROWS
    ),
    "JSON rows": json.dumps([{"N": m, "D": n, "loss": v} for m, n, v in ROWS]),
    "JSON columns": json.dumps({"N": [*M], "D": [*N], "loss": [*LOSS]}),
    "JSON of pandas": json.dumps(
        {
            name: {str(i): own for i, own in enumerate(column)}
            for name, column in (("params", M), ("data", N), ("value", LOSS))
        }
    ),
    "W&B runs": "\n".join(
        [
            '"Name","State","Created","Runtime","params","tokens","eval/loss"',
            *(
                f'"run-{i}","finished","2024-01-0{i % 9 + 1}","{i}","{m}","{n}","{v}"'
                for i, (m, n, v) in enumerate(ROWS)
            ),
            '"run-x","crashed","2024-01-01","3","1e9","2e10",""',
        ]
    ),
    "MLflow": "\n".join(
        [
            "run_id,status,start_time,metrics.val_loss,params.n_params,params.tokens",
            *(f"{i:08x},FINISHED,2024,{v},{m},{n}" for i, (m, n, v) in enumerate(ROWS)),
        ]
    ),
    "Neptune": "\n".join(
        [
            "sys/id,parameters/n_params,parameters/tokens,metrics/val/loss",
            *(f"R-{i},{m},{n},{v}" for i, (m, n, v) in enumerate(ROWS)),
        ]
    ),
    "Ray": "\n".join(
        [
            "trial_id,training_iteration,config/n_params,config/tokens,loss",
            *(f"{i:04x},{10},{m},{n},{v}" for i, (m, n, v) in enumerate(ROWS)),
        ]
    ),
    "Optuna": "\n".join(
        [
            "number,value,datetime_start,duration,params_n_params,params_tokens,state",
            *(
                f"{i},{v},2024-01-01 00:00:0{i % 9},0 days,{m},{n},COMPLETE"
                for i, (m, n, v) in enumerate(ROWS)
            ),
            "99,,2024-01-01,0 days,1e9,2e10,FAIL",
        ]
    ),
}


@pytest.mark.parametrize("text", GRIDS.values(), ids=GRIDS.keys())
def test_a_grid_is_read_without_a_flag(tmp_path, text):
    surface = read(tmp_path, text)
    assert_whole(surface)
    assert surface.metric == "loss"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("10M", 1e7),
        ("3.2B", 3.2e9),
        ("1.4T tokens", 1.4e12),
        ("200M tokens", 2e8),
        ("1,048,576", 1048576),
        ("10_000_000", 1e7),
        ("1 048 576", 1048576),
        ("33k", 33e3),
        ("7bn", 7e9),
        ("2 billion", 2e9),
        ("5%", 0.05),
        ("5.3 %", 0.053),
        ("1e9", 1e9),
        ("12 examples", 12),
    ],
)
def test_numbers_as_people_write_them(text, number):
    assert numbers.parse(text) == pytest.approx(number, rel=1e-12)


@pytest.mark.parametrize("text", ["10X", "big", "1,00,0", "3..2", "0x10", "1e", "--3"])
def test_what_is_no_number_is_told(text):
    with pytest.raises(ValueError, match="number"):
        numbers.parse(text)


@pytest.mark.parametrize("text", ["", "NaN", "Infinity", "null", "N/A", "-"])
def test_what_is_missing_is_no_number(text):
    assert math.isnan(numbers.parse(text))


def test_one_thousand_or_one_is_refused(tmp_path):
    text = "params;data;value\n1.000;10000;5,33\n2000;10000;5,1\n4000;10000;4,95\n"
    with pytest.raises(UserError, match="ambiguous"):
        read(tmp_path, text)
    text = "params;data;value\n1000;1,000;5\n2000;2,000;4\n"
    with pytest.raises(UserError, match="ambiguous"):
        read(tmp_path, text)
    assert read(tmp_path, text, decimal=".").data.tolist() == [1000, 2000]
    with pytest.raises(UserError, match=r"a comma for decimals and .* a point"):
        read(tmp_path, "params;data;value\n10;20;5,33\n20;20;5.11\n")


M_ACC, N_ACC = (
    grid.reshape(-1)
    for grid in np.meshgrid([1e3, 4e3, 16e3, 64e3], [4e2, 16e2, 64e2, 256e2])
)
ERROR = 0.05 + 2 * M_ACC**-0.3 + 3 * N_ACC**-0.35


def accuracies(header="params,data,value,metric", scale=1.0, metric=",accuracy"):
    rows = zip(M_ACC, N_ACC, scale * (1 - ERROR), strict=True)
    return "\n".join([header, *(f"{m},{n},{v}{metric}" for m, n, v in rows)])


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (accuracies(), {}),
        (accuracies("params,data,accuracy", metric=""), {}),
        (accuracies("params,data,val_acc", metric=""), {}),
        (accuracies("params,data,value", metric=""), {"metric": "accuracy"}),
        (accuracies(scale=100), {}),
        (accuracies("params,data,pass@1", metric=""), {"metric": "pass@1"}),
        (accuracies(metric=",f1"), {}),
        (accuracies(scale=100, metric=",bleu"), {}),
    ],
)
def test_what_rises_is_turned_round_and_said(tmp_path, text, asked):
    surface = read(tmp_path, text, **asked)
    order = np.lexsort((N_ACC, M_ACC))
    np.testing.assert_allclose(surface.value, ERROR[order], rtol=1e-9)
    assert surface.metric == "error"
    assert any("rises as models get better" in note for note in surface.notes)


@pytest.mark.parametrize("metric", ["", ",error", ",loss", ",quality", ",reward"])
def test_values_that_rise_are_never_fitted_in_silence(tmp_path, metric):
    header = "params,data,value" + (",metric" if metric else "")
    with pytest.raises(UserError, match="rises"):
        read(tmp_path, accuracies(header, metric=metric))


def test_a_wanted_accuracy_is_one(tmp_path, capsys):
    path = tmp_path / "points.csv"
    path.write_text(accuracies())
    status, out, _ = run_fit(
        capsys, f"--measurements={path}", f"--workdir={tmp_path / 'w'}",
        "--law=chinchilla", "--target_value=0.9", "--resamples=50",
    )  # fmt: skip
    assert status == 0
    assert "error of 10%" in out or "0.1 " in out


def test_error_in_percent_and_of_one_run_zero(tmp_path):
    order = np.lexsort((N_ACC, M_ACC))
    rows = zip(M_ACC, N_ACC, 100 * ERROR, strict=True)
    text = "\n".join(["params,data,error", *(f"{m},{n},{v}" for m, n, v in rows)])
    np.testing.assert_allclose(read(tmp_path, text).value, ERROR[order])
    zero = text.replace("error", "value") + "\n64000,25600,0.0"
    assert read(tmp_path, zero, metric="loss").value[-1] == pytest.approx(
        50 * ERROR[order][-1]
    )


def rates(extra="lr", values=("1e-4", "3e-4", "1e-3"), seeds=1):
    rows = [f"params,data,seed,{extra},value"]
    for m, n, v in ROWS:
        for place, own in enumerate(values):
            for seed in range(seeds):
                worse = v + 0.02 * (place - 1) ** 2 + 0.001 * seed
                rows.append(f"{m},{n},{seed},{own},{worse}")
    return "\n".join(rows)


_KNOBS = ["lr", "learning_rate", "weight_decay", "bs", "optimizer", "architecture"]
_KNOBS += ["eta", "ema_decay", "grad_accum_steps", "gradient_clipping", "opt_id"]


@pytest.mark.parametrize("extra", _KNOBS)
def test_tries_are_no_seeds(tmp_path, extra):
    surface = read(tmp_path, rates(extra))
    assert_whole(surface)
    assert any(extra in note and "best" in note for note in surface.notes)


def test_seeds_of_the_best_try_all_count(tmp_path):
    surface = read(tmp_path, rates(seeds=3))
    np.testing.assert_allclose(surface.value, LOSS + 0.001)
    assert surface.num_seeds.tolist() == [3] * 25
    one = read(tmp_path, rates(seeds=3), where=["lr=0.001"])
    np.testing.assert_allclose(one.value, LOSS + 0.021)
    with pytest.raises(UserError, match="--where=lr=7: no such row"):
        read(tmp_path, rates(), where=["lr=7"])


def test_validation_chooses_where_it_is_known(tmp_path):
    text = "params,data,value,validation_value,lr\n"
    for m, n, v in ROWS:
        text += f"{m},{n},{v},{v},1\n{m},{n},{v - 0.1},{v + 0.1},2\n"
    assert_whole(read(tmp_path, text))


def test_seeds_and_results_are_no_settings(tmp_path):
    text = "params,data,value,train_loss,runtime,run_name\n"
    for place, (m, n, v) in enumerate(ROWS):
        for seed in (0, 1):
            text += f"{m},{n},{v},{v - seed},{seed},run{place}-{seed}\n"
    surface = read(tmp_path, text)
    assert surface.num_seeds.tolist() == [2] * 25


@pytest.mark.parametrize(
    "last",
    ["1e9,6e10,NaN,ok", "1e9,6e10,,ok", "1e9,6e10,Infinity,ok", "1e9,6e10,3,crashed"],
)
@pytest.mark.parametrize("well", ["ok", "finished", "COMPLETE", "success"])
def test_runs_that_failed_are_left_out_and_counted(tmp_path, last, well):
    rows = [f"{m},{n},{v:.6f},{well}" for m, n, v in ROWS]
    surface = read(tmp_path, "\n".join(["params,data,value,status", *rows, last]))
    assert_whole(surface)
    assert surface.left_out.sentence.startswith("1 of 26 runs")


@pytest.mark.parametrize(
    ("factor_m", "factor_n"), [(1e-6, 1e-9), (1e-9, 1.0), (1.0, 1e-10)]
)
def test_sizes_that_are_no_counts_are_refused(tmp_path, factor_m, factor_n):
    text = "params,data,value\n" + "\n".join(
        f"{m * factor_m},{n * factor_n},{v}" for m, n, v in ROWS
    )
    with pytest.raises(UserError, match="is no count"):
        read(tmp_path, text)


def test_sizes_made_of_flops_need_not_be_whole(tmp_path):
    rows = [f"{m},{m * 77.7},{loss_at(1e6 * m, 1e9)}" for m in (7, 70, 700, 7000)]
    surface = read(tmp_path, "\n".join(["params,flops,loss", *rows]))
    np.testing.assert_allclose(surface.data, 77.7 / 6)


def test_rows_are_chosen_by_the_names_of_the_table_and_by_ours(tmp_path):
    text = lines(header="N,D,loss")
    for column in ("N", "params"):
        assert len(read(tmp_path, text, where=[f"{column}=1e7"])) == 5


@pytest.mark.parametrize("word", ["OOM", "diverged", "crashed", "n.a.", "?", "\u2013"])
def test_words_in_the_place_of_a_value_say_that_a_run_failed(tmp_path, word):
    rows = [
        (m, n, word if n == SIZES_N[0] and m == SIZES_M[0] else v) for m, n, v in ROWS
    ]
    surface = read(tmp_path, lines("{m},{n},{v}", rows=rows))
    assert len(surface) == 24
    assert "1 of 25 runs are left out (1 without a value)" in surface.left_out.sentence


@pytest.mark.parametrize(
    ("column", "good", "bad", "said"),
    [
        ("diverged", "False", "True", "1 diverged"),
        ("is_failed", "0", "1", "1 failed"),
        ("converged", "True", "False", "1 not converged"),
        ("Finished", "yes", "no", "1 not finished"),
    ],
)
def test_flags_say_that_a_run_failed(tmp_path, column, good, bad, said):
    rows = [(m, n, f"{v},{good}") for m, n, v in ROWS]
    rows[3] = (*rows[3][:2], f"50.0,{bad}")
    text = lines("{m},{n},{v}", f"params,data,value,{column}", rows)
    surface = read(tmp_path, text)
    assert len(surface) == 24
    assert surface.value.max() < 6
    assert f"1 of 25 runs are left out ({said})" in surface.left_out.sentence
    # A time is no flag.
    dated = text.replace(f",{good}", ",2024-01-01").replace(f"50.0,{bad}", "3.0,2024")
    assert len(read(tmp_path, dated)) == 25


def test_a_row_of_means_is_left_out_without_a_size(tmp_path):
    surface = read(tmp_path, lines() + "\nmean,,3.1")
    assert surface.notes[-1] == "1 of 26 runs are left out (1 without data)"
    assert not surface.left_out.is_many


@pytest.mark.parametrize("name", ["model", "size", "Model name", "scale"])
def test_models_named_by_their_size_alone(tmp_path, name):
    rows = [(f"{m / 1e6:g}M", n, v) for m, n, v in ROWS]
    assert_whole(read(tmp_path, lines("{m},{n},{v}", f"{name},tokens,loss", rows)))


@pytest.mark.parametrize(("name", "before"), [("model", "pythia-"), ("variant", "")])
def test_a_column_that_may_be_the_missing_size_is_asked_about(tmp_path, name, before):
    """And not taken for a setting of which the best one counts."""
    text = lines(before + "{m:g},{n:.0f},{v}", f"{name},tokens,loss")
    with pytest.raises(UserError, match="no column of params, and") as told:
        read(tmp_path, text)
    assert f"say --columns=params={name} if it is that" in str(told.value)


@pytest.mark.parametrize(
    ("name", "unit"),
    [("bytes", "bytes"), ("num_bytes", "bytes"), ("sequences", "sequences")],
)
def test_other_things_that_data_count(tmp_path, name, unit):
    surface = read(tmp_path, lines(header=f"params,{name},loss"))
    assert_whole(surface)
    assert surface.data_unit == unit


def test_columns_can_be_said(tmp_path):
    text = lines(header="a,b,c")
    said = parse_columns("params=a,data=b,value=c")
    assert_whole(read(tmp_path, text, columns=said))
    with pytest.raises(UserError, match=r"--columns=params=A: .* no such column"):
        read(tmp_path, text, columns={"params": "A"})
    with pytest.raises(UserError, match="must look like params=N"):
        parse_columns("size=N")
    with pytest.raises(UserError, match="no column"):
        read(tmp_path, text)


LADDER = 20 * np.array(SIZES_M)


def test_a_ladder_is_followed_along_compute(tmp_path, capsys):
    rows = [(m, n, loss_at(m, n)) for m, n in zip(SIZES_M, LADDER, strict=True)]
    path = tmp_path / "points.csv"
    path.write_text(lines(rows=rows))
    fit = [f"--measurements={path}", "--law=power_compute", "--resamples=50"]
    status, out, _ = run_fit(
        capsys, *fit, f"--workdir={tmp_path / 'w'}", "--target=params=7B"
    )
    assert status == 0
    assert "5.88e21 FLOPs" in out
    said = float(out.split("should reach a loss of ")[1].split(" ")[0])
    assert said == pytest.approx(loss_at(7e9, 1.4e11), rel=0.02)
    beside = run_fit(
        capsys, *fit, f"--workdir={tmp_path / 'v'}", "--target=params=7B,data=1e12"
    )
    assert_refused(beside, "speaks of the ladder of the table only")


def test_a_grid_is_no_ladder():
    surface = Surface.from_arrays(M, N, LOSS, metric="loss")
    with pytest.raises(UserError, match="lies beside the ladder"):
        along_compute(surface)
    ladder = Surface.from_arrays(
        SIZES_M, LADDER, loss_at(np.array(SIZES_M), LADDER), metric="loss"
    )
    assert place_on_ladder(ladder, (1e10, 2e11)) == pytest.approx((1.0, 1.2e22))
    assert not knows_split(("params", "data"), ladder)
    assert knows_split(("params", "data"), surface)
    left, said = leave_out("auto", ladder, Questions(budget=1e22))
    assert not left.budget
    assert "rise together" in said[0]


def test_a_wanted_value_above_all_is_left_out():
    surface = Surface.from_arrays(M, N, LOSS, metric="loss")
    left, said = leave_out("auto", surface, Questions(target_value=30.0))
    assert not left.target_value
    assert "is left out" in said[0]
    _, said = leave_out("auto", surface, Questions(budget=1e40), [(1e30, 1e30)])
    assert len(said) == 2


CURVE_N = 100 * 2.0 ** np.arange(8)


def test_a_curve_answers_along_its_size_and_nowhere_else(tmp_path, capsys):
    rows = [(1000, n, 0.02 + 3 * n**-0.35) for n in CURVE_N]
    path = tmp_path / "points.csv"
    path.write_text(lines(rows=rows))
    common = [f"--measurements={path}", "--law=power", "--resamples=50"]
    status, out, _ = run_fit(
        capsys, *common, f"--workdir={tmp_path / 'w'}", "--target_value=0.08",
        "--target=data=1e5", "--budget=1e12",
    )  # fmt: skip
    assert status == 0
    assert "takes 71,500 examples" in out
    assert "--budget is left out" in out
    elsewhere = run_fit(
        capsys, *common, f"--workdir={tmp_path / 'v'}", "--target=params=1e9,data=1e5"
    )
    assert_refused(elsewhere, "speaks of params=1000 only")
    at = run_fit(
        capsys, *common, f"--workdir={tmp_path / 'v'}", "--target_value=0.08",
        "--at_params=1e6",
    )  # fmt: skip
    assert_refused(at, "speaks of params=1000 only")


def test_points_elsewhere_are_not_scored(tmp_path, capsys):
    path = tmp_path / "points.csv"
    path.write_text(lines())
    status, out, _ = run_fit(
        capsys, f"--measurements={path}", f"--workdir={tmp_path / 'w'}",
        "--law=power", "--fit_max_params=1e7", "--resamples=50",
    )  # fmt: skip
    assert status == 0
    assert "20 held-out points are not scored" in out


def test_gates_take_numbers_as_people_write_them():
    gate = parse_gate("value<=5%,params=70B,data=1.4T,probability=0.8")
    assert (gate.value, gate.params, gate.data) == (0.05, 7e10, 1.4e12)


@pytest.mark.parametrize("flag", ["--budget=5e", "--target_value=many", "--at_data=3Q"])
def test_flags_that_are_no_numbers(tmp_path, capsys, flag):
    result = run_fit(capsys, "--measurements=p.csv", f"--workdir={tmp_path}", flag)
    assert result[0] == 2


A_STEP = {
    "tokens a step": ("batch_size_tokens", "262144", 262144),
    "batch and length": ("config/batch_size,config/seq_len", "512,1024", 512 * 1024),
    "with one accumulation": ("bs,context_length,grad_accum", "64,2048,1", 64 * 2048),
    "other letters": ("Global Batch Size,max_seq_length", "1K,512", 512_000),
}


def of_steps(names: str, cells: str, a_step: int) -> str:
    rows = [(m, round(n / a_step), v) for m, n, v in ROWS]
    template = f"{{m:.0f}},{{n}},{cells},{{v:.6f}}"
    return lines(template, f"params,steps,{names},loss", rows)


@pytest.mark.parametrize("kind", A_STEP)
def test_steps_are_counted_in_tokens_where_the_table_tells(tmp_path, kind):
    names, cells, a_step = A_STEP[kind]
    surface = read(tmp_path, of_steps(names, cells, a_step))
    assert_whole(surface, 5e-3)
    assert surface.data_unit == "tokens"
    assert any("data is 'steps x " in note for note in surface.notes)
    as_they_are = read(
        tmp_path, of_steps(names, cells, a_step), columns={"data": "steps"}
    )
    assert as_they_are.data_unit == "steps"
    np.testing.assert_allclose(as_they_are.data, N / a_step, rtol=5e-3)


@pytest.mark.parametrize(
    ("names", "cells"),
    [
        ("batch_size,seq_len,gradient_accumulation_steps", "512,1024,4"),
        ("batch_size,seq_len,config/world_size", "512,1024,8"),
        ("batch_size,seq_len", "0.5M,1024"),  # tokens already
        ("batch_size,seq_len", "auto,1024"),
        ("per_device_train_batch_size,seq_len", "8,1024"),
        ("batch_size", "512"),
    ],
)
def test_steps_stay_steps_where_what_they_take_is_in_doubt(tmp_path, names, cells):
    surface = read(tmp_path, of_steps(names, cells, 512 * 1024))
    assert surface.data_unit == "steps"
    np.testing.assert_allclose(surface.data, N / 512 / 1024, rtol=5e-3)


@pytest.mark.parametrize("data", ["Epoch", "epoch", ""])
def test_epochs_and_flops_are_not_multiplied(tmp_path, data):
    """Batch and length say nothing of an epoch, or where nothing counts data."""
    size = data or "flops"
    rows = [f"{k * 1e15 if not data else k},512,1024,{2 + 1 / k}" for k in range(1, 9)]
    text = "\n".join([f"{size},batch_size,seq_len,loss", *rows])
    surface = read(tmp_path, text)
    assert surface.data_unit == ("epochs" if data else "FLOPs")
    np.testing.assert_allclose(surface.value, 2 + 1 / np.arange(1, 9))


def test_batches_that_differ_are_no_setting_of_which_one_is_best(tmp_path):
    """Every row is a point of its own, though steps are those of another."""
    rows = [
        f"{m:.0f},{n / 1024 / (256 << (i % 2)):.9g},{256 << (i % 2)},1024,{v:.6f}"
        for i, (m, n, v) in enumerate(ROWS)
    ]
    header = "params,step,batch_size,seq_len,loss"
    assert_whole(read(tmp_path, "\n".join([header, *rows])), 1e-4)


@pytest.mark.parametrize("column", ["steps", "audio hours", "sequences"])
def test_no_budget_is_answered_in_what_has_no_flops(tmp_path, capsys, column):
    path, unit = tmp_path / "points.csv", column.split()[-1]
    path.write_text(lines(header=f"params,{column},loss"))
    common = [f"--measurements={path}", "--law=chinchilla", "--resamples=20"]
    status, out, err = run_fit(
        capsys, *common, f"--workdir={tmp_path / 'w'}", "--budget=1e21", BEYOND
    )
    assert status == 0, err
    assert f"--budget is left out: data are {unit}, and what one costs" in out
    gate = "--gate=value<=2.5,budget=1e21,probability=0.8"
    asked = run_fit(capsys, *common, f"--workdir={tmp_path / 'v'}", gate)
    assert_refused(asked, f"data are {unit}, and what one costs is not known")
    with pytest.raises(UserError, match="what one costs is not known"):
        along_compute(Surface.from_csv(path))
    ours = lines("ours,{m:.0f},{n:.0f},{v:.6f}", f"family,params,{column},loss")
    both = [ours, *ours.replace("ours", "theirs").splitlines()[1:]]
    groups = tmp_path / "groups.csv"
    groups.write_text("\n".join(both))
    of_groups = [f"--measurements={groups}", *common[1:], "--by=family"]
    status, out, err = run_fit(
        capsys, *of_groups, f"--workdir={tmp_path / 'x'}", "--budget=1e21"
    )
    assert status == 0, err
    assert f"--budget is left out: data are {unit}" in " ".join(out.split())
    gate = "--gate=arm=ours better than theirs at budget=1e21 probability=0.8"
    asked = run_fit(capsys, *of_groups, f"--workdir={tmp_path / 'y'}", gate)
    assert_refused(asked, f"data are {unit}, and what one costs is not known")
    # A column of FLOPs says what they cost.
    rows = [f"{m:.0f},{n:.0f},{7e3 * m * n:.6g},{v:.6f}" for m, n, v in ROWS]
    path.write_text("\n".join([f"params,{column},flops,loss", *rows]))
    status, out, err = run_fit(
        capsys, *common, f"--workdir={tmp_path / 'u'}", "--budget=1e25"
    )
    assert status == 0, err
    assert "1e25 FLOPs reach a loss of" in out


@pytest.mark.parametrize(
    ("header", "unit", "metric"),
    [
        ("params,unique_tokens,epochs,loss", "tokens", "loss"),
        ("params,speech_hours,epochs,neg_log_likelihood", "hours", "loss"),
        ("params,Hours of audio,epochs,negative log-likelihood", "hours", "loss"),
    ],
)
def test_more_usual_names(tmp_path, header, unit, metric):
    surface = read(tmp_path, lines("{m:.0f},{n:.0f},1,{v:.6f}", header))
    assert_whole(surface)
    assert surface.data_unit == unit
    assert surface.metric == metric


def test_unique_data_and_epochs_are_three_sizes(tmp_path):
    rows = [(m, n, v * (1 + 0.1 / k), k) for m, n, v in ROWS for k in (1, 2, 4)]
    text = "\n".join(
        ["params,unique_tokens,epochs,loss"]
        + [f"{m:.0f},{n:.0f},{k},{v:.6f}" for m, n, v, k in rows]
    )
    surface = read(tmp_path, text, data_counts="if_told")
    assert len(surface) == 75
    assert surface.epochs is not None
    np.testing.assert_allclose(surface.data, [n for _, n, *_ in rows])


@pytest.mark.parametrize("name", ["acc@1", "acc1", "Top1 acc"])
def test_acc_1_is_an_accuracy_and_refused_where_it_falls(tmp_path, name):
    shares = [(m, n, 100 * math.exp(-v / 4)) for m, n, v in ROWS]
    surface = read(tmp_path, lines(header=f"params,images,{name}", rows=shares))
    assert surface.metric == "error"
    np.testing.assert_allclose(surface.value, 1 - np.exp(-LOSS / 4), rtol=1e-5)
    errors = [(m, n, 100 - share) for m, n, share in shares]
    with pytest.raises(UserError, match="say --metric=error, or loss"):
        read(tmp_path, lines(header=f"params,images,{name}", rows=errors))


def test_top1_may_be_an_error_or_an_accuracy(tmp_path):
    """Its name does not say, so it is asked for, and refused where it rises."""
    shares = [(m, n, math.exp(-v / 4)) for m, n, v in ROWS]
    text = lines(header="params,images,top1", rows=shares)
    with pytest.raises(UserError, match="no column value"):
        read(tmp_path, text)
    with pytest.raises(UserError, match="say --metric=accuracy if it is one"):
        read(tmp_path, text, columns={"value": "top1"})
    errors = lines(
        header="params,images,top1_err", rows=[(m, n, 1 - s) for m, n, s in shares]
    )
    np.testing.assert_allclose(
        read(tmp_path, errors).value, 1 - np.exp(-LOSS / 4), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("header", "template"),
    [
        ("params,tokens_per_param,loss", "{m:.0f},{r:.9g},{v:.6f}"),
        ("Params (M),tokens per parameter,loss", "{p:.9g},{r:.9g},{v:.6f}"),
        ("N,D/N,loss", "{m:.0f},{r:.9g},{v:.6f}"),
        ("params,flops,TPP,loss", "{m:.0f},{f:.9g},{r:.9g},{v:.6f}"),
    ],
)
def test_data_follow_from_data_a_parameter(tmp_path, header, template):
    rows = [
        template.format(m=m, p=m / 1e6, r=n / m, f=7 * m * n, v=v) for m, n, v in ROWS
    ]
    surface = read(tmp_path, "\n".join([header, *rows]))
    assert_whole(surface)
    assert any(" x " in note for note in surface.notes)
    if "token" in header:
        assert surface.data_unit == "tokens"


def test_data_a_parameter_with_a_comma_for_decimals(tmp_path):
    rows = [f"{m:.0f};{comma(n / m)};{comma(v)}" for m, n, v in ROWS]
    text = "\n".join(["params;tokens_per_param;loss", *rows])
    assert_whole(read(tmp_path, text), 1e-4)


def in_passes(name: str) -> str:
    rows = [
        f"{m:.0f},{n:.0f},{k},{v * (1 + 0.1 / k):.6f}"
        for m, n, v in ROWS
        for k in (1, 2, 4)
    ]
    return "\n".join([f"params,tokens,{name},loss", *rows])


@pytest.mark.parametrize("name", ["epochs", "Epochs", "num_epochs", "unique_tokens"])
def test_runs_that_saw_data_differently_often_are_no_seeds(tmp_path, name):
    """Where passes are no size, the best of each size counts, and it is told."""
    surface = read(tmp_path, in_passes(name))
    assert len(surface) == 25
    np.testing.assert_allclose(surface.value, LOSS * 1.025, rtol=1e-5)
    assert any("the best of each size counts" in note for note in surface.notes)


def test_where_one_model_was_trained_passes_are_no_size(tmp_path):
    text = in_passes("epochs").splitlines()
    one = [line for line in text[1:] if line.startswith("10000000,")]
    surface = read(tmp_path, "\n".join([text[0], *one]), data_counts="if_told")
    assert len(surface) == 5
    assert surface.epochs is None
    np.testing.assert_allclose(surface.value, LOSS[:5] * 1.025, rtol=1e-5)
    for part in ("epochs are left out", "the best of each size counts"):
        assert any(part in note for note in surface.notes)


@pytest.mark.parametrize("cell", ["0", "", "none", "many"])
def test_epochs_that_nobody_asked_for_may_be_anything(tmp_path, cell):
    text = lines("{m:.0f},{n:.0f},{v:.6f}," + cell, "params,tokens,loss,epochs")
    assert_whole(read(tmp_path, text))


def test_epochs_that_differ_by_rounding_are_seeds(tmp_path):
    rows = [
        f"{m:.0f},{n:.0f},{k},{v:.6f}" for m, n, v in ROWS for k in (0.98, 1.0, 1.03)
    ]
    surface = read(tmp_path, "\n".join(["params,tokens,epochs,loss", *rows]))
    assert_whole(surface)
    assert np.all(surface.num_seeds == 3)

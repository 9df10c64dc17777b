"""Any table and any flags are answered, or refused in one sentence."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_commands import run_fit
from test_tables import lines, read

from scalepred.config import UserError

pytestmark = pytest.mark.usefixtures("undrawn")


CELLS = st.one_of(
    st.floats(1e-3, 1e12).map(lambda x: f"{x:.6g}"),
    st.sampled_from(
        [
            "10M",
            "3.2B",
            "1,5",
            "1.000",
            "nan",
            "inf",
            "-1",
            "0",
            "5%",
            "crashed",
            "''",
            "1e9",
            "200",
            "1e-308",
            "x",
            "2_000",
        ]
    ),
)


HEADERS = st.lists(
    st.sampled_from(
        [
            "params",
            "data",
            "value",
            "N",
            "D",
            "C",
            "loss",
            "tokens",
            "accuracy",
            "seed",
            "lr",
            "status",
            "flops",
            "epochs",
            "step",
            "error",
            "ppl",
            "metric",
            "index",
            "n",
            "m",
        ]
    ),
    min_size=1,
    max_size=5,
    unique=True,
)


def check_any_table(folder, header, rows, delimiter):
    text = "\n".join(delimiter.join(row[: len(header)]) for row in [header, *rows])
    surface, refused = None, ""
    try:
        surface = read(folder, text)
    except UserError as error:
        refused = str(error)
    if surface is None:
        assert refused.isprintable()
        assert len(refused) < 600
        return
    for numbers_of in (surface.value, surface.params, surface.data):
        assert np.all(np.isfinite(numbers_of) & (numbers_of > 0))


ANY_TABLE = given(
    header=HEADERS,
    rows=st.lists(st.lists(CELLS, min_size=5, max_size=5), min_size=1, max_size=12),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
)


@pytest.mark.short
@settings(max_examples=100, deadline=None)
@ANY_TABLE
def test_any_table_is_read_or_refused(tmp_path_factory, header, rows, delimiter):
    check_any_table(tmp_path_factory.mktemp("t"), header, rows, delimiter)


@pytest.mark.slow
@settings(max_examples=600, deadline=None)
@ANY_TABLE
def test_any_of_many_tables(tmp_path_factory, header, rows, delimiter):
    check_any_table(tmp_path_factory.mktemp("t"), header, rows, delimiter)


SIZES = st.sampled_from(
    [
        "1e9",
        "70B",
        "1.4T",
        "1,000",
        "5%",
        "0",
        "-1",
        "nan",
        "inf",
        "1e300",
        "1e-300",
        "x",
        "3",
        "2e7",
    ]
)


FLAGS = st.lists(
    st.one_of(
        st.tuples(SIZES, SIZES).map(
            lambda both: f"--target=params={both[0]},data={both[1]}"
        ),
        SIZES.map(lambda size: f"--target=params={size}"),
        st.tuples(
            st.sampled_from(
                [
                    "target_value",
                    "budget",
                    "at_params",
                    "at_data",
                    "at_epochs",
                    "random_guess",
                    "above",
                    "fit_max_params",
                    "fit_max_data",
                    "fit_max_compute_ratio",
                    "until_width",
                ]
            ),
            SIZES,
        ).map(lambda pair: f"--{pair[0]}={pair[1]}"),
        st.sampled_from(
            [
                "--law=power",
                "--law=power_compute",
                "--law=m4_params",
                "--law=nothing",
                "--law=data_constrained",
                "--metric=error",
                "--metric=accuracy",
                "--metric=",
                "--task=x",
                "--data_counts=seen",
                "--where=lr=1",
                "--where=params=1e7",
                "--columns=params=data",
                "--columns=x",
                "--plan",
                "--decimal=,",
                "--decimal=;",
                "--residual=huber:1e-3",
                "--residual=x",
                "--cost=mn",
                "--json",
                "--gate=value<=3,budget=1e20,probability=0.5",
                "--gate=value<=3,params=1e9,data=1e11,probability=0.5",
                "--gate=x",
            ]
        ),
    ),
    max_size=4,
)


def check_any_flags(folder, capsys, given_flags):
    path = folder / "points.csv"
    path.write_text(lines())
    # The page is the same for all; what it is made of is checked.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scalepred.analysis.finish", lambda *_: None)
        status, out, err = run_fit(
            capsys, f"--measurements={path}", f"--workdir={folder / 'w'}",
            "--resamples=20", "--law=chinchilla", *given_flags,
        )  # fmt: skip
    assert "Traceback" not in out + err
    assert "Warning" not in err
    assert status in (0, 2, 3)
    if status == 2:
        assert err.count("\n") == 1
    for sealed in (folder / "w" / "forecasts").glob("*.json"):
        for target in json.loads(sealed.read_text())["targets"]:
            ends = [target[name] for name in ("lower", "value", "upper")]
            assert ends == sorted(ends)
            assert np.all(np.isfinite(ends))


@pytest.mark.short
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(given_flags=FLAGS)
def test_any_flags_are_answered_or_refused(tmp_path_factory, capsys, given_flags):
    check_any_flags(tmp_path_factory.mktemp("f"), capsys, given_flags)


@pytest.mark.slow
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(given_flags=FLAGS)
def test_any_of_many_flags(tmp_path_factory, capsys, given_flags):
    check_any_flags(tmp_path_factory.mktemp("f"), capsys, given_flags)

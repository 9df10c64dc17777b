"""Tables of every kind through the whole command: an answer in order, or one sentence.

Values fall, rise, stay or jump; they are huge or tiny, exact or noisy; cells are
missing, doubled or broken.
"""

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_commands import run_fit

from scalepred.report.results import Results

KINDS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "shape": st.sampled_from(["grid", "scattered", "ladder", "along n", "along m"]),
        "points": st.sampled_from([1, 4, 6, 9, 16, 25, 30]),
        "decades": st.sampled_from([0.0, 0.3, 2.0, 2.0, 6.0]),
        "curve": st.sampled_from(["falls", "rises", "flat", "dips", "jumps", "noise"]),
        "scale": st.sampled_from([1e-9, 0.05, 1.0, 50.0, 1e9]),
        "floor": st.sampled_from([0.0, 0.5, 5.0]),
        "noise": st.sampled_from([0.0, 1e-3, 0.05, 0.5]),
        "seeds": st.sampled_from([1, 1, 2, 3]),
        "value": st.sampled_from(["loss", "loss", "error", "accuracy", "value"]),
        "broken": st.sampled_from([*8 * [""], "empty", "nan", "inf", "0", "-1", "x"]),
        "flops": st.sampled_from(["no", "6mn", "odd"]),
        "law": st.sampled_from(["chinchilla", "rosenfeld", "kaplan"]),
    }
)


def make_table(kind) -> str:
    rng = np.random.default_rng(kind["seed"])
    count, wide = kind["points"], kind["decades"]
    m, n = 10 ** rng.uniform([[4], [5]], [[4 + wide], [5 + wide]], (2, count))
    if kind["shape"] == "grid":
        side = max(1, math.isqrt(count))
        sizes = np.meshgrid(*(np.geomspace(1e4, 10 ** (4 + wide), side),) * 2)
        m, n = sizes[0].ravel(), 10 * sizes[1].ravel()
    elif kind["shape"] == "ladder":
        n = 20 * m
    elif kind["shape"] != "scattered":
        m, n = (m[:1], n) if kind["shape"] == "along n" else (m, n[:1])
    m, n = np.broadcast_arrays(m, n)
    terms = 10 * m**-0.3 + 20 * n**-0.3
    value = {
        "falls": terms,
        "rises": 1 / terms,
        "flat": np.ones_like(terms),
        "dips": 1 + np.abs(np.log(terms)),
        "jumps": np.where(terms > np.median(terms), 1.0, 0.1),
        "noise": np.exp(rng.standard_normal(len(m))),
    }[kind["curve"]]
    value = kind["scale"] * (value + kind["floor"])
    text = io.StringIO()
    writer = csv.writer(text)
    with_flops = kind["flops"] != "no"
    writer.writerow(["params", "data", "seed", kind["value"], *["flops"] * with_flops])
    broken = rng.integers(len(m))
    for i in range(len(m)):
        for seed in range(kind["seeds"]):
            noisy = value[i] * math.exp(kind["noise"] * rng.standard_normal())
            cell = f"{noisy:.6g}"
            if i == broken and kind["broken"]:
                cell = kind["broken"].replace("empty", "")
            odd = float(np.exp(rng.normal(0, 3))) if kind["flops"] == "odd" else 6.0
            row = [f"{m[i]:.6g}", f"{n[i]:.6g}", seed, cell]
            writer.writerow(row + [f"{odd * m[i] * n[i]:.6g}"] * with_flops)
    return text.getvalue()


def check(folder, capsys, kind):
    path = folder / "points.csv"
    path.write_text(make_table(kind))
    found: list[Results] = []
    law, targets = kind["law"], ["--target=params=1e14,data=1e15"]
    if kind["shape"].startswith("along"):
        law, targets = "power" if kind["shape"].endswith("n") else "power_params", []
    with pytest.MonkeyPatch.context() as patch:
        # The page is left out; what it is made of is checked.
        patch.setattr(
            "scalepred.analysis.finish", lambda _, told, *__: found.append(told)
        )
        status, out, err = run_fit(
            capsys, f"--measurements={path}", f"--workdir={folder / 'w'}",
            "--resamples=20", f"--law={law}", *targets,
        )  # fmt: skip
    assert "Traceback" not in out + err
    assert "Warning" not in err
    if status == 2:
        last = err.strip().splitlines()[-1]
        assert last.startswith("scalepred-fit: ")
        assert len(last) < 700
        return
    assert status == 0
    for row in found[0].predictions:
        ends = [row.lower, row.predicted, row.upper]
        assert np.all(np.isfinite(ends)), row
        assert ends == sorted(ends), row
        assert row.predicted > 0


# Such a table is small already: what fails is shown as it was found.
SETTINGS = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.short
@settings(SETTINGS, max_examples=12)
@given(kind=KINDS)
def test_a_table_is_answered_or_refused(tmp_path_factory, capsys, kind):
    check(tmp_path_factory.mktemp("t"), capsys, kind)


@pytest.mark.slow
@settings(SETTINGS, max_examples=500)
@given(kind=KINDS)
def test_any_of_many_tables(tmp_path_factory, capsys, kind):
    check(tmp_path_factory.mktemp("t"), capsys, kind)

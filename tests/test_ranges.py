"""Sizes and values that no float can work with are refused, all others answered."""

import math
import re

import numpy as np
import pytest

import scalepred
from scalepred.config import UserError
from scalepred.fitting.region import check_target
from scalepred.table.numbers import write_size
from scalepred.table.surface import Surface

_M, _N = np.repeat([1e5, 1e6, 1e7], 3), np.tile([1e6, 1e7, 1e8], 3)
_VALUE = 1.5 + (_M / 1e5) ** -0.3 + (_N / 1e6) ** -0.2


@pytest.mark.parametrize("column", ["params", "data", "value", "weight", "epochs"])
@pytest.mark.parametrize("number", [1e-308, 5e-324, 1e-41, 1e41, 1e300])
def test_numbers_of_no_measurement_are_refused(column: str, number: float) -> None:
    columns = {"params": _M, "data": _N, "value": _VALUE}
    columns |= {"weight": np.ones(9), "epochs": np.ones(9)}
    columns = {name: numbers.copy() for name, numbers in columns.items()}
    columns[column][4] = number
    with pytest.raises(
        UserError, match=re.escape(f"{column}, row 5: {write_size(number)}")
    ):
        Surface.from_arrays(**columns, metric="loss")


@pytest.mark.parametrize("name", ["params", "data", "epochs"])
@pytest.mark.parametrize("size", [1e-308, 1e41, 1e300, math.inf, math.nan, 0.0])
def test_targets_of_no_size_are_refused(name: str, size: float) -> None:
    target = {"params": 1e9, "data": 1e10, "epochs": 2.0} | {name: size}
    told = re.escape(f"target {name}={write_size(size)}: must")
    with pytest.raises(UserError, match=told):
        check_target(
            target["params"], target["data"], target["epochs"], _M, _N, np.ones(9)
        )


@pytest.mark.parametrize("row", [(1e-30, 1e-30, 9.0), (1e30, 1e30, 1.5), (1e8, 1e9, 0)])
def test_the_ends_of_the_range_are_fitted(row: tuple[float, ...]) -> None:
    m, n, value = (
        np.append(own, more) for own, more in zip((_M, _N, _VALUE), row, strict=True)
    )
    value[-1] = value[-1] or 1e-30
    surface = Surface.from_arrays(m, n, value, metric="loss")
    fit = scalepred.fit(surface, "chinchilla", resamples=20, starts=8)
    said = fit.predict(1e30, 1e30)
    assert 0 <= said.lower <= said.value <= said.upper
    check_target(1e30, 1e30, None, _M, _N, None)


@pytest.mark.parametrize("budget", [1e-300, 1e-30, 1e300])
def test_any_budget_has_an_answer_without_warnings(budget: float) -> None:
    surface = Surface.from_arrays(_M, _N, _VALUE, metric="loss")
    fit = scalepred.fit(surface, "chinchilla", resamples=20, starts=8)
    answer = fit.best_for_budget(budget)
    assert answer.lower <= answer.value <= answer.upper

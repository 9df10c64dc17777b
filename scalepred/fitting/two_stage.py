"""The law of two stages: an error that follows the loss, which follows the sizes.

    e(m, n) = link(L(m, n) exp(shift))                                             (1)

theta is that of the loss's law, then that of the link (`link.py`) and the shift, which
is 0 at the best fit and the misfit of the loss in a draw.

Source: Gadre et al. 2024 (arXiv:2403.08540, section 3.3), Bhagia et al. 2024
(arXiv:2412.04403, section 2).
"""

import functools

import jax
import numpy as np

from scalepred.fitting.laws import Array, Law, Parameter, Scale
from scalepred.fitting.link import LINKS, Numbers, log_error

NAME = "two_stage"
_PARAMETERS = (
    *(Parameter(f"is {name}", 0.0, 1.0, is_log=False) for name in LINKS),
    Parameter("floor", 1e-6, 1.0),
    Parameter("ceiling", 1e-6, 1e6),
    Parameter("steepness", 1e-6, 1e6),
    Parameter("middle_loss", -1e6, 1e6, is_log=False),
    Parameter("loss_shift", -10.0, 10.0, is_log=False),
)
_SIZE = len(_PARAMETERS)
_HAIR = 1e-12


@functools.cache
def make_law(inner: Law) -> Law:
    """Eq. (1): theta is that of the loss's law, then that of the link and a shift."""

    def public(
        theta: np.ndarray, scale: Scale, params_unit: float, data_unit: float
    ) -> dict[str, np.ndarray]:
        numbers = Numbers(*np.moveaxis(theta[..., -5:-1], -1, 0))
        of_link = {
            "floor": np.exp(numbers.floor),
            "ceiling": np.exp(numbers.ceiling),
            "steepness": np.exp(numbers.steepness),
            "middle_loss": numbers.middle,
        }
        of_loss = inner.public(theta[..., :-_SIZE], scale, params_unit, data_unit)
        return of_link | {f"loss {name}": one for name, one in of_loss.items()}

    return Law(
        name=NAME,
        source=f"Gadre et al. 2024, section 3.3; of the loss: {inner.source}",
        formula="floor + (ceiling - floor) F(k (L - L0)), L the loss",
        parameters=(*inner.parameters, *_PARAMETERS),
        log_value=functools.partial(_log_value, inner),
        start=inner.start,
        public=public,
        unit=inner.unit,
        axes=inner.axes,
    )


def _log_value(
    inner: Law,
    theta: Array,
    x: Array,
    y: Array,
    scale: Scale,
    z: Array | float | None = None,
) -> jax.Array:
    log_loss = inner.at(z).log_value(theta[:-_SIZE], x, y, scale) + theta[-1]
    numbers = Numbers(*(theta[i] for i in range(-5, -1)))
    # A hair of the loss itself: slopes then tell the best split where the link is flat.
    return log_error(theta[-_SIZE:-5], numbers, log_loss) + _HAIR * log_loss


def find_inner(law: Law) -> Law | None:
    """The loss's law of a law of two stages; None of any other."""
    inside = law.log_value
    if isinstance(inside, functools.partial) and inside.func is _log_value:
        return inside.args[0]
    return None

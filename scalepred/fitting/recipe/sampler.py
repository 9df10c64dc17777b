"""Draws from a density that is known up to a factor."""

from collections.abc import Callable

import numpy as np

# How far a walker may jump, as a factor; the usual 2.
_STRETCH = 2.0


def draw(
    log_density: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    rng: np.random.Generator,
    *,
    burn_in: int,
    steps: int,
    keep_every: int,
) -> np.ndarray:
    """Draws by walkers that stretch towards each other.

    Nothing is tuned: the moves are the same whatever the scales of the parameters are
    and however they depend on each other.

    Args:
        log_density: of parameters [walkers, parameters] -> [walkers].
        start: of the walkers, an even number of them [walkers, parameters].
        rng: of the moves.
        burn_in: steps that are forgotten.
        steps: that follow.
        keep_every: so many steps the walkers are drawn.

    Returns:
        [draws, parameters].

    Source: Goodman and Weare 2010, "Ensemble samplers with affine invariance".
    """
    walkers = start.copy()
    density = log_density(walkers)
    half, size = len(walkers) // 2, walkers.shape[1]
    kept = []
    for step in range(burn_in + steps):
        for first in (0, half):
            own = slice(first, first + half)
            others = walkers[half - first : 2 * half - first]
            partner = others[rng.integers(half, size=half)]
            # Density of the factor z is as 1 / sqrt(z) between 1 / a and a.
            z = ((_STRETCH - 1) * rng.random(half) + 1) ** 2 / _STRETCH
            tried = partner + z[:, None] * (walkers[own] - partner)
            found = log_density(tried)
            gain = (size - 1) * np.log(z) + found - density[own]
            is_taken = np.log(rng.random(half)) < gain
            walkers[own][is_taken] = tried[is_taken]
            density[own][is_taken] = found[is_taken]
        if step >= burn_in and step % keep_every == 0:
            kept.append(walkers.copy())
    return np.concatenate(kept)

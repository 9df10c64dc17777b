"""Small positive definite systems of many lanes, without LAPACK."""

import jax
import jax.numpy as jnp

from scalepred.fitting.laws import Array

# Rows that are eliminated one by one; products do the rest.
_BLOCK_OF_ROWS = 9


def solve_positive(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """Solves a symmetric positive definite system; NaN where it is not.

    Vectorised over lanes, where LAPACK takes one lane after the other; and LAPACK's
    calls wait for threads of the very pool that they run in, so that programs in as
    many Python threads as there are cores may wait for ever.
    """
    # Scaled to a unit diagonal: parameters differ by many orders of magnitude.
    scale = jax.lax.rsqrt(jnp.diagonal(matrix))
    columns = matrix * scale[:, None] * scale[None, :]
    columns = jnp.concatenate([columns, (vector * scale)[:, None]], axis=1)
    return _eliminate(columns)[:, 0] * scale


def _eliminate(columns: jax.Array) -> jax.Array:
    """From [A, B] to A^-1 B, a block of rows after the other."""
    rows, size = len(columns), min(_BLOCK_OF_ROWS, len(columns))

    def eliminate_row(k: Array, block: jax.Array) -> jax.Array:
        pivot = jnp.sqrt(block[k, k])  # NaN below 0
        row = block[k] / pivot / pivot
        others = jnp.where(jnp.arange(size) == k, 0.0, block[:, k])
        return (block - others[:, None] * row).at[k].set(row)

    first = jax.lax.fori_loop(0, size, eliminate_row, columns[:size])[:, size:]
    if size == rows:
        return first
    by_rest, own = jnp.split(first, [rows - size], axis=1)
    rest = _eliminate(columns[size:, size:] - columns[size:, :size] @ first)
    return jnp.concatenate([own - by_rest @ rest, rest])

"""Random changes of training images, drawn on the device for each example."""

import jax
import jax.numpy as jnp

_MARGIN = 4  # pixels


def augment(images: jax.Array, kind: str, key: jax.Array) -> jax.Array:
    """Images moved by up to four pixels either way, and perhaps mirrored.

    Args:
        images: as stored [batch, height, width, channels].
        kind: crop: pad with zeros by 4 on every side and cut out at random;
            crop_flip: and mirror every other one left to right.
        key: of the cell and the step, so that no result depends on the lane.

    Returns:
        Images of the same shape and dtype.

    Source: the usual augmentation of CIFAR, as in the code the paper builds on.
    """
    count, height, width, _ = images.shape
    move_key, coin_key = jax.random.split(key)
    down, right = jax.random.randint(move_key, (2, count), 0, 2 * _MARGIN + 1)
    padded = jnp.pad(images, [(0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)])
    rows = down[:, None] + jnp.arange(height)
    columns = right[:, None] + jnp.arange(width)
    if kind == "crop_flip":
        is_mirrored = jax.random.bernoulli(coin_key, shape=(count, 1))
        columns = jnp.where(is_mirrored, columns[:, ::-1], columns)
    each = jnp.arange(count)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]]

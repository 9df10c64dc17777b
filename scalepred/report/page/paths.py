"""Path data of SVG, in as few bytes as may be: lines, marks, dots."""

import math

import numpy as np

_SLACK = 0.2  # units that a line may be drawn beside its place


def draw_shape(shape: str, x: float, y: float, size: float) -> str:
    """The outline of a mark about a place, as path data.

    A diamond and a star begin at the place itself, so that it can be moved (zoom.js).
    """
    r = say(size)
    if shape == "circle":
        # All around but for a tenth, which "z" closes; flags, 1 and 0, need no gap.
        return f"M{say(x)} {say(y - size)}a{r} {r} 0 10.1 0z"
    if shape == "square":
        side = round(1.8 * size)
        start = f"M{say(x - side / 2)} {say(y - side / 2)}"
        return f"{start}h{side}v{side}h-{side}z"
    if shape == "cross":
        return (
            f"M{say(x - size)} {say(y - size)}l{say(2 * size)} {say(2 * size)}"
            f"m0 {say(-2 * size)}l{say(-2 * size)} {say(2 * size)}"
        )
    corners, inner = (4, 1.0) if shape == "diamond" else (10, 0.45)
    angles = np.arange(corners) * 2 * math.pi / corners - math.pi / 2
    radius = np.where(np.arange(corners) % 2, size * inner, size)
    around = np.stack([radius * np.cos(angles), radius * np.sin(angles)]).round(1)
    steps = np.diff(around).T.ravel()
    start = f"M{say(x)} {say(y)}m0 {say(around[1, 0])}"
    return f"{start}l{' '.join(map(say, steps))}z"


def thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places that a line cannot do without.

    A place stays if it is farther than `_SLACK` from the line between those that stay
    about it (Douglas and Peucker 1973).
    """
    if len(x) < 3:
        return x, y
    run, rise = x[-1] - x[0], y[-1] - y[0]
    length = math.hypot(run, rise) or 1.0
    off = np.abs(run * (y - y[0]) - rise * (x - x[0])) / length
    middle = int(np.argmax(off))
    if off[middle] <= _SLACK:
        return x[[0, -1]], y[[0, -1]]
    before, after = (
        thin(x[: middle + 1], y[: middle + 1]),
        thin(x[middle:], y[middle:]),
    )
    return np.append(before[0][:-1], after[0]), np.append(before[1][:-1], after[1])


def trace(x: np.ndarray, y: np.ndarray) -> str:
    """A path through places in units [places]."""
    places = zip(x.tolist(), y.tolist(), strict=True)
    return "M" + " ".join(f"{say(across)} {say(down)}" for across, down in places)


def draw_dots(x: np.ndarray, y: np.ndarray) -> str:
    """A dot at each place, in whole units and none twice, as short as can be."""
    places = np.unique(np.stack([x, y], axis=1).round().astype(int), axis=0)
    steps = np.diff(places, axis=0, prepend=[[0, 0]]).tolist()
    # After a "z" a step starts from the place of the dot before.
    return "".join(f"m{dx}{'' if dy < 0 else ' '}{dy}z" for dx, dy in steps)


def say(number: float | np.ndarray) -> str:
    """A place in units, to a tenth."""
    return f"{round(float(number), 1) + 0.0:g}"  # + 0.0: never -0

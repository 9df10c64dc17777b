"""Draws the figures in processes beside this one.

Importing matplotlib takes as long as half a fit, and drawing as long as the other half.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scalepred.report.scene import Drawing, Scene


class Painter:
    """A process that gets ready to draw one scene as soon as it is made."""

    def __init__(self) -> None:
        # It finds what this process finds. It ends when this one does, whatever way:
        # then there is nothing more to read.
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import sys; sys.path = {sys.path!r}; "
                f"from {__name__} import paint; paint()",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # it forks
            start_new_session=True,  # Ctrl-C is answered here
        )

    def start(self, scene: Scene) -> None:
        """Starts to draw."""
        assert self._process.stdin is not None
        pickle.dump(scene, self._process.stdin)
        self._process.stdin.close()

    def finish(self) -> dict[str, Drawing]:
        """The figures of the scene by name, in order, once they are drawn.

        Raises:
            RuntimeError: they could not be; the reason stands on stderr.
        """
        assert self._process.stdout is not None
        with self._process.stdout as file:
            drawn = file.read()
        if self._process.wait():
            raise RuntimeError("the figures could not be drawn: see above")
        return pickle.loads(drawn)


def paint() -> None:
    """What that process does: reads a scene, draws, writes what it drew."""
    output, sys.stdout = sys.stdout.buffer, sys.stderr
    from scalepred.report import figures

    told = sys.stdin.buffer.read()
    if not told:
        return
    scene: Scene = pickle.loads(told)
    draw = functools.partial(figures.draw, scene)
    context = multiprocessing.get_context("fork")
    with context.Pool(min(os.cpu_count() or 1, len(scene.figures))) as pool:
        drawn = pool.map(draw, scene.figures, chunksize=1)
    pickle.dump(dict(zip(scene.figures, drawn, strict=True)), output)
    output.flush()

"""Draws the figures in processes beside this one.

Importing matplotlib takes as long as half a fit, and drawing as long as the other half.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scalepred.report.plot_data import FigureFiles, PlotData


class FigureProcess:
    """A process that imports matplotlib at once, and draws what it is then sent."""

    def __init__(self) -> None:
        self._line, other = multiprocessing.Pipe()
        # It finds what this process finds. It ends when this one does, whatever way:
        # then there is nothing more to read.
        with other:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    f"import sys; sys.path = {sys.path!r}; "
                    f"from {__name__} import serve; serve({other.fileno()})",
                ],
                pass_fds=[other.fileno()],
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # it forks
                start_new_session=True,  # Ctrl-C is answered here
            )

    def start(self, plot: PlotData) -> None:
        """Starts to draw; where it was called before, what is new."""
        with contextlib.suppress(BrokenPipeError):  # it ended: finish says so
            self._line.send(plot)

    def finish(self) -> dict[str, FigureFiles]:
        """The figures of the last `start` by name, in order, once they are drawn.

        Raises:
            RuntimeError: they could not be; the reason stands on stderr.
        """
        try:
            self._line.send(None)  # no more
            return self._line.recv()
        except (BrokenPipeError, EOFError, ConnectionResetError):
            raise RuntimeError("the figures could not be drawn: see above") from None
        finally:
            self.close()  # having said why, if it failed

    def close(self) -> None:
        """Ends the process, whether it was given something to draw or not."""
        self._line.close()
        self._process.wait()


def serve(line: int) -> None:
    """What that process does: reads `PlotData` from that file, sends what it drew."""
    from scalepred.report import figures

    with Connection(line) as caller:
        # All are there from the first drawing on, to which more may be added.
        context, cores = multiprocessing.get_context("fork"), os.cpu_count() or 1
        with concurrent.futures.ProcessPoolExecutor(
            min(cores, figures.MOST), context, _end_with_parent, (line,)
        ) as pool:
            drawn, names = {}, ()
            try:
                while plot := caller.recv():
                    names = plot.figures
                    # The last, of many parts, takes longest and so goes first.
                    for name in [name for name in names[::-1] if name not in drawn]:
                        drawn[name] = pool.submit(figures.draw, plot, name)
            except EOFError:
                return
            caller.send({name: drawn[name].result() for name in names})
    # Python would take matplotlib apart, which the command would wait for.
    os._exit(0)


def _end_with_parent(line: int) -> None:
    """In each process that draws: if the one above is killed, nobody waits for it."""
    os.close(line)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

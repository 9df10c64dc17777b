"""Draws the figures in processes beside this one.

Importing matplotlib takes as long as half a fit, and drawing as long as the other half.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from scalepred.runtime.preemption import ProcessLost

if TYPE_CHECKING:
    from scalepred.report.plot_data import FigureFiles, PlotData


# Whoever ends a command may send them to all its processes; the command answers.
_ENDINGS = {signal.SIGINT, signal.SIGTERM}


class FigureProcess:
    """A process that imports matplotlib at once, and draws what it is then sent."""

    def __init__(self) -> None:
        self._line, other = multiprocessing.Pipe()
        # It finds what this process finds. It ends when this one does, whatever way:
        # then there is nothing more to read. Signals wait until it can ignore them.
        with other, _blocked(_ENDINGS):
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
            ProcessLost: they could not be; what went wrong stands on stderr, unless
                that process was ended.
        """
        try:
            self._line.send(None)  # no more
            return self._line.recv()
        except (BrokenPipeError, EOFError, ConnectionResetError):
            raise ProcessLost("the figures could not be drawn") from None
        finally:
            self.close()  # having said why, if it failed

    def close(self) -> None:
        """Ends the process, whether it was given something to draw or not."""
        self._line.close()
        self._process.wait()


def serve(line: int) -> None:
    """What that process does: reads `PlotData` from that file, sends what it drew."""
    for number in _ENDINGS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDINGS)
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
                caller.send({name: drawn[name].result() for name in names})
            except (EOFError, BrokenPipeError, ConnectionResetError):
                # The command ended, and nobody wants them any more. The pool is not
                # waited for: a signal may have taken one that held its lock.
                os._exit(0)
            except BrokenProcessPool:
                os._exit(1)  # one that drew was ended, and the command says so
    # Python would take matplotlib apart, which the command would wait for.
    os._exit(0)


@contextlib.contextmanager
def _blocked(signals: set[signal.Signals]) -> Iterator[None]:
    """Within, signals wait; processes that are started take this over."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent(line: int) -> None:
    """In each process that draws: if the one above is killed, nobody waits for it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which the one above ends it
    os.close(line)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

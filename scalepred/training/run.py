"""One pack from its first chunk to its last: lanes are filled, stepped, scored.

Lanes are refilled without recompiling, and no state ever travels to the host. The host
knows the course of a pack beforehand (`chunks.py`), so it sends a chunk before it reads
the results of the one before, and the devices never wait.
"""

import collections
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from scalepred.grid import Cell
from scalepred.models.model import Variables
from scalepred.runtime import processes
from scalepred.runtime.preemption import Stopped
from scalepred.table.rows import Measurement
from scalepred.training import chunks, pace
from scalepred.training.args import idle_args, lane_args
from scalepred.training.branches import can_go_on, find_chains, trunk_args
from scalepred.training.checkpoint import Checkpoints, Held
from scalepred.training.chunks import Chunk
from scalepred.training.curves import Curve, marks_of
from scalepred.training.curves import finish as finish_curve
from scalepred.training.devices import put, put_lanes, put_mask
from scalepred.training.engine import Engine
from scalepred.training.hopeless import Judge, cut
from scalepred.training.lane import LaneState
from scalepred.training.lane_axis import choose_lanes, pack_args
from scalepred.training.outlook import Outlook
from scalepred.training.pace import Pace, Request
from scalepred.training.plan import Pack
from scalepred.training.row import make_row
from scalepred.training.score import Scores
from scalepred.training.spare import Spare
from scalepred.training.streaming import open_data
from scalepred.training.weights import cut as cut_weights
from scalepred.training.weights import make_taker


@dataclasses.dataclass(frozen=True)
class Progress:
    """News of a training run: rows that are new, and totals so far.

    Attributes:
        rows: cells that finished since the last news.
        curves: their loss curves, by cell id.
        weights: final weights and state of those that were asked for.
        num_done: cells finished by this call of `train`.
        num_cells: cells this call was asked for.
        live_lane_steps: optimiser steps that trained a cell.
        lane_steps: those and the steps of idle lanes.
        compile_seconds: spent on compiling; programs compile side by side, so the
            sum may exceed the time that passed.
        wait_seconds: in which nothing was trained, as no program was compiled yet.
        num_programs: programs compiled.
        program: what is being trained.
    """

    rows: list[Measurement]
    curves: Mapping[str, Curve]
    weights: Mapping[Cell, Variables]
    num_done: int
    num_cells: int
    live_lane_steps: int
    lane_steps: int
    compile_seconds: float
    wait_seconds: float
    num_programs: int
    program: str

    @property
    def lane_utilization(self) -> float:
        """Share of lane-steps that trained a cell."""
        return self.live_lane_steps / self.lane_steps if self.lane_steps else 1.0


@dataclasses.dataclass
class Totals:
    """The numbers of `Progress` as they grow."""

    num_cells: int
    num_done: int = 0
    live_lane_steps: int = 0
    lane_steps: int = 0
    compile_seconds: float = 0.0
    wait_seconds: float = 0.0
    num_programs: int = 0

    def report(self, done: "_Done", program: str) -> Progress:
        """What `Progress` says of cells that are done."""
        totals = dataclasses.asdict(self)
        return Progress(**done._asdict(), program=program, **totals)


class _Done(NamedTuple):
    """Of cells that finished in a chunk; see `Progress`."""

    rows: list[Measurement]
    curves: dict[str, Curve]
    weights: dict[Cell, Variables]


class _News(NamedTuple):
    """What the devices tell of a chunk; of all lanes, from all processes."""

    diverged: Any  # bool [lanes]
    requests: Any  # int32 [lanes], see `pace.Request`
    scores: Scores | None  # None where no cell finishes
    curves: Any  # [lanes, points]; None where no cell finishes, or may be stopped
    given_up_curves: Any  # of cells given up before the chunk, likewise


class _Sent(NamedTuple):
    """A chunk that the devices were given, and what they will tell of it."""

    chunk: Chunk
    news: _News
    weights: Mapping[Cell, Variables]  # of cells that finish and are to be saved


class PackRun:
    """Trains the cells of a pack; `train` gives their rows."""

    def __init__(
        self,
        pack: Pack,
        engine: Engine,
        order_of_seed: Mapping[int, int],
        totals: Totals,
        checkpoints: Checkpoints | None,
        save: Callable[[Cell], bool] = lambda cell: False,
        judge: Judge | None = None,
    ):
        """Restores what a checkpoint holds, and sends nothing yet.

        Args:
            pack: what to train.
            engine: compiled for it.
            order_of_seed: row of each order of examples, by `Cell.order_key`.
            totals: of the whole plan, added to.
            checkpoints: where unfinished cells are kept; None: nowhere.
            save: whether the final weights of a cell are wanted.
            judge: which cells are to be stopped; None: none.
        """
        self._judge = judge
        if judge:
            judge.begin()
        self._pack, self._engine = pack, engine
        self._totals, self._checkpoints = totals, checkpoints
        self._save, self._take_weights = save, make_taker(pack, engine)
        self._args_of = _pack_all_args(pack, order_of_seed)
        self._placed_args: Any = None  # whose args are on devices
        self._placed: Any = None
        self._state = engine.idle()
        self._curves: Any = None  # after the last chunk that was sent
        chains = find_chains(pack.queue)
        self._spare = Spare(engine) if max(map(len, chains), default=0) > 1 else None
        begun = checkpoints.restore(pack, engine.shapes) if checkpoints else []
        last = {chain[-1]: chain for chain in chains}
        begun = [
            run
            for run in begun
            if run.cell in last and can_go_on(last[run.cell], run.steps)
        ]
        self._begun = {run.cell: run.steps for run in begun}
        self._waiting = {run.cell: run for run in begun}
        self._seconds: dict[Cell, float] = collections.defaultdict(float)
        self._seconds.update((last[run.cell][0], run.seconds) for run in begun)
        # That diverged or are to be stopped, and still hold a lane.
        self._over: set[Cell] = set()
        self._outlooks: dict[Cell, Outlook] = {}  # of those to be stopped
        self._requested = Request.NONE
        self._sent: collections.deque[_Sent] = collections.deque()
        self._last_read = time.perf_counter()
        self._feed = open_data(pack, engine, order_of_seed)
        self._pace = Pace(pack, engine)

    def train(self) -> Iterator[Progress]:
        """Sends chunk after chunk, and reads each when the next is on its way.

        Yields:
            Progress for each chunk in which a cell finished.

        Raises:
            Stopped: SIGTERM came; what is unfinished is in a checkpoint.
        """
        course = chunks.make_chunks(
            self._pack,
            self._begun,
            lambda: self._pace.steps,
            self._over,
            *([self._judge.get_references] if self._judge else []),
        )
        for chunk in course:
            self._send(chunk)
            yield from self._read_until(1)
            if self._requested:
                # Every row must be written before a checkpoint, or it would be lost.
                yield from self._read_until(0)
                self._save_or_stop(chunk)
        yield from self._read_until(0)
        if self._checkpoints:
            self._checkpoints.clear(self._pack)

    def _send(self, chunk: Chunk) -> None:
        """Gives the devices a chunk to do after those they have."""
        engine, mesh = self._engine, self._engine.mesh
        self._restore_lanes(chunk)
        request = pace.make_request(self._checkpoints) | self._pace.request
        wanted = chunk.cells, chunk.in_trunk
        if wanted != self._placed_args:
            rows = [self._args_of[which] for which in zip(*wanted, strict=True)]
            self._placed, self._placed_args = put_lanes(rows, mesh), wanted
        if self._spare:
            self._state = self._spare.take_back(chunk, self._state)
        state, placed = self._state, self._placed
        given_up_curves = self._curves if chunk.given_up else None
        if any(chunk.fresh):
            state = engine.start_lanes(state, placed, put_mask(chunk.fresh, mesh))
        if self._spare:
            self._spare.put_aside(chunk, state)
        data = self._feed.hold_steps(
            chunk.cells, chunk.steps_before, chunk.num_steps_of_lanes
        )
        num_steps = np.int32(chunk.num_steps)
        self._state, seen = engine.step_lanes(state, placed, num_steps, data)
        self._curves = seen.curve
        scores, weights = None, {}
        curves = seen.curve if chunk.finished or self._judge else None
        if chunk.finished:
            scores = self._feed.score(self._state, placed, dict(chunk.finished))
            weights = {
                cell: self._take_weights(self._state, lane)
                for lane, cell in chunk.finished
                if self._save(cell)
            }
        requests: Any = np.full(self._pack.lanes, request, np.int32)
        if jax.process_count() > 1:
            requests = put(requests, mesh)
        else:  # nobody to agree with
            self._requested |= pace.without_pace(request)
        news = _News(seen.diverged, requests, scores, curves, given_up_curves)
        self._sent.append(_Sent(chunk, processes.gather(news, mesh), weights))

    def _restore_lanes(self, chunk: Chunk) -> None:
        """Puts unfinished cells of a checkpoint into the lanes they go on in."""
        saved = {
            lane: self._waiting.pop(chain[-1]).state
            for lane, chain in enumerate(chunk.chains)
            if chunk.resumed[lane]
        }
        if saved:
            self._state = _put_back(self._state, saved, self._engine.mesh)

    def _read_until(self, num_left: int) -> Iterator[Progress]:
        """Waits for chunks until only so many are on their way."""
        while len(self._sent) > num_left:
            done = self._read()
            if done.rows:
                yield self._totals.report(done, str(self._pack.key))

    def _read(self) -> _Done:
        """Waits for the oldest chunk on its way; the cells that it finished."""
        sent = self._sent.popleft()
        chunk, news = sent.chunk, jax.device_get(sent.news)
        request = Request(int(np.bitwise_or.reduce(news.requests)))
        self._requested |= self._pace.apply(request)
        now = time.perf_counter()
        self._count(chunk, now - self._last_read)
        self._last_read = now
        for lane in np.flatnonzero(news.diverged):
            cell, judge = chunk.cells[lane], self._judge
            if cell and not (judge and judge.must_wait(cell)):
                self._over.add(cell)
        done = _Done([], {}, {})
        for lane, cell in chunk.given_up:
            self._finish(done, cell, None, news.given_up_curves[lane])
        self._read_finished(done, sent, news)
        return done

    def _read_finished(self, done: _Done, sent: _Sent, news: Any) -> None:
        """Adds the cells that came to their end in a chunk."""
        finished, judge = sent.chunk.finished, self._judge
        # What others are compared with comes before they are looked at.
        first = [one for one in finished if judge and one[1].cell_id in judge.awaited]
        rest = [one for one in finished if one not in first] if first else finished
        for cells in (first, rest):
            for lane, cell in cells:
                scores = Scores(*(value[lane] for value in news.scores))
                self._finish(done, cell, scores, news.curves[lane])
                if cell in sent.weights and done.rows[-1].status == "ok":
                    taken = jax.device_get(sent.weights[cell])
                    model = self._engine.models[cell.width]
                    size = self._pack.key.batch_size
                    done.weights[cell] = cut_weights(model, taken, size)
            if judge and cells is first:
                self._look(sent.chunk, judge, news.curves)

    def _finish(
        self, done: _Done, cell: Cell, scores: Scores | None, sums: np.ndarray
    ) -> None:
        """Adds a cell to those that are done; it holds no lane any more."""
        seconds, outlook = self._seconds.pop(cell), self._outlooks.pop(cell, None)
        row = make_row(cell, self._pack, self._engine, scores, seconds, outlook)
        curve = finish_curve(marks_of(cell), sums)
        done.rows.append(row)
        done.curves[cell.cell_id] = cut(curve, row.steps)
        if self._judge:
            self._judge.end(cell.cell_id, curve if row.status == "ok" else None)
        self._over.discard(cell)

    def _look(self, chunk: Chunk, judge: Judge, sums: np.ndarray) -> None:
        """Takes note of cells that are to be stopped."""
        for lane, cell in enumerate(chunk.cells):
            steps = chunk.steps_done[lane]
            if cell and (found := judge.look(cell, steps, sums[lane])):
                self._outlooks.setdefault(cell, found)
                self._over.add(cell)

    def _count(self, chunk: Chunk, passed: float) -> None:
        """Adds a chunk that took so many seconds to the totals."""
        steps = chunk.num_steps_of_lanes
        num_lane_steps = sum(steps)
        if self._spare:
            self._spare.count(chunk, self._seconds)
        for cell, num_steps in zip(chunk.cells, steps, strict=True):
            if cell is not None:
                self._seconds[cell] += passed * num_steps / num_lane_steps
        self._pace.measure(chunk.num_steps, passed)
        self._totals.live_lane_steps += num_lane_steps
        self._totals.lane_steps += self._pack.count_lane_steps(steps)
        self._totals.num_done += len(chunk.finished) + len(chunk.given_up)

    def _save_or_stop(self, chunk: Chunk) -> None:
        """Saves what is unfinished after a chunk, and ends where that was asked for."""
        if self._checkpoints:
            held, state = _find_unfinished(chunk, self._seconds), self._state
            if self._spare:
                held, state = self._spare.hold(chunk, held, state)
            waiting = list(self._waiting.values())
            self._checkpoints.save(self._pack, state, held, waiting)
        if Request.STOP in self._requested:
            if self._checkpoints:
                self._checkpoints.finish()
            raise Stopped
        self._requested = Request.NONE


def _put_back(state: LaneState, saved: Mapping[int, LaneState], mesh: Mesh) -> Any:
    """Puts runs of a checkpoint into lanes; `saved` has leaves without lane axis."""
    is_saved = np.zeros(state.step.shape, bool)
    is_saved[list(saved)] = True
    shapes = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)

    def fill(leaf: np.ndarray, *rows: np.ndarray) -> np.ndarray:
        leaf[is_saved] = np.stack(rows)
        return leaf

    rows = [saved[lane] for lane in sorted(saved)]
    fresh = put(jax.tree.map(fill, shapes, *rows), mesh)
    return jax.jit(choose_lanes, out_shardings=state.step.sharding)(
        put(is_saved, mesh), fresh, state
    )


def _find_unfinished(chunk: Chunk, seconds: Mapping[Cell, float]) -> dict[int, Held]:
    """By lane. Those of a trunk are named by the last of its branches."""
    lanes = zip(chunk.chains, chunk.steps_done, strict=True)
    return {
        lane: Held(chain[-1], steps, seconds[chain[0]])
        for lane, (chain, steps) in enumerate(lanes)
        if chain and steps < chain[0].steps
    }


def _pack_all_args(
    pack: Pack, order_of_seed: Mapping[int, int]
) -> dict[tuple[Cell | None, bool], np.ndarray]:
    """The args of each cell, to its end and, of branches, in their trunk."""
    packed: dict[tuple[Cell | None, bool], np.ndarray] = {}
    for cell in pack.queue:
        model = pack.widths.index(cell.width)
        args = lane_args(cell, model, order_of_seed[cell.order_key])
        packed[cell, False] = pack_args(args)
        if cell.branch:
            packed[cell, True] = pack_args(trunk_args(args, cell))
    packed[None, False] = pack_args(idle_args())
    return packed

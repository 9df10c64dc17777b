"""The trunks' states that the lanes of a pack put aside while a branch cools down."""

from collections.abc import Iterable, Mapping, MutableMapping

import jax

from scalepred.grid import Cell
from scalepred.training.checkpoint import Held
from scalepred.training.chunks import Chunk
from scalepred.training.devices import mark, put_mask
from scalepred.training.engine import Engine
from scalepred.training.lane import LaneState
from scalepred.training.lane_axis import choose_lanes


class Spare:
    """One more state a lane, on the devices: where its last branch left the trunk."""

    def __init__(self, engine: Engine):
        """Nothing is put aside yet."""
        self._mesh = engine.mesh
        self._state = engine.idle()
        # In place of the old one of the two states; the new one is copied.
        self._choose = jax.jit(
            choose_lanes,
            donate_argnums=2,
            out_shardings=jax.tree.map(lambda leaf: leaf.sharding, engine.shapes),
        )
        self._seconds: dict[int, float] = {}  # that the trunk took until then, by lane

    def take_back(self, chunk: Chunk, state: LaneState) -> LaneState:
        """The state of all lanes, with what was put aside where a chunk begins so."""
        if not any(chunk.taken_back):
            return state
        marked = put_mask(chunk.taken_back, self._mesh)
        return self._choose(marked, self._state, state)

    def put_aside(self, chunk: Chunk, state: LaneState) -> None:
        """Keeps the state of the lanes that cool down from here on."""
        if chunk.put_aside:
            self._state = self._choose(
                self._mark(chunk.put_aside, state), state, self._state
            )

    def count(self, chunk: Chunk, seconds: MutableMapping[Cell, float]) -> None:
        """Begins the time of cells that go on from a trunk with that of the trunk.

        So a row has the time, as it has the FLOPs, of a run from its first step.

        Args:
            chunk: whose own time is not counted yet.
            seconds: by cell.
        """
        for lane, cell in enumerate(chunk.cells):
            if cell is not None and chunk.taken_back[lane]:
                seconds[cell] = self._seconds[lane]
        for lane in chunk.put_aside:
            cell = chunk.cells[lane]
            assert cell is not None  # else it would have nothing to put aside
            self._seconds[lane] = seconds[cell]

    def hold(
        self, chunk: Chunk, held: Mapping[int, Held], state: LaneState
    ) -> tuple[dict[int, Held], LaneState]:
        """What a checkpoint holds: of lanes that cool down the trunk that goes on.

        So the cooldown is done again after a resume, from the same state.

        Args:
            chunk: after which it is saved.
            held: unfinished runs, by lane.
            state: of all lanes.
        """
        aside = {
            lane: Held(chain[-1], chain[0].cooldown_start, self._seconds[lane])
            for lane, chain in enumerate(chunk.chains)
            if len(chain) > 1 and not chunk.in_trunk[lane]
        }
        if not aside:
            return dict(held), state
        chosen = jax.jit(choose_lanes)(self._mark(aside, state), self._state, state)
        return {**held, **aside}, chosen

    def _mark(self, lanes: Iterable[int], state: LaneState) -> jax.Array:
        return mark(lanes, len(state.step), self._mesh)

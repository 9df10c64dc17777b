"""Final weights of finished runs: saved by cell, and read back as a model.

    weights/<cell id>.npz

Arrays by name (params/hidden/kernel, state/...), and a record in JSON that says which
model they are of, and holds their digest. A file is there whole or not at all.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import NamedSharding

from scalepred.config import UserError
from scalepred.data.dataset import Dataset
from scalepred.grid import Cell
from scalepred.models.model import Model, Variables, build_model, find_family
from scalepred.runtime.files import write_whole
from scalepred.runtime.sources import digest_module, find_changes, refuse
from scalepred.training.args import Options
from scalepred.training.devices import EVERYWHERE
from scalepred.training.engine import Engine
from scalepred.training.lane import LaneState
from scalepred.training.optimizer import evaluated_params
from scalepred.training.plan import Pack
from scalepred.training.work import count_params


def choose(
    wish: str, cells: Sequence[Cell], dataset: Dataset, others: Sequence[Cell] = ()
) -> Callable[[Cell], bool]:
    """Whether the weights of a cell are to be saved.

    Args:
        wish: "" none, "all", "largest" (most parameters times data, every seed and
            rate of it), or cell ids with commas between.
        cells: that are trained together; the largest are those among them.
        dataset: what they name.
        others: more cells of the study; their ids are no mistake.

    Raises:
        UserError: an id is of no cell.
    """
    known = {cell.cell_id for cell in (*cells, *others)}
    if wish == "all":
        return lambda cell: True
    if wish == "largest":
        work = {
            cell.cell_id: count_params(cell, dataset) * cell.dataset_size
            for cell in cells
        }
        most = max(work.values(), default=0)
        wanted = {cell_id for cell_id, value in work.items() if value == most}
    else:
        wanted = set(filter(None, (name.strip() for name in wish.split(","))))
    if unknown := sorted(wanted - known):
        raise UserError(
            f"packing.save_weights: {unknown[0]} is no run of this study; give all, "
            "largest, or ids from the column cell_id of measurements.csv"
        )
    return lambda cell: cell.cell_id in wanted


def make_taker(pack: Pack, engine: Engine) -> Callable[[LaneState, int], Variables]:
    """A function that copies what is scored of a lane: (state of all, lane)."""
    is_averaged = Options.of(pack.key).average

    def take(state: LaneState, lane: jax.Array) -> Variables:
        own = jax.tree.map(
            lambda leaf: jax.lax.dynamic_index_in_dim(leaf, lane, keepdims=False), state
        )
        params = own.average if is_averaged else own.params
        return Variables(evaluated_params(params, own.opt_state), own.model_state)

    everywhere = NamedSharding(engine.mesh, EVERYWHERE)
    compiled = jax.jit(take, out_shardings=everywhere)
    return lambda state, lane: compiled(state, np.int32(lane))


def cut(model: Model, padded: Variables, batch_size: int) -> Variables:
    """The arrays of a model without the zeros they were padded with.

    Args:
        model: at its true width.
        padded: of a lane, numpy arrays no smaller than the model's.
        batch_size: of the lane's training, which a state that reads on depends on.
    """

    def trim(leaf: np.ndarray, wanted: Any) -> np.ndarray:
        return leaf[tuple(slice(size) for size in wanted.shape)]

    return jax.tree.map(trim, padded, _find_shapes(model, batch_size))


def write(
    workdir: os.PathLike | str, dataset: Dataset, weights: Mapping[Cell, Variables]
) -> None:
    """Writes the weights of some cells and waits until they are on the disk."""
    folder = epath.Path(workdir) / "weights"
    if weights:
        folder.mkdir(parents=True, exist_ok=True)
    for cell, variables in weights.items():
        arrays = _name_leaves(variables)
        record = {
            "family": cell.family,
            "width": cell.width,
            "depth": cell.depth,
            "input_shape": dataset.input_shape,
            "head_size": dataset.head_size,
            "batch_size": cell.program_key.batch_size,
            "digest": _digest(arrays),
        }
        content = io.BytesIO()
        np.savez(content, **arrays, record=np.array(json.dumps(record)))
        write_whole(folder / f"{cell.cell_id}.npz", content.getvalue())


def load_model(workdir: os.PathLike | str, cell_id: str) -> tuple[Model, Variables]:
    """A trained model, as it was scored.

    Args:
        workdir: of the study, which saved weights (`packing.save_weights`).
        cell_id: of the run, a column of measurements.csv.

    Returns:
        The model and its arrays, so that `model.apply(*variables, x, train=False,
        key=jax.random.key(0))` gives outputs [batch, ...] and the state after them. Of
        a model that reads on the state is for rows of its training batches;
        `model.restart` makes one for others.

    Raises:
        UserError: there are no weights of such a run, they are damaged, or the family
            is one's own and was edited since.
    """
    path = epath.Path(workdir) / "weights" / f"{cell_id}.npz"
    if not path.exists():
        raise UserError(
            f"{path}: there is no such file; weights are saved when a run ends that "
            "packing.save_weights asks for and that did not diverge, nor was stopped"
        )
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        record = json.loads(str(arrays.pop("record")))
        if _digest(arrays) != record["digest"]:
            raise ValueError("its numbers have changed since they were written")
    except Exception as error:  # whatever a damaged file leads to
        raise UserError(f"{path}: damaged ({error}); train that run again") from None
    family = find_family(record["family"]).module
    if changes := find_changes(epath.Path(workdir), {"family": digest_module(family)}):
        raise refuse(changes)
    model = build_model(
        record["family"],
        record["width"],
        record["depth"],
        tuple(record["input_shape"]),
        record["head_size"],
    )
    return model, _restore(path, model, record["batch_size"], arrays)


def _restore(
    path: epath.Path, model: Model, batch_size: int, arrays: Mapping[str, np.ndarray]
) -> Variables:
    wanted = _find_shapes(model, batch_size)
    names = _name_leaves(wanted)
    shapes = {name: leaf.shape for name, leaf in names.items()}
    if shapes != {name: array.shape for name, array in arrays.items()}:
        raise UserError(
            f"{path}: holds other arrays than the family's model has; the family was "
            "changed since, put it back as it was"
        )
    leaves = [arrays[name] for name in names]
    return jax.tree.unflatten(jax.tree.structure(wanted), leaves)


def _find_shapes(model: Model, batch_size: int) -> Variables:
    """Of a model's arrays in training, at its true width."""
    params, state = model.shapes
    if restart := model.restart:
        state = jax.eval_shape(lambda tree: restart(tree, batch_size), state)
    return Variables(params, state)


def _name_leaves(variables: Variables) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
    }


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()

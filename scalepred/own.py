"""What a study rests on beside its config: code and data, as digests."""

import dataclasses
import hashlib
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scalepred import data
from scalepred.config import Experiment
from scalepred.data.dataset import Dataset
from scalepred.grid import Cell
from scalepred.models.model import find_family
from scalepred.runtime.files import digest
from scalepred.runtime.modules import find_module
from scalepred.runtime.sources import Sources, digest_module, digest_package
from scalepred.runtime.versions import read_versions
from scalepred.training import optimizer

# All inputs are read up to so many bytes; of more, rows at even distances.
_WHOLE_BYTES = 1 << 28
_SAMPLED_ROWS = 4096


def find_sources(experiment: Experiment, dataset: Dataset) -> Sources:
    """Digests of what runs depend on, by the field of the config that names it.

    A law is none of it: it is fitted anew each time.

    Args:
        experiment: the study.
        dataset: that it names.
    """
    training = experiment.training
    family = find_family(experiment.family).module
    found = {"family": digest_module(family)}
    for field, path in (
        ("training.optimizer", optimizer.parse(training.optimizer).name),
        ("training.schedule", training.schedule),
    ):
        if home := path.rpartition(".")[0]:
            found[field] = digest_module(importlib.import_module(home))
    name, _, _ = experiment.dataset.removeprefix("short_test:").partition(":")
    code: dict[str, str] = {}
    if not name.endswith((".npz", ".txt")):
        module = find_module("dataset", name, data, "load")
        if module.__name__.startswith(f"{data.__name__}."):
            return found
        code = digest_module(module)
    return {**found, "dataset": {**code, "what the data hold": digest_data(dataset)}}


def describe_asked(experiment: Experiment, flags: Mapping[str, Any]) -> dict[str, Any]:
    """The config field by field, other flags, versions and the code of this package."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(experiment):
        value = getattr(experiment, field.name)
        if dataclasses.is_dataclass(value):
            parts = vars(value).items()
            found |= {f"{field.name}.{name}": part for name, part in parts}
        else:
            found[field.name] = value
    versions = read_versions().items()
    found |= {f"the version of {name}": version for name, version in versions}
    return {**found, **flags, "the digest of scalepred's code": digest_package()}


def describe_runs(
    experiment: Experiment, dataset: Dataset, cells: Sequence[Cell]
) -> dict[str, Any]:
    """Digests of what is trained, by what it is called in a sentence."""
    found = {
        f"the digest of {part} ({field})": one
        for field, parts in find_sources(experiment, dataset).items()
        for part, one in parts.items()
    }
    found["the digest of what the data hold (dataset)"] = digest_data(dataset)
    found["the digest of all cells"] = digest([cell.cell_id for cell in cells])
    return found


def digest_data(dataset: Dataset) -> str:
    """Of labels and inputs, or, where there are many, of inputs at even distances."""
    inputs, labels = dataset.inputs, dataset.labels
    whole = hashlib.sha256()
    about = (dataset.num_classes, dataset.num_train, dict(dataset.more_tests))
    arrays = (labels.shape, str(labels.dtype), inputs.shape, str(inputs.dtype))
    whole.update(repr((about, arrays)).encode())
    whole.update(np.ascontiguousarray(labels).data)
    num_bytes = np.prod(inputs.shape, dtype=float) * inputs.dtype.itemsize
    count = len(labels) if num_bytes <= _WHOLE_BYTES else _SAMPLED_ROWS
    rows = np.unique(np.linspace(0, len(labels) - 1, count).astype(np.int64))
    for some in np.array_split(rows, -(-len(rows) // _SAMPLED_ROWS)):
        whole.update(np.ascontiguousarray(inputs[some]).tobytes())
    return whole.hexdigest()[:16]

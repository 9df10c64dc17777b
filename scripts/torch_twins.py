"""The models of bench_training.py in PyTorch, trained eagerly, as its users write it.

Only for that benchmark, and only where torch is installed: nothing else needs it.
"""

import importlib
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from scalepred.data.dataset import Dataset
from scalepred.grid import Cell

torch: Any = importlib.import_module("torch")
nn, functional = torch.nn, torch.nn.functional


class MLP(nn.Module):
    def __init__(self, num_inputs: int, width: int, depth: int, num_classes: int):
        super().__init__()
        sizes = [num_inputs] + [width] * depth
        hidden: list[Any] = []
        for before, after in itertools.pairwise(sizes):
            hidden += [nn.Linear(before, after), nn.Tanh()]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, num_classes))

    def forward(self, x: Any) -> Any:
        return self.layers(x)


class Block(nn.Module):
    def __init__(self, before: int, after: int):
        super().__init__()
        stride = 1 if before == after else 2
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        nn.init.zeros_(self.norm2.weight)
        self.shortcut = nn.Sequential()
        if stride == 2:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, 2, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: Any) -> Any:
        hidden = functional.relu(self.norm1(self.first(x)))
        return functional.relu(self.norm2(self.second(hidden)) + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, width: int, depth: int, num_classes: int):
        super().__init__()
        stem = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        layers: list[Any] = [stem, nn.BatchNorm2d(width), nn.ReLU()]
        before = width
        for after in (width, 2 * width, 4 * width):
            for _ in range(depth // 6):
                layers.append(Block(before, after))
                before = after
        self.layers = nn.Sequential(*layers)
        self.output = nn.Linear(before, num_classes)

    def forward(self, x: Any) -> Any:
        return self.output(self.layers(x.permute(0, 3, 1, 2)).mean(dim=(2, 3)))


class DecoderBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.heads = max(1, width // 16)
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attend = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width, bias=False)
        self.expand = nn.Linear(width, 4 * width, bias=False)
        self.contract = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Any) -> Any:
        batch, time, width = x.shape
        qkv = self.attend(self.norm1(x)).reshape(batch, time, 3, self.heads, -1)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4)
        read = functional.scaled_dot_product_attention(
            _rotate(queries), _rotate(keys), values, is_causal=True
        )
        x = x + self.project(read.transpose(1, 2).reshape(batch, time, width))
        return x + self.contract(
            functional.gelu(self.expand(self.norm2(x)), approximate="tanh")
        )


def _rotate(x: Any) -> Any:
    time, pairs = x.shape[-2], x.shape[-1] // 2
    speed = 10000.0 ** (-torch.arange(pairs) / pairs)
    angle = torch.arange(time)[:, None] * speed
    first, second = x[..., :pairs], x[..., pairs:]
    cosine, sine = angle.cos(), angle.sin()
    turned = first * cosine - second * sine, first * sine + second * cosine
    return torch.cat(turned, dim=-1)


class Decoder(nn.Module):
    def __init__(self, width: int, depth: int, num_classes: int):
        super().__init__()
        self.embedding = nn.Embedding(num_classes, width)
        self.blocks = nn.Sequential(*[DecoderBlock(width) for _ in range(depth)])
        self.norm = nn.RMSNorm(width)
        self.output = nn.Linear(width, num_classes, bias=False)
        nn.init.zeros_(self.output.weight)

    def forward(self, x: Any) -> Any:
        return self.output(self.norm(self.blocks(self.embedding(x))))


def make_model(cell: Cell, dataset: Dataset) -> Any:
    classes = dataset.num_classes
    if cell.family == "mlp":
        return MLP(math.prod(dataset.input_shape), cell.width, cell.depth, classes)
    if cell.family == "wide_resnet":
        return ResNet(cell.width, cell.depth, classes)
    return Decoder(cell.width, cell.depth, classes)


def train(cells: Sequence[Cell], dataset: Dataset, seeds_at_once: int) -> list[float]:
    """Test losses of the cells, one after the other or the seeds of a cell stacked."""
    inputs = torch.from_numpy(np.asarray(dataset.inputs))
    labels = torch.from_numpy(dataset.labels).long()
    losses: list[float] = []
    for first in range(0, len(cells), seeds_at_once):
        group = cells[first : first + seeds_at_once]
        models = [make_model(cell, dataset) for cell in group]
        if seeds_at_once == 1:
            losses.append(_train_one(group[0], models[0], dataset, inputs, labels))
        else:
            losses += _train_stacked(group, models, dataset, inputs, labels)
    return losses


def _train_one(
    cell: Cell,
    model: Any,
    dataset: Dataset,
    inputs: Any,
    labels: Any,
) -> float:
    optimizer, scheduler = _make_optimizer(cell, model.parameters())
    for batch in _draw(cell, dataset):
        optimizer.zero_grad()
        logits = model(_prepare(dataset, inputs[batch]))
        functional.cross_entropy(
            logits.flatten(0, -2), labels[batch].flatten()
        ).backward()
        optimizer.step()
        scheduler.step()
    model.eval()
    with torch.no_grad():
        found = []
        for part in _evaluated(cell, dataset):
            logits = model(_prepare(dataset, inputs[part]))
            found.append(
                functional.cross_entropy(
                    logits.flatten(0, -2), labels[part].flatten()
                ).item()
            )
    return float(np.mean(found[: len(found) // 2]))


def _train_stacked(
    group: Sequence[Cell],
    models: Sequence[Any],
    dataset: Dataset,
    inputs: Any,
    labels: Any,
) -> list[float]:
    """The lanes of torch.func: parameters stacked, the forward pass under vmap."""
    params, buffers = torch.func.stack_module_state(list(models))
    cell, model = group[0], models[0]
    optimizer, scheduler = _make_optimizer(cell, params.values())

    def loss_of(params: Any, buffers: Any, x: Any, y: Any) -> Any:
        logits = torch.func.functional_call(model, (params, buffers), (x,))
        return _cross_entropy(logits, y)

    stacked = torch.func.vmap(loss_of)
    for batches in zip(*(_draw(each, dataset) for each in group), strict=True):
        batch = torch.from_numpy(np.stack(batches))
        optimizer.zero_grad()
        x = _prepare(dataset, inputs[batch])
        # Lanes do not mix: the gradient of the sum is that of each.
        stacked(params, buffers, x, labels[batch]).sum().backward()
        optimizer.step()
        scheduler.step()
    model.eval()
    with torch.no_grad():
        found = []
        for parts in zip(*(_evaluated(each, dataset) for each in group), strict=True):
            part = torch.from_numpy(np.stack(parts))
            x = _prepare(dataset, inputs[part])
            found.append(stacked(params, buffers, x, labels[part]).numpy())
    return np.mean(found[: len(found) // 2], axis=0).tolist()


def _cross_entropy(logits: Any, labels: Any) -> Any:
    return functional.cross_entropy(logits.flatten(0, -2), labels.flatten())


def _make_optimizer(cell: Cell, params: Any) -> tuple[Any, Any]:
    if cell.optimizer == "adam":
        optimizer: Any = torch.optim.Adam(params, lr=cell.learning_rate)
    else:
        optimizer = torch.optim.SGD(params, lr=cell.learning_rate, momentum=0.9)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, cell.steps)
    return optimizer, cosine


def _draw(cell: Cell, dataset: Dataset) -> Iterator[np.ndarray]:
    """Batches of a run's subset, epochs without replacement."""
    random = np.random.default_rng(cell.seed)
    subset = dataset.order(cell.seed)[: cell.dataset_size]
    drawn = np.zeros(0, int)
    for _ in range(cell.steps):
        if len(drawn) < cell.batch_size:
            drawn = np.concatenate(
                [drawn, *(random.permutation(subset) for _ in range(32))]
            )
        yield drawn[: cell.batch_size]
        drawn = drawn[cell.batch_size :]


def _evaluated(cell: Cell, dataset: Dataset) -> list[np.ndarray]:
    """The test part, and as many of the run's own examples; see `run_loop`."""
    order = dataset.order(cell.seed)
    test = order[dataset.num_train :]
    own = np.resize(order[: cell.dataset_size], len(test))
    size = 16 if cell.family == "transformer" else 256
    return [
        part for whole in (test, own) for part in np.split(whole, len(whole) // size)
    ]


def _prepare(dataset: Dataset, x: Any) -> Any:
    """The same numbers as `dataset.prepare` gives."""
    if dataset.inputs.dtype != np.uint8:
        return x
    return x.long() if dataset.unit == "tokens" else x.float() / 64 - 2

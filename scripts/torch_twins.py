"""The models of bench_training.py in PyTorch, trained eagerly, as its users write it.

Only for that benchmark, and only where torch is installed: nothing else needs it.
"""

import importlib
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
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


def train(
    cells: Sequence[Cell],
    dataset: Dataset,
    seeds_at_once: int,
    draw_batches: Callable[[Cell, Dataset], Iterable[np.ndarray]],
    cut_scored: Callable[[Cell, Dataset], Iterable[Iterable[np.ndarray]]],
) -> list[float]:
    """Test losses of the cells.

    Args:
        cells: what to train.
        dataset: what they name.
        seeds_at_once: 1: one run after the other; else so many cells that follow one
            another, the seeds of a grid point, are stacked by torch.func.
        draw_batches: numbers of the examples of a run's batches.
        cut_scored: of those it is scored by, in pieces: the test part, its own.
    """
    inputs = torch.from_numpy(np.asarray(dataset.inputs))
    labels = torch.from_numpy(dataset.labels).long()

    def look_up(examples: Any) -> tuple[Any, Any]:
        return _prepare(dataset, inputs[examples]), labels[examples]

    losses: list[float] = []
    for first in range(0, len(cells), seeds_at_once):
        group = cells[first : first + seeds_at_once]
        models = [make_model(cell, dataset) for cell in group]
        batches = zip(*(draw_batches(cell, dataset) for cell in group), strict=True)
        parts = zip(*(cut_scored(cell, dataset) for cell in group), strict=True)
        if seeds_at_once == 1:
            (model,) = models
            params, loss_of = list(model.parameters()), _plain_loss(model)
        else:
            params, loss_of = _stacked_loss(models)
        optimizer, scheduler = _make_optimizer(group[0], params)
        for batch in batches:
            optimizer.zero_grad()
            # Lanes do not mix: the gradient of the sum is that of each.
            loss_of(*look_up(np.stack(batch))).sum().backward()
            optimizer.step()
            scheduler.step()
        for model in models:
            model.eval()
        with torch.no_grad():
            test, _ = (
                [
                    loss_of(*look_up(np.stack(pieces))).numpy()
                    for pieces in zip(*part, strict=True)
                ]
                for part in parts
            )
        losses += np.mean(test, axis=0).tolist()
    return losses


def _plain_loss(model: Any) -> Callable[[Any, Any], Any]:
    """Of one model; inputs and labels have a lane axis of one."""
    return lambda x, y: _cross_entropy(model(x[0]), y[0])[None]


def _stacked_loss(models: Sequence[Any]) -> tuple[list[Any], Callable[[Any, Any], Any]]:
    """Parameters of all, stacked, and their losses [models] under vmap."""
    params, buffers = torch.func.stack_module_state(list(models))
    model = models[0]

    def loss_of(params: Any, buffers: Any, x: Any, y: Any) -> Any:
        logits = torch.func.functional_call(model, (params, buffers), (x,))
        return _cross_entropy(logits, y)

    stacked = torch.func.vmap(loss_of)
    return list(params.values()), lambda x, y: stacked(params, buffers, x, y)


def _cross_entropy(logits: Any, labels: Any) -> Any:
    return functional.cross_entropy(logits.flatten(0, -2), labels.flatten())


def _make_optimizer(cell: Cell, params: Any) -> tuple[Any, Any]:
    if cell.optimizer == "adam":
        optimizer: Any = torch.optim.Adam(params, lr=cell.learning_rate)
    else:
        optimizer = torch.optim.SGD(params, lr=cell.learning_rate, momentum=0.9)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, cell.steps)
    return optimizer, cosine


def _prepare(dataset: Dataset, x: Any) -> Any:
    """The same numbers as `dataset.prepare` gives."""
    if dataset.inputs.dtype != np.uint8:
        return x
    return x.long() if dataset.unit == "tokens" else x.float() / 64 - 2

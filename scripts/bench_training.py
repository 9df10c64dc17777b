"""What a grid of runs costs, compiling included: one after the other, or packed.

Each method trains the same grid, from nothing to the last score, in a process of its
own; methods take turns, and the table holds medians over the rounds.

    python scripts/bench_training.py [--families=mlp,conv,decoder,digits] [--rounds=3]
        [--methods=loop,scan,torch,torch_func,scalepred] [--seeds=4] [--length=1]
        [--widths=64] [--sweep]

`digits` is the grid of experiments/digits_mlp.py, 1,176 short runs, on arrays of their
shape. It is trained only where it is named.

With --sweep each program is timed with 1, 2, 4, ... lanes instead, and with the lanes
that the autotuner takes. An accelerator that is not here can be compiled for, see
`scalepred --dry_run --topology`.

loop        a Python loop around a jitted step, batches cut on the host, as the
            examples of Flax do it
scan        one compiled loop a run, one run after the other
torch       the same loop in PyTorch, by torch_twins.py; torch_func: the seeds of a
            cell stacked by torch.func; both say so where torch is absent
scalepred   what this package does
"""

import importlib
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from absl import app, flags, logging

_ALL_FAMILIES = ["mlp", "conv", "decoder"]
_ALL_METHODS = ["loop", "scan", "torch", "torch_func", "scalepred"]
FAMILIES = flags.DEFINE_list("families", _ALL_FAMILIES, "Which.")
_METHODS = flags.DEFINE_list("methods", _ALL_METHODS, "Which.")
_KNOWN_FAMILIES = [*_ALL_FAMILIES, "digits"]
for _flag, _choices in ((FAMILIES, _KNOWN_FAMILIES), (_METHODS, _ALL_METHODS)):
    flags.register_validator(
        _flag, lambda given, known=_choices: set(given) <= set(known), f"of {_choices}"
    )
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Of all methods; medians are printed.")
_SEEDS = flags.DEFINE_integer(
    "seeds", None, "Runs of each width and size; by itself 4, of digits 24."
)
_LENGTH = flags.DEFINE_float("length", 1.0, "Times the epochs or steps of each family.")
_WIDTHS = flags.DEFINE_list("widths", [], "Instead of the family's.")
_SWEEP = flags.DEFINE_bool("sweep", False, "Times lanes, not grids.")
_MOST_LANES = flags.DEFINE_integer("most_lanes", 4096, "Of a sweep, a device.")
_WORKER = flags.DEFINE_string("worker", "", "Internal: family/method.")


class Task(NamedTuple):
    """A grid; by itself of four data sizes over 64."""

    family: str
    widths: tuple[int, ...]
    depth: int
    num_train: int
    epochs: float
    batch_size: int
    optimizer: str
    learning_rate: float
    data_fractions: tuple[float, ...] = (1 / 64, 1 / 16, 1 / 4, 1.0)
    seeds: int = 4
    steps: int = 0  # in place of epochs


TASKS = {
    "mlp": Task("mlp", (4, 8, 16, 32, 64), 2, 4096, 400.0, 32, "sgd", 0.05),
    "conv": Task("wide_resnet", (1, 2, 4, 8, 16), 8, 1024, 6.0, 16, "sgd", 0.05),
    "decoder": Task("transformer", (8, 16, 32, 64, 128), 2, 1024, 6.0, 8, "adam", 3e-3),
    "digits": Task(
        "mlp", (4, 8, 16, 32, 64, 128, 256), 2, 1280, 0.0, 32, "sgd", 0.03,
        tuple(2.0**-k for k in range(7)), seeds=24, steps=200,
    ),
}  # fmt: skip
_NUM_TEST = 512


def num_seeds(name: str) -> int:
    """Runs of each width and size."""
    return _SEEDS.value or TASKS[name].seeds


class Outcome(NamedTuple):
    """Of one method on one grid."""

    seconds: float
    compiles: int
    loss: float  # mean over the runs, to see that all methods train alike
    utilization: float = math.nan
    compile_seconds: float = math.nan  # programs compile side by side
    cpu_seconds: float = math.nan  # of all threads; steadier on a shared machine
    lane_bytes: float = math.nan  # of the program whose lanes take most, as compiled
    planned_lane_bytes: float = math.nan


def make_dataset(name: str) -> Any:
    """Arrays of the shape of digits, of CIFAR, of characters; what they say is easy."""
    import numpy as np

    from scalepred.data.dataset import Dataset

    task, random = TASKS[name], np.random.default_rng(0)
    count = task.num_train + _NUM_TEST
    labels = (np.arange(count) % 10).astype(np.int32)
    if name == "decoder":
        steps = random.integers(1, 4, size=(count, 65))
        tokens = (np.cumsum(steps, axis=1) % 65).astype(np.uint8)
        return Dataset(
            name, tokens[:, :-1], tokens[:, 1:], 65, task.num_train,
            has_fixed_test=True, unit="tokens",
        )  # fmt: skip
    shape = (32, 32, 3) if name == "conv" else (64,)
    centres = random.normal(size=(10, *shape))
    inputs = centres[labels] + 2 * random.normal(size=(count, *shape))
    if task.family == "mlp":
        return Dataset(
            name, inputs.astype(np.float32), labels, 10, task.num_train,
            has_fixed_test=True,
        )  # fmt: skip
    pixels = (40 * inputs + 128).clip(0, 255).astype(np.uint8)
    return Dataset(
        name, pixels, labels, 10, task.num_train, has_fixed_test=True,
        prepare=lambda x: x.astype("float32") / 64 - 2,
    )  # fmt: skip


def make_experiment(name: str) -> Any:
    from scalepred import config

    task = TASKS[name]
    widths = tuple(map(int, _WIDTHS.value)) or task.widths
    return config.Experiment(
        name=name,
        family=task.family,
        metric="loss",
        grid=config.Grid(
            widths=widths,
            depths=(task.depth,),
            data_fractions=task.data_fractions,
            seeds=num_seeds(name),
        ),
        training=config.Training(
            optimizer=task.optimizer,
            learning_rate=task.learning_rate,
            batch_size=task.batch_size,
            epochs=task.epochs * _LENGTH.value,
            steps=round(task.steps * _LENGTH.value),
            precision="fast",  # as jax multiplies by itself, and so does the loop
        ),
    )


def draw_batches(cell: Any, dataset: Any) -> Iterator[Any]:
    """Numbers of the examples of a run's batches, epochs without replacement."""
    import numpy as np

    random = np.random.default_rng(cell.seed)
    subset = dataset.order(cell.seed)[: cell.dataset_size]
    drawn = np.zeros(0, int)
    for _ in range(cell.steps):
        if len(drawn) < cell.batch_size:
            more = [random.permutation(subset) for _ in range(32)]
            drawn = np.concatenate([drawn, *more])
        yield drawn[: cell.batch_size]
        drawn = drawn[cell.batch_size :]


def cut_scored(cell: Any, dataset: Any) -> tuple[list[Any], list[Any]]:
    """In pieces the test part, and the run's own examples, at most as many.

    A last piece is filled up, so that all have one shape.
    """
    import numpy as np

    order = dataset.order(cell.seed)
    test = order[dataset.num_train :]
    size = 16 if dataset.unit == "tokens" else 256
    num_own = min(cell.dataset_size, len(test))
    own = np.resize(order[:num_own], -(-num_own // size) * size)
    return np.split(test, len(test) // size), np.split(own, len(own) // size)


class _Functions(NamedTuple):
    """Of one width, as the examples of Flax have them."""

    init: Callable
    step: Callable
    evaluate: Callable


def _make_functions(cell: Any, dataset: Any) -> _Functions:
    """Jitted functions of the runs of a cell's width."""
    import jax
    import jax.numpy as jnp
    import optax

    from scalepred.data.task import cross_entropy
    from scalepred.models.model import build_model

    prepare = dataset.prepare or (lambda x: x)
    model = build_model(
        cell.family, cell.width, cell.depth, dataset.input_shape, dataset.num_classes
    )
    optimizer = optax.inject_hyperparams(
        optax.adam if cell.optimizer == "adam" else optax.sgd
    )
    numbers = {"learning_rate": cell.learning_rate}
    if cell.optimizer == "sgd":
        numbers["momentum"] = cell.momentum
    tx = optimizer(**numbers)

    def loss_of(params, state, x, labels):
        logits, state = model.apply(
            params, state, prepare(x), train=True, key=jax.random.key(0)
        )
        return jnp.mean(cross_entropy(logits, labels)), state

    def init(key):
        params, state = model.init(key)
        return params, state, tx.init(params)

    def step(params, state, opt_state, rate, x, labels):
        gradient, state = jax.grad(loss_of, has_aux=True)(params, state, x, labels)
        opt_state.hyperparams["learning_rate"] = rate
        updates, opt_state = tx.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), state, opt_state

    def evaluate(params, state, x, labels):
        logits, _ = model.apply(
            params, state, prepare(x), train=False, key=jax.random.key(0)
        )
        return jnp.mean(cross_entropy(logits, labels))

    return _Functions(
        jax.jit(init), jax.jit(step, donate_argnums=(0, 1, 2)), jax.jit(evaluate)
    )


def run_loop(name: str) -> Outcome:
    """One run after the other; each width is compiled once."""
    import jax
    import numpy as np

    from scalepred import grid
    from scalepred.models.target import traced_as

    dataset = make_dataset(name)
    functions: dict[int, _Functions] = {}
    losses = []
    labels = dataset.labels.astype(np.int32)
    for cell in grid.make_cells(make_experiment(name), dataset):
        if cell.width not in functions:
            functions[cell.width] = _make_functions(cell, dataset)
        init, step, evaluate = functions[cell.width]
        with traced_as("native"):
            carried = init(jax.random.key(cell.seed))
            for index, batch in enumerate(draw_batches(cell, dataset)):
                done = (index + 0.5) / cell.steps
                rate = np.float32(
                    cell.learning_rate * (1 + math.cos(math.pi * done)) / 2
                )
                carried = step(*carried, rate, dataset.inputs[batch], labels[batch])
            test, _ = (
                [
                    evaluate(*carried[:2], dataset.inputs[piece], labels[piece])
                    for piece in part
                ]
                for part in cut_scored(cell, dataset)
            )
        losses.append(float(np.mean(test)))
    return Outcome(0.0, 3 * len(functions), statistics.mean(losses))


def run_scan(name: str) -> Outcome:
    """One compiled loop a run, with the functions of our lanes, on one device."""
    import jax
    import jax.numpy as jnp

    from scalepred import grid
    from scalepred.models.model import build_model
    from scalepred.training import args as args_lib
    from scalepred.training import lane
    from scalepred.training.program import Program, make_program

    dataset, experiment = make_dataset(name), make_experiment(name)
    cells = grid.make_cells(experiment, dataset)
    programs, losses = {}, []
    data = lane.LaneData(
        jnp.asarray(dataset.inputs),
        jnp.asarray(dataset.labels),
        jnp.stack([dataset.order(seed) for seed in range(num_seeds(name))]),
    )
    for cell in cells:
        if cell.width not in programs:
            model = build_model(
                cell.family, cell.width, cell.depth, dataset.input_shape,
                dataset.num_classes,
            )  # fmt: skip
            program = make_program(cell.program_key, [model], dataset)

            def run(args: Any, data: Any, program: Program = program) -> Any:
                state = jax.lax.fori_loop(
                    0,
                    args.steps,
                    lambda _, state: program.step_lane(state, args, data),
                    program.init_lane(args),
                )
                return program.evaluate_lane(state, args, data)

            programs[cell.width] = jax.jit(run)
        scores = programs[cell.width](args_lib.lane_args(cell, 0, cell.seed), data)
        losses.append(float(scores.values[-1, 0]))
    return Outcome(0.0, len(programs), statistics.mean(losses))


def run_scalepred(name: str) -> Outcome:
    """All devices, all cells."""
    from scalepred import grid
    from scalepred.training import ensemble
    from scalepred.training.devices import use_all_cores

    use_all_cores()
    dataset, experiment = make_dataset(name), make_experiment(name)
    cells = grid.make_cells(experiment, dataset)
    plan = ensemble.plan_cells(experiment, dataset, cells)
    last, losses = None, []
    for last in ensemble.train(plan, dataset):
        losses += [row.read("loss") for row in last.rows]
    assert last is not None
    assert len(losses) == len(cells)
    return Outcome(
        0.0,
        last.num_programs,
        statistics.mean(losses),
        last.lane_utilization,
        last.compile_seconds,
    )


def count_lane_bytes(name: str) -> tuple[float, float]:
    """Memory of a lane, of the program whose lanes take most: compiled, planned."""
    import jax

    from scalepred import grid
    from scalepred.training import device_data, engine, ensemble

    dataset, experiment = make_dataset(name), make_experiment(name)
    cells = grid.make_cells(experiment, dataset)
    plan = ensemble.plan_cells(experiment, dataset, cells)
    pack = max(plan.packs, key=lambda pack: pack.bytes_per_device / pack.lanes)
    devices = jax.devices()
    data, _ = device_data.put_data(plan, dataset, devices)
    compiled = engine.compile_pack(pack, dataset, data, devices)
    lanes = pack.lanes // pack.num_devices
    needed = without_data(compiled.count_bytes() or 0, dataset, num_seeds(name))
    return needed / lanes, pack.bytes_per_device / lanes


def without_data(num_bytes: int, dataset: Any, num_seeds: int) -> int:
    """Of a device's memory what is left for lanes."""
    order_bytes = 4 * num_seeds * len(dataset.labels)
    return num_bytes - dataset.inputs.nbytes - 4 * dataset.labels.size - order_bytes


def run_torch(name: str, is_stacked: bool = False) -> Outcome:
    """The same loop in PyTorch, eager; stacked: the seeds of a cell in one call."""
    twins = importlib.import_module("torch_twins")

    from scalepred import grid

    dataset = make_dataset(name)
    cells = grid.make_cells(make_experiment(name), dataset)
    seeds_at_once = num_seeds(name) if is_stacked else 1
    losses = twins.train(cells, dataset, seeds_at_once, draw_batches, cut_scored)
    return Outcome(0.0, 0, statistics.mean(losses))


RUN = {
    "loop": run_loop,
    "scan": run_scan,
    "scalepred": run_scalepred,
    "torch": run_torch,
    "torch_func": lambda name: run_torch(name, is_stacked=True),
}


def measure(name: str, method: str) -> Outcome:
    """One grid by one method in a fresh process, so that all compile from nothing."""
    command = [sys.executable, __file__, f"--worker={name}/{method}"]
    command += [f"--seeds={num_seeds(name)}", f"--length={_LENGTH.value}"]
    command += [f"--widths={','.join(_WIDTHS.value)}"]
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "0"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{name}/{method} failed:\n{done.stderr[-2000:]}")
    return Outcome(**json.loads(done.stdout.splitlines()[-1]))


def count_flops(name: str) -> tuple[dict[int, float], dict[int, float]]:
    """By width: FLOPs of all its runs, and FLOP/s of a batched matmul of its shapes.

    The matmul is that of the family's inner layers, in a compiled loop on one core;
    its rate is multiplied by the cores.
    """
    from scalepred import grid
    from scalepred.models.model import build_model

    dataset, experiment = make_dataset(name), make_experiment(name)
    task = TASKS[name]
    forward: dict[int, float] = {}
    flops, rates = {}, {}
    for cell in grid.make_cells(experiment, dataset):
        if cell.width not in flops:
            model = build_model(
                cell.family, cell.width, cell.depth, dataset.input_shape,
                dataset.num_classes,
            )  # fmt: skip
            forward[cell.width] = model.count_forward_flops(dataset.input_spec)
            flops[cell.width] = 0.0
            shape = {
                "mlp": (task.batch_size, cell.width, cell.width),
                "wide_resnet": (task.batch_size * 1024, 9 * cell.width, cell.width),
                "transformer": (task.batch_size * 64, cell.width, 4 * cell.width),
            }[cell.family]
            rates[cell.width] = _matmul_rate(*shape)
        flops[cell.width] += 3 * forward[cell.width] * cell.steps * cell.batch_size
    return flops, rates


def _matmul_rate(rows: int, inner: int, columns: int) -> float:
    import jax
    import jax.numpy as jnp

    from scalepred.training import cost

    lanes = 8
    x = jnp.ones((lanes, rows, inner))
    weights = jnp.ones((lanes, inner, columns))
    work = 2.0 * lanes * rows * inner * columns
    times = max(1, int(1e9 / work))

    @jax.jit
    def multiply(x, weights):
        def body(_, weights):
            return weights + 1e-9 * jnp.mean(x @ weights, axis=1, keepdims=True)

        return jax.lax.fori_loop(0, times, body, weights)

    jax.block_until_ready(multiply(x, weights))
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        jax.block_until_ready(multiply(x, weights))
        seconds.append(time.perf_counter() - began)
    on_cpu = jax.default_backend() == "cpu"
    devices = cost.num_cores() if on_cpu else jax.device_count()
    return devices * work * times / min(seconds)


def print_tables() -> None:
    """Header, and for each family a row a method."""
    import jax

    device = f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores"
    print(f"{device}; jax {jax.__version__}; medians of {_ROUNDS.value} rounds")
    methods = list(_METHODS.value)
    if importlib.util.find_spec("torch") is None:
        absent = [method for method in methods if method.startswith("torch")]
        methods = [method for method in methods if method not in absent]
        if absent:
            print(f"{', '.join(absent)}: left out, torch is not installed")
    for name in FAMILIES.value:
        from scalepred import grid

        cells = grid.make_cells(make_experiment(name), make_dataset(name))
        steps = sum(cell.steps for cell in cells)
        flops, rates = count_flops(name)
        ideal = sum(flops[width] / rates[width] for width in flops)
        print(
            f"\n### {name}: widths {min(flops)} to {max(flops)}, {len(cells)} runs, "
            f"{steps:,} steps, {sum(flops.values()):.2e} FLOPs\n"
        )
        outcomes: dict[str, list[Outcome]] = {method: [] for method in methods}
        for _ in range(_ROUNDS.value):
            for method in list(outcomes):
                outcomes[method].append(measure(name, method))
        base = statistics.median(o.seconds for o in outcomes[methods[0]])
        print(
            f"| method | seconds | of all cores | runs/s | against {methods[0]} "
            "| FLOP/s | share of matmul | compiles | lanes busy | mean loss "
            "| MB a lane, planned |"
        )
        print("| --- " * 11 + "|")
        for method, found in outcomes.items():
            if not found:
                continue
            seconds = statistics.median(o.seconds for o in found)
            busy, lane_bytes = found[0].utilization, found[0].lane_bytes
            planned = found[0].planned_lane_bytes
            memory = f"{lane_bytes / 1e6:.2f}, {planned / 1e6:.2f}"
            print(
                f"| {method} | {seconds:.1f} "
                f"| {statistics.median(o.cpu_seconds for o in found):.1f} "
                f"| {len(cells) / seconds:.1f} "
                f"| {base / seconds:.2f} | {sum(flops.values()) / seconds:.2e} "
                f"| {ideal / seconds:.0%} | {found[0].compiles} "
                f"| {'' if math.isnan(busy) else f'{busy:.1%}'} "
                f"| {found[0].loss:.3f} "
                f"| {'' if math.isnan(lane_bytes) else memory} |",
                flush=True,
            )


def print_sweep(name: str) -> None:
    """A row a program and number of lanes: microseconds of a lane-step.

    The autotuner's lanes are those of the plan's choices that took least.
    """
    import jax

    from scalepred import grid
    from scalepred.training import autotune, device_data, engine, ensemble
    from scalepred.training.devices import use_all_cores
    from scalepred.training.plan import Choice
    from scalepred.training.trials import time_packs

    use_all_cores()
    devices = jax.devices()
    is_cpu = devices[0].platform == "cpu"
    dataset, experiment = make_dataset(name), make_experiment(name)
    experiment.packing.width_bucket = 1.0  # every width by itself
    cells = grid.make_cells(experiment, dataset)
    plan = ensemble.plan_cells(experiment, dataset, cells)
    data, order = device_data.put_data(plan, dataset, devices)
    compiler = engine.Compiler(dataset, data, devices)
    print(f"\n### {name}, {len(devices)} x {devices[0].device_kind}\n")
    print("| program | axis | lanes a device | us a lane-step | against the best |")
    print("| --- " * 5 + "|", flush=True)
    for pack in plan.packs:
        choices = list(pack.choices)
        per_device = 1
        # A CPU takes minutes for convolutions side by side.
        while per_device <= _MOST_LANES.value and not (is_cpu and pack.has_convolution):
            lanes = per_device * pack.num_devices
            choices.append(Choice("vmap", lanes, pack.convolution))
            per_device *= 2
        choices.append(Choice("map", pack.num_devices, pack.convolution))
        choices = sorted(set(choices))
        seconds = time_packs(
            [pack.choose(choice) for choice in choices], compiler, order
        )
        took = dict(zip(choices, seconds, strict=True))
        own = [took[choice] for choice in pack.choices]
        chosen = autotune.pick(pack.choices, own)
        for choice, value in took.items():
            mark = " (chosen)" if choice == chosen else ""
            told = "out of memory" if math.isinf(value) else f"{1e6 * value:.2f}"
            print(
                f"| {pack.key} {choice.convolution} | {choice.lane_axis} "
                f"| {choice.lanes // pack.num_devices}{mark} | {told} "
                f"| {value / min(seconds):.2f} |",
                flush=True,
            )


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)  # jax tells of plugins that are not there
    if _SWEEP.value:
        for family in FAMILIES.value:
            print_sweep(family)
        return
    if not _WORKER.value:
        print_tables()
        return
    import jax

    name, method = _WORKER.value.split("/")
    if method == "scalepred":
        from scalepred.training.devices import use_all_cores

        use_all_cores()
    if method.startswith("torch"):
        importlib.import_module("torch_twins")
    jax.devices()  # importing and starting the backend are no part of it
    began, began_cpu = time.perf_counter(), time.process_time()
    outcome = RUN[method](name)
    seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    outcome = outcome._replace(seconds=seconds, cpu_seconds=cpu)
    if method == "scalepred":
        found, planned = count_lane_bytes(name)
        outcome = outcome._replace(lane_bytes=found, planned_lane_bytes=planned)
    print(json.dumps(outcome._asdict()))


if __name__ == "__main__":
    app.run(main)

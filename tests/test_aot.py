"""Programs for machines that are not here: they lower, compile, and say what they need.

TPUs and GPUs are compiled for where their plugins are installed; elsewhere CPU devices
stand in for them, and programs are only lowered.
"""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from test_commands import DIGITS, assert_refused, run_train

from scalepred import config, grid
from scalepred.config import UserError
from scalepred.data.dataset import Dataset
from scalepred.models.target import traced_as
from scalepred.training import aot, device_data, engine, ensemble, lane, lane_axis
from scalepred.training import args as args_lib
from scalepred.training import program as program_lib
from scalepred.training.plan import Plan

RANDOM = np.random.default_rng(0)
DEVICES = jax.devices()
EXACT = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
ROOT = pathlib.Path(__file__).resolve().parents[1]


def _dataset(kind: str) -> Dataset:
    count, num_train = 40, 24
    if kind == "text":
        tokens = RANDOM.integers(0, 7, size=(count, 9)).astype(np.uint8)
        inputs, labels = tokens[:, :-1], tokens[:, 1:]
    else:
        inputs = RANDOM.integers(0, 255, size=(count, 8, 8, 3), dtype=np.uint8)
        labels = (np.arange(count) % 7).astype(np.int32)
    return Dataset(
        name=kind,
        inputs=inputs,
        labels=labels,
        num_classes=7,
        num_train=num_train,
        has_fixed_test=True,
        prepare=None if kind == "text" else lambda x: x.astype("float32") / 64 - 2,
        unit="tokens" if kind == "text" else "images",
    )


# Family: dataset, width, depth, and what of the training makes other programs.
FAMILIES = {
    "mlp": ("images", 4, 2, {}),
    "wide_resnet": ("images", 2, 8, {"augment": "crop_flip"}),
    "transformer": ("text", 16, 1, {"optimizer": "adamw", "clip_norm": 1.0}),
    "transformer_mup": ("text", 16, 1, {"optimizer": "muon"}),
    "vit": ("images", 16, 1, {"precision": "bfloat16", "label_smoothing": 0.1}),
    "vgg16bn": ("images", 2, 11, {"precision": "fast"}),
    "densenet": ("images", 2, 10, {}),
    "resnet50": ("images", 2, 14, {}),
    "awd_lstm": ("text", 4, 2, {"average_fraction": 0.2}),
    "awd_lstm_small": ("text", 4, 2, {}),
    "transformer_xl": ("text", 4, 2, {"micro_batch_size": 2}),
}
LARGE = {"vgg16bn", "densenet", "resnet50", "awd_lstm"}
every_family = pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else [])
        for name in FAMILIES
    ],
)


def _plan(family: str, **wishes) -> tuple[Plan, Dataset]:
    kind, width, depth, training = FAMILIES[family]
    dataset = _dataset(kind)
    experiment = config.Experiment(
        name="x",
        family=family,
        grid=config.Grid(
            widths=(width,), depths=(depth,), data_fractions=(0.5, 1.0), seeds=3
        ),
        training=config.Training(batch_size=4, epochs=3, **training),
        packing=config.Packing(lane_axis="vmap", **wishes),
    )
    cells = grid.make_cells(experiment, dataset)
    return ensemble.plan_cells(experiment, dataset, cells), dataset


@every_family
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_every_family_lowers_for_accelerators(family, platform):
    """No rule is missing, nothing calls a library of the CPU, products are exact."""
    plan, dataset = _plan(family)
    (pack,) = plan.packs
    models = [engine.build(pack.key, width, dataset) for width in pack.widths]
    program = program_lib.make_program(pack.key, models, dataset)
    functions = lane_axis.make_functions(
        program, lane_axis.Layout("vmap", 2, 16, at_once=2), "x"
    )

    def shape(leaf, *axes):
        return jax.ShapeDtypeStruct((*axes, *np.shape(leaf)), leaf.dtype)

    args = lane_axis.pack_args(args_lib.idle_args())
    state = jax.tree.map(
        lambda leaf: shape(leaf, 2),
        jax.eval_shape(program.init_lane, args_lib.idle_args()),
    )
    data = jax.tree.map(
        shape,
        lane.LaneData(dataset.inputs, dataset.labels, np.stack([dataset.order(0)])),
    )
    rows, marked = shape(args, 2), shape(np.bool_(False), 2)
    for function, rest in (
        (functions.start, (rows, marked)),
        (functions.step, (rows, shape(np.int32(0)), data)),
        (functions.score, (rows, marked, data)),
    ):
        with traced_as(platform=platform):
            exported = jax.export.export(jax.jit(function), platforms=[platform])(
                state, *rest
            )
        calls = set(re.findall(r"custom_call @(\w+)", exported.mlir_module()))
        assert not [name for name in calls if "lapack" in name or "cpu" in name]


@pytest.mark.parametrize(
    ("platform", "precision", "wanted"),
    [
        ("tpu", "float32", EXACT),
        ("gpu", "float32", EXACT),
        ("tpu", "fast", None),
        ("gpu", "bfloat16", None),
        ("cpu", "float32", None),  # exact by itself
    ],
)
def test_products_are_rounded_only_if_asked(platform, precision, wanted):
    plan, _ = _plan("mlp")
    key = plan.packs[0].key
    key = key._replace(extras=() if precision == "float32" else (precision,))
    with engine._products(key, platform):
        traced = jax.make_jaxpr(lambda x: x @ x)(np.ones((2, 2), np.float32))
    (product,) = traced.eqns
    assert product.params["precision"] == wanted


def test_a_program_is_compiled_without_its_data():
    """As many bytes as with them, and the plan's lanes."""
    plan, dataset = _plan("mlp")
    (pack,) = plan.packs
    machines = aot.Machines(DEVICES, float("inf"))
    found = aot.compile_to_fit(pack, dataset, 3, machines)
    data, _ = device_data.put_data(plan, dataset, DEVICES)
    built = engine.compile_pack(pack, dataset, data, DEVICES)
    assert found.pack is pack
    assert found.device_bytes == built.count_bytes()
    assert found.compile_seconds > 0


@pytest.fixture
def program_cache(tmp_path):
    """The folder where jax keeps every program, however fast it compiled."""
    changed = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: jax.config.values[name] for name in changed}
    for name, value in changed.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_programs_for_others_stay_out_of_the_cache(program_cache):
    """It could not give them back; what follows must be cached all the same."""

    def count_after_compiling(factor: float) -> int:
        jax.jit(lambda x: x * factor)(1.0)
        return len(list(program_cache.glob("*-cache")))

    plan, dataset = _plan("mlp")
    began = count_after_compiling(2.0)
    assert began > 0
    machines = aot.Machines(DEVICES, float("inf"))
    aot.compile_to_fit(plan.packs[0], dataset, 3, machines)
    assert len(list(program_cache.glob("*-cache"))) == began
    assert count_after_compiling(3.0) > began


def test_fewer_lanes_where_memory_is_short():
    plan, dataset = _plan("mlp")
    (pack,) = plan.packs
    assert pack.lanes > len(DEVICES)
    whole = aot.compile_to_fit(pack, dataset, 3, aot.Machines(DEVICES, float("inf")))
    memory = whole.device_bytes - 1
    less = aot.compile_to_fit(pack, dataset, 3, aot.Machines(DEVICES, memory))
    assert less.pack.lanes < pack.lanes
    assert less.device_bytes <= memory
    with pytest.raises(UserError, match="does not fit into the memory"):
        aot.compile_to_fit(pack, dataset, 3, aot.Machines(DEVICES, 100.0))


def test_a_dry_run_for_another_machine(monkeypatch, capsys, tmp_path):
    """The plan is for those devices and their memory, and nothing is trained."""
    machines = aot.Machines(DEVICES[:1], 4e9)
    monkeypatch.setattr(aot, "find_machines", lambda topology: machines)
    workdir = tmp_path / "w"
    status, out, _ = run_train(
        monkeypatch, capsys, DIGITS, f"--workdir={workdir}", "--dry_run",
        "--topology=one", "--config.grid.widths=(4,)",
        "--config.fit.max_params_ratio=1",
    )  # fmt: skip
    assert status == 0
    assert "on 1 x cpu" in out
    assert "compiled for cpu, with 4,000 MB each:" in out
    assert re.search(r"[\d.]+ MB a device, data included; compiling took", out)
    assert "time: not tried" in out
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("topology", "part"),
    [("v5e:3", "v5e:3"), ("none.txtpb", "none.txtpb"), ("nothing", "give a TPU slice")],
)
def test_machines_that_there_are_not(monkeypatch, capsys, tmp_path, topology, part):
    found = run_train(
        monkeypatch, capsys, DIGITS, f"--workdir={tmp_path}/w", "--dry_run",
        f"--topology={topology}",
    )  # fmt: skip
    assert_refused(found, part)


def test_a_topology_is_for_dry_runs(monkeypatch, capsys, tmp_path):
    found = run_train(
        monkeypatch, capsys, DIGITS, f"--workdir={tmp_path}/w", "--topology=v5e:2x2"
    )
    assert_refused(found, "add --dry_run")


# As XLA describes an H100.
GPU = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 7 }
runtime_version { major: 12 minor: 8 }
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  memory_bandwidth: 3352320000000
  device_memory_size: 84929347584
  l2_cache_size: 52428800
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  shared_memory_per_core: 233472
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tpu", "gpu"])
@pytest.mark.parametrize("study", ["digits_mlp.py", "cifar10_wrn.py:small"])
def test_studies_compile_for_machines_that_are_not_here(kind, study, tmp_path):
    """Four of them, lanes over all; the data need not be here either."""
    plugins = {"tpu": "libtpu", "gpu": "jax_cuda12_plugin"}
    if importlib.util.find_spec(plugins[kind]) is None:
        pytest.skip(f"{plugins[kind]} is not installed")
    gpu = tmp_path / "h100.txtpb"
    gpu.write_text(GPU)
    topology, name, memory = {
        "tpu": ("v5e:2x2", "TPU v5 lite", "16,000"),
        "gpu": (f"{gpu}:4", "NVIDIA H100 80GB HBM3", "84,929"),
    }[kind]
    command = [
        sys.executable, "-m", "scalepred", f"--config={ROOT}/experiments/{study}",
        f"--workdir={tmp_path}/w", "--dry_run", f"--topology={topology}",
        # Convolutions as exact as a CPU's take a TPU's compiler minutes.
        "--config.training.precision=fast",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900,
        env={**os.environ, "SCALEPRED_DATA": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "compilation cache" not in done.stderr
    assert f"on 4 x {name}" in done.stdout
    assert f"compiled for {name}, with {memory} MB each:" in done.stdout
    assert "MB a device, data included; compiling took" in done.stdout

"""Compiled programs are kept for all: another folder or clone finds them."""

import os
import pathlib
import shutil
import subprocess
import sys

import jax
import pytest

from scalepred.runtime import command

ROOT = pathlib.Path(__file__).resolve().parents[1]


COMPILE = """
from scalepred import config, grid
from scalepred.data.loading import load_dataset
from scalepred.runtime.command import cache_programs
from scalepred.training import ensemble, trials

cache_programs()
dataset = load_dataset("digits")
experiment = config.Experiment(
    grid=config.Grid(widths=(4,), seeds=2), training=config.Training(epochs=1)
)
plan = ensemble.plan_cells(experiment, dataset, grid.make_cells(experiment, dataset))
trials.try_packs(plan.packs, dataset, num_rounds=0)
"""


def count_programs(clone: pathlib.Path, cwd: pathlib.Path, cache: pathlib.Path) -> int:
    """Programs in the cache after that clone compiled a plan's, in that folder."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(clone),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    program = [sys.executable, "-c", COMPILE]
    done = subprocess.run(
        program, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return len(list(cache.glob("*-cache")))


def test_another_folder_and_another_clone_compile_nothing(tmp_path):
    first, second, clone, cache = (
        tmp_path / name for name in ("first", "second", "clone", "cache")
    )
    for folder in (first, second, clone, cache):
        folder.mkdir()
    shutil.copytree(ROOT / "scalepred", clone / "scalepred")
    compiled = count_programs(ROOT, first, cache)
    assert compiled >= 3  # start, step, score
    assert count_programs(clone, second, cache) == compiled


@pytest.mark.parametrize("said", ["0", None])
def test_what_the_environment_says_of_the_cache_holds(monkeypatch, said):
    name = "jax_persistent_cache_min_compile_time_secs"
    before = jax.config.values[name]
    monkeypatch.delenv(name.upper(), raising=False)
    if said:
        monkeypatch.setenv(name.upper(), said)
    try:
        jax.config.update(name, 0.0)
        command.cache_programs()
        assert jax.config.values[name] == (0.0 if said else 0.1)
    finally:
        jax.config.update(name, before)

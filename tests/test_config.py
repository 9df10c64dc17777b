"""Config: what is accepted, what is refused, and overrides by flag."""

import dataclasses
import math
import pathlib
from typing import Any

import pytest
from absl import flags
from ml_collections import config_flags

from scalepred import config, validation

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[1] / "experiments"


def _good() -> config.Experiment:
    return config.Experiment(name="x", training=config.Training(epochs=1))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", ""),
        ("grid.widths", ()),
        ("grid.widths", (0, 1)),
        ("grid.widths", (4, 4)),
        ("grid.depths", (0,)),
        ("grid.data_fractions", (0.0,)),
        ("grid.data_fractions", (1.5,)),
        ("grid.data_fractions", (math.nan,)),
        ("grid.seeds", 0),
        ("training.warmup_steps", -1),
        ("training.data_per_param", -1.0),
        ("grid.data_per_param", (0.0,)),
        ("training.schedule", "stair"),
        ("training.augment", "mixup"),
        ("training.precision", "float16"),
        ("training.beta2", 1.0),
        ("training.clip_norm", -1.0),
        ("training.label_smoothing", 1.0),
        ("training.decay_points", (0.5, 2.0)),
        ("training.decay_points", (0.1,) * 9),
        ("training.decay_factor", -0.1),
        ("training.cooldown_fraction", 1.0),
        ("training.average_fraction", -0.1),
        ("training.micro_batch_size", 5),
        ("training.learning_rate", 0.0),
        ("training.learning_rate", math.nan),
        ("training.momentum", 1.0),
        ("training.warmup_fraction", -0.1),
        ("training.weight_decay", -1e-3),
        ("training.batch_size", 0),
        ("training.epochs", 0.0),
        ("training.steps", 5),
        ("packing.lanes", -1),
        ("packing.lane_axis", "pmap"),
        ("packing.convolution", "fft"),
        ("packing.chunk_steps", -1),
        ("packing.width_bucket", 0.5),
        ("packing.checkpoint_minutes", -1.0),
        ("fit.max_params_ratio", 0.5),
        ("fit.max_compute_ratio", 0.5),
        ("fit.random_guess", -2.0),
        ("fit.resamples", -1),
        ("fit.residual", "cubic"),
        ("fit.residual", "huber:x"),
        ("fit.above", 0.0),
        ("fit.above", math.nan),
        ("questions.budget", -1.0),
    ],
)
def test_a_bad_value_is_named(path, value):
    experiment = _good()
    owner, _, field = path.rpartition(".")
    setattr(getattr(experiment, owner) if owner else experiment, field, value)
    with pytest.raises(config.UserError, match=path):
        validation.validate(experiment)


def test_a_good_config_is_accepted():
    validation.validate(_good())


def test_one_rule_draws_the_fit_region():
    experiment = _good()
    experiment.fit.max_compute_ratio = 50
    experiment.fit.max_data_ratio = 8
    with pytest.raises(config.UserError, match="max_compute_ratio=50"):
        validation.validate(experiment)


def test_law_auto_has_a_residual_of_its_own():
    experiment = _good()
    experiment.fit.law = "auto"
    validation.validate(experiment)
    experiment.fit.residual = "huber"
    with pytest.raises(config.UserError, match=r"fit\.residual=huber: law=auto has"):
        validation.validate(experiment)


def test_every_field_can_be_overridden_by_a_flag():
    argv = [
        "scalepred",
        f"--config={EXPERIMENTS / 'digits_mlp.py'}",
        "--config.grid.seeds=3",
        "--config.grid.widths=(4, 8)",
        "--config.training.learning_rate=0.5",
        "--config.packing.lane_axis=vmap",
    ]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", sys_argv=argv, flag_values=values)
    values(argv)
    experiment: Any = values["config"].value
    assert experiment.grid.seeds == 3
    assert experiment.grid.widths == (4, 8)
    assert experiment.training.learning_rate == 0.5
    assert experiment.packing.lane_axis == "vmap"
    validation.validate(experiment)


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.py")), ids=lambda p: p.stem)
def test_every_experiment_is_valid(path):
    names: dict = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    experiment = names["get_config"]()
    validation.validate(experiment)
    assert experiment.name.startswith(path.stem)
    assert names["__doc__"]
    assert dataclasses.is_dataclass(experiment)


@pytest.mark.parametrize("epochs", [-1.0, 0.5, float("nan")])
def test_epochs_of_questions_are_whole_passes_or_none(epochs):
    experiment = config.Experiment(name="x", training=config.Training(steps=1))
    experiment.questions.at_epochs = epochs
    with pytest.raises(config.UserError, match=r"questions\.at_epochs"):
        validation.validate(experiment)

"""What the types of the config cannot say: a sentence with field, value and remedy."""

import dataclasses
import math
from collections.abc import Sequence

from scalepred.config import (
    CONVOLUTIONS,
    MAX_DECAY_POINTS,
    MOST_EPOCHS,
    PRECISIONS,
    RESIDUAL_WIDTH,
    RESIDUALS,
    SCHEDULES,
    WIDE_RESIDUALS,
    Experiment,
    Fitting,
    Grid,
    Packing,
    Questions,
    Targets,
    Training,
    UserError,
)


def validate(experiment: Experiment) -> None:
    """Checks what the types cannot say.

    Raises:
        UserError: names the field, its value and what would be accepted.
    """
    _check(bool(experiment.name), "name", experiment.name, "a word for the study")
    _validate_grid(experiment.grid)
    _validate_training(experiment.training)
    _validate_length(experiment.training)
    _validate_packing(experiment.packing)
    if experiment.packing.stop_hopeless:
        _validate_stopping(experiment)
    _validate_fit(experiment.fit)
    _validate_targets(experiment.targets)
    _validate_questions(experiment.questions)


def _validate_grid(grid: Grid) -> None:
    for field, sizes in (("grid.widths", grid.widths), ("grid.depths", grid.depths)):
        _whole_sizes(field, sizes, least=1)
    _fractions("grid.data_fractions", grid.data_fractions)
    ratios = grid.data_per_param
    good = all(0 < ratio < math.inf for ratio in ratios)
    _check(good, "grid.data_per_param", ratios, "numbers above 0")
    _check_distinct("grid.data_per_param", ratios)
    _check(grid.seeds >= 1, "grid.seeds", grid.seeds, "at least 1")
    for field, rates, least in (
        ("grid.learning_rates", grid.learning_rates, 1e-300),
        ("grid.weight_decays", grid.weight_decays, 0.0),
    ):
        good = all(
            isinstance(rate, int | float) and least <= rate < math.inf for rate in rates
        )
        _check(good, field, rates, f"numbers {'above' if least else 'of at least'} 0")
        _check_distinct(field, rates)
    share = grid.validation_fraction
    accepted = "above 0 and below 1"
    _check(0 < share < 1, "grid.validation_fraction", share, accepted)


def _validate_training(training: Training) -> None:
    if "." not in training.schedule:  # else a function of one's own
        _one_of("training.schedule", training.schedule, SCHEDULES)
    _one_of("training.augment", training.augment, ("none", "crop", "crop_flip"))
    _one_of("training.precision", training.precision, PRECISIONS)
    rate = training.learning_rate
    _check(0 < rate < math.inf, "training.learning_rate", rate, "a number above 0")
    for field in (
        "momentum", "beta2", "label_smoothing", "warmup_fraction", "cooldown_fraction",
        "average_fraction",
    ):  # fmt: skip
        _unit(f"training.{field}", getattr(training, field))
    for field in ("weight_decay", "clip_norm", "decay_factor"):
        value = getattr(training, field)
        _check(0 <= value < math.inf, f"training.{field}", value, "0 or more")
    points = training.decay_points
    good = len(points) <= MAX_DECAY_POINTS and all(0 < point <= 1 for point in points)
    accepted = f"at most {MAX_DECAY_POINTS} numbers above 0 and at most 1"
    _check(good, "training.decay_points", points, accepted)
    batch, micro = training.batch_size, training.micro_batch_size
    _check(batch >= 1, "training.batch_size", batch, "at least 1")
    good = micro == 0 or (micro > 0 and batch % micro == 0)
    accepted = f"0 or a divisor of training.batch_size={batch}"
    _check(good, "training.micro_batch_size", micro, accepted)
    steps = training.warmup_steps
    _check(steps >= 0, "training.warmup_steps", steps, "0 or more")
    if steps and training.warmup_fraction:
        raise UserError(
            f"training.warmup_steps={steps} and training.warmup_fraction="
            f"{training.warmup_fraction}: give one of them and leave the other 0"
        )


def _validate_packing(packing: Packing) -> None:
    _check(packing.lanes >= 0, "packing.lanes", packing.lanes, "0 (chosen) or more")
    shards = packing.data_shards
    _check(shards >= 0, "packing.data_shards", shards, "0 (chosen) or more")
    _one_of("packing.lane_axis", packing.lane_axis, ("auto", "vmap", "map"))
    _one_of("packing.convolution", packing.convolution, CONVOLUTIONS)
    _one_of("packing.stream", packing.stream, ("auto", "true", "false"))
    chunk = packing.chunk_steps
    _check(chunk >= 0, "packing.chunk_steps", chunk, "0 (chosen) or more")
    bucket = packing.width_bucket
    good = bucket == 0 or 1 <= bucket < math.inf
    accepted = "0 (chosen) or at least 1 (1: exact widths)"
    _check(good, "packing.width_bucket", bucket, accepted)
    minutes = packing.checkpoint_minutes
    good = 0 <= minutes < math.inf
    _check(good, "packing.checkpoint_minutes", minutes, "0 (none) or more")


def _validate_stopping(experiment: Experiment) -> None:
    """Whether there may be runs that cannot matter."""
    grid, epochs = experiment.grid, experiment.training.epochs
    field = "packing.stop_hopeless=True"
    if len(grid.learning_rates) < 2:
        raise UserError(
            f"{field}: only runs whose rate cannot be the best are stopped, so a sweep "
            "is needed; give several grid.learning_rates, or leave it out"
        )
    if grid.branches:
        raise UserError(
            f"{field}: a trunk serves all of its branches and is never stopped; leave "
            "it out, or grid.branches"
        )
    if epochs > MOST_EPOCHS:
        raise UserError(
            f"{field}: runs that see their data more than {MOST_EPOCHS} times "
            f"(training.epochs={epochs:g}) are never stopped, as their training loss "
            "does not tell which rate is the best; leave it out"
        )


def _validate_fit(fit: Fitting) -> None:
    for field, ratio in (
        ("fit.max_params_ratio", fit.max_params_ratio),
        ("fit.max_data_ratio", fit.max_data_ratio),
    ):
        _check(1 <= ratio < math.inf, field, ratio, "at least 1 (1: no limit)")
    ratio = fit.max_compute_ratio
    good = ratio == 0 or 1 <= ratio < math.inf
    _check(good, "fit.max_compute_ratio", ratio, "0 (unused) or at least 1")
    if ratio and (fit.max_params_ratio > 1 or fit.max_data_ratio > 1):
        raise UserError(
            f"fit.max_compute_ratio={ratio}: set it to 0, or leave "
            "fit.max_params_ratio and fit.max_data_ratio at 1; one rule draws the "
            "fit region"
        )
    guess = fit.random_guess
    _check(
        guess == -1 or 0 <= guess < math.inf,
        "fit.random_guess",
        guess,
        "-1 (from the dataset), 0 (fitted) or a positive value",
    )
    _check(fit.resamples >= 0, "fit.resamples", fit.resamples, "0 or more")
    check_residual(fit, "fit.")


def parse_residual(text: str, field: str = "residual") -> tuple[str, float]:
    """Kind and width of a residual such as log, huber or huber:1e-3.

    Raises:
        UserError: it is none; names those there are.
    """
    kind, colon, width = text.partition(":")
    accepted = (
        f"{', '.join(RESIDUALS)}, or {' or '.join(WIDE_RESIDUALS)}, with a width above "
        f"0 if not {RESIDUAL_WIDTH:g}, as in huber:1e-2"
    )
    _check(kind in (*RESIDUALS, *WIDE_RESIDUALS), field, text, f"one of {accepted}")
    if not colon:
        return kind, RESIDUAL_WIDTH
    try:
        number = float(width)
    except ValueError:
        number = math.nan
    good = kind in WIDE_RESIDUALS and 0 < number < math.inf
    _check(good, field, text, f"one of {accepted}")
    return kind, number


def check_residual(fit: Fitting, before: str) -> None:
    """Raises UserError unless the law can be fitted by this residual.

    Args:
        fit: the settings.
        before: what stands before the name of a field, where it is set.
    """
    kind, _ = parse_residual(fit.residual, f"{before}residual")
    good = 0 < fit.above < math.inf
    _check(good, f"{before}above", fit.above, "a number above 0 (1: as below)")
    for field, changed in (("residual", kind != "relative"), ("above", fit.above != 1)):
        if changed and fit.law == "auto":
            raise UserError(
                f"{before}{field}={getattr(fit, field)}: law=auto has a residual of "
                "its own; leave it out or name another law"
            )


def _validate_questions(questions: Questions) -> None:
    for field in dataclasses.fields(questions):
        value = getattr(questions, field.name)
        good = 0 <= value < math.inf
        _check(good, f"questions.{field.name}", value, "0 (not asked) or more")
    epochs = questions.at_epochs
    good = epochs == 0 or epochs >= 1
    _check(good, "questions.at_epochs", epochs, "0 (data seen once) or at least 1")


def _validate_length(training: Training) -> None:
    """Exactly one field says how long a run is."""
    epochs, steps, ratio = training.epochs, training.steps, training.data_per_param
    _check(0 <= epochs < math.inf, "training.epochs", epochs, "0 or more")
    _check(steps >= 0, "training.steps", steps, "0 or more")
    _check(0 <= ratio < math.inf, "training.data_per_param", ratio, "0 or more")
    if sum(length > 0 for length in (epochs, steps, ratio)) != 1:
        raise UserError(
            f"training.epochs={epochs}, training.steps={steps} and "
            f"training.data_per_param={ratio}: give exactly one of them above 0 "
            "(epochs: steps grow with n; steps: the same everywhere; data_per_param: "
            "they grow with m)"
        )


def _validate_targets(targets: Targets) -> None:
    _whole_sizes("targets.widths", targets.widths)
    _whole_sizes("targets.depths", targets.depths)
    _fractions("targets.data_fractions", targets.data_fractions)
    _check(targets.seeds >= 1, "targets.seeds", targets.seeds, "at least 1")
    _one_of("targets.rates_from", targets.rates_from, ("law", "largest"))
    rate = targets.learning_rate
    good = 0 <= rate < math.inf
    _check(good, "targets.learning_rate", rate, "0 (as the evidence says) or more")
    decay = targets.weight_decay
    good = decay == -1 or 0 <= decay < math.inf
    accepted = "-1 (as the evidence says), 0 or more"
    _check(good, "targets.weight_decay", decay, accepted)
    for field, least in (("params", 1e-300), ("data", 1e-300), ("epochs", 1.0)):
        sizes = getattr(targets, field)
        good = all(
            isinstance(size, int | float) and least <= size < math.inf for size in sizes
        )
        accepted = "numbers of at least 1" if least == 1 else "positive numbers"
        _check(good, f"targets.{field}", sizes, accepted)
    params, data, epochs = targets.params, targets.data, targets.epochs
    if len(params) != len(data) or len(epochs) not in (0, len(data)):
        raise UserError(
            f"targets.params={params}, targets.data={data}, targets.epochs={epochs}: "
            "must be equally long (epochs may be left out); a plain target is one of "
            "each"
        )


def _whole_sizes(field: str, sizes: Sequence[int], least: int = 0) -> None:
    good = len(sizes) >= least and all(
        isinstance(size, int) and size >= 1 for size in sizes
    )
    _check(good, field, sizes, "one or more whole numbers of at least 1")
    _check_distinct(field, sizes)


def _fractions(field: str, fractions: Sequence[float]) -> None:
    good = len(fractions) > 0 and all(
        isinstance(fraction, int | float) and 0 < fraction <= 1
        for fraction in fractions
    )
    _check(good, field, fractions, "numbers above 0 and at most 1")
    _check_distinct(field, fractions)


def _check(good: bool, field: str, value: object, accepted: str) -> None:
    if not good:
        raise UserError(f"{field}={value!r}: must be {accepted}")


def _one_of(field: str, value: str, accepted: Sequence[str]) -> None:
    _check(value in accepted, field, value, "one of " + ", ".join(accepted))


def _unit(field: str, value: float) -> None:
    _check(0 <= value < 1, field, value, "at least 0 and below 1")


def _check_distinct(field: str, values: Sequence[float]) -> None:
    _check(len(set(values)) == len(values), field, values, "distinct numbers")

"""Every knob of a study, typed. Each field is a flag: `--config.grid.seeds=4`.

The dataclasses are not frozen because ml_collections sets overrides on them in
place; nothing changes them once the flags are read. What the types cannot say is
checked by `validation.py`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

PRECISIONS = ("float32", "fast", "bfloat16")
SCHEDULES = ("constant", "linear", "cosine", "step", "wsd", "rsqrt")
# What a fit minimises; the latter two take a width, as in huber:1e-3.
RESIDUALS, WIDE_RESIDUALS = ("relative", "log"), ("huber", "robust")
RESIDUAL_WIDTH = 1e-3
CONVOLUTIONS = ("auto", "canonical", "native", "patches")
MAX_DECAY_POINTS = 8
# Runs that see their data more often are never stopped (`stop_hopeless`): the training
# loss goes on falling where the validation part says that they learn them by heart.
MOST_EPOCHS = 4


class UserError(ValueError):
    """A mistake of the caller's, told in one sentence: field, value, remedy.

    The commands print the sentence and end with status 2, without a traceback.
    """


@dataclasses.dataclass
class Grid:
    """The cells of a study: every width x depth x data fraction x seed.

    With `learning_rates` or `weight_decays` every one of these with every rate: a point
    is then the best of them on a validation part, and what is fitted is its test value.
    """

    # Units per hidden layer (or base channels): the dial of the model axis.
    widths: tuple[int, ...] = (8, 16, 32)
    # Hidden layers (or the family's own notion of depth).
    depths: tuple[int, ...] = (2,)
    # Parts of the training set, 0 to 1; n is rounded as the dataset needs.
    data_fractions: tuple[float, ...] = (0.25, 0.5, 1.0)
    # In their place: n for each parameter (tokens of text), such as 20; n then grows
    # with m, and with `training.epochs` so do steps.
    data_per_param: tuple[float, ...] = ()
    # Independent repeats: each has its own split, subset, start and batch order.
    seeds: int = 1
    # The data sizes of a model and seed share one run at the full rate, the trunk, and
    # cool down from it, each at its length. For schedule wsd and one epoch.
    branches: bool = False
    # Rates to choose from at each point; none: `training.learning_rate` alone.
    learning_rates: tuple[float, ...] = ()
    # Likewise for `training.weight_decay`.
    weight_decays: tuple[float, ...] = ()
    # Of the train part, held out to choose by where there is a choice; N is the rest.
    validation_fraction: float = 0.1


@dataclasses.dataclass
class Training:
    """How one cell is trained. The same at every scale, as in the paper (2.2).

    Or by rules: a `..._rule` is a factor, arithmetic of width, depth, params, data, for
    the rates also of steps, batch_size and seen (data, repeats counted), such as
    "64 / width" or "(seen / 1e6)**-0.3". It multiplies the number of its name.
    """

    # sgd | adam | adamw | muon | any other of optax or optax.contrib, with options of
    # its own as in "lion(b1=0.95)" | dotted path of a function of one's own that takes
    # learning_rate and gives an optax transformation.
    optimizer: str = "sgd"
    learning_rate: float = 0.1  # peak of the schedule
    learning_rate_rule: str = ""
    # recipe.json, or its folder: the rates and the batch for which it has laws follow
    # them, in place of numbers and rules here. See `scalepred.commands.recipe`.
    recipe: str = ""
    momentum: float = 0.9  # sgd only
    nesterov: bool = False  # sgd only
    beta2: float = 0.999  # decay of the second moment; adam, adamw, muon
    # L2 for sgd, decoupled for the others that have one; unused by adam. Biases and
    # scales of norms (arrays of one axis) are not decayed.
    weight_decay: float = 0.0
    weight_decay_rule: str = ""
    clip_norm: float = 0.0  # largest norm of the whole gradient; 0: not clipped
    label_smoothing: float = 0.0  # share of the label that is spread over all classes
    # constant | linear | cosine | step (times `decay_factor` after each of
    # `decay_points`) | wsd (constant, then linear to 0 over `cooldown_fraction`) |
    # rsqrt (as the root of steps after the warm-up) | dotted path of a function
    # (fraction done, step, steps) -> factor.
    schedule: str = "cosine"
    warmup_fraction: float = 0.0  # of all steps, linear from 0
    warmup_steps: int = 0  # instead of it
    # Of all steps; the paper's 80, 120 and 160 of 200 epochs.
    decay_points: tuple[float, ...] = (0.4, 0.6, 0.8)
    decay_factor: float = 0.1
    cooldown_fraction: float = 0.2  # of all steps
    # What is evaluated: the mean of the weights over this last part of the run (as in
    # ASGD); 0: the last weights.
    average_fraction: float = 0.0
    batch_size: int = 32  # examples a step
    batch_size_rule: str = ""  # rounded to whole (micro-)batches
    # Gradients are taken of so many examples at a time and averaged; 0: of the whole
    # batch at once. Cells of several batch sizes then share a program.
    micro_batch_size: int = 0
    # Random changes of training images: none | crop (pad by 4, cut out again) |
    # crop_flip (and mirror every other).
    augment: str = "none"
    # Of forward and backward pass: float32 (on every device) | fast (float32 numbers,
    # whose products an accelerator rounds: to TF32 on a GPU, to bfloat16 on a TPU; on a
    # CPU as float32) | bfloat16. Weights are float32 always.
    precision: str = "float32"
    # Length of a run: give one and leave the others 0. With `epochs` the number
    # of steps grows with n, as in the paper; with `steps` it does not; with
    # `data_per_param` a run sees so much data (tokens of text) for each parameter,
    # whatever n is, so that steps grow with m.
    epochs: float = 0.0
    steps: int = 0
    data_per_param: float = 0.0


@dataclasses.dataclass
class Packing:
    """How cells share the device. No result depends on it beyond float error."""

    # Cells that one compiled program trains side by side on each device, at most;
    # 0: chosen by the plan.
    lanes: int = 0
    # vmap: lanes step together; map: one after the other, for steps so large that
    # one lane fills the device; auto: vmap, but map on a CPU unless steps are tiny.
    lane_axis: str = "auto"
    # Devices that share the batch of each lane, for cells too large for one device; 0:
    # as few as the memory asks for. Where the family allows: no statistics of the
    # batch, nothing carried from window to window.
    data_shards: int = 0
    # Form of convolutions: auto | canonical (XLA's, derivatives rewritten: fast on a
    # CPU) | native (XLA's) | patches (a matrix product: fast there of few channels).
    convolution: str = "auto"
    # Devices hold only some of the examples at a time, and grain reads the others when
    # they are due: true | false | auto (data that take more than half of a device's
    # memory). Results are the same bit for bit.
    stream: str = "auto"
    # Times what is left open above on the device, where training takes long enough to
    # pay for it, and keeps what it found in ~/.cache/scalepred/choices.
    autotune: bool = True
    # Of a sweep of learning rates, stops runs whose rate cannot be the best at their
    # size: their loss, forecast on the way, ends above that of the middle rate, which
    # is trained first. Nothing changes for those that end.
    stop_hopeless: bool = False
    # At most so many optimiser steps between two looks at the lanes; 0: chosen by
    # the plan.
    chunk_steps: int = 0
    # Widths up to this factor apart share one program, the narrow ones padded with
    # zeros. 1: every width its own program; 0: chosen by the plan.
    width_bucket: float = 0.0
    # Minutes between two checkpoints of the pack in progress; 0: none.
    checkpoint_minutes: float = 5.0
    # Cells whose final weights are kept in weights/, for `scalepred.load_model`: "" (of
    # none) | all | largest (of params x data among the runs trained together, all
    # seeds) | ids with commas between.
    save_weights: str = ""


@dataclasses.dataclass
class Fitting:
    """Which cells are fitted, with what law. All others are held out."""

    # auto, or a name that `scalepred.fitting.laws` resolves.
    law: str = "rosenfeld"
    # Fit region: m <= M / max_params_ratio and n <= N / max_data_ratio.
    max_params_ratio: float = 1.0
    max_data_ratio: float = 1.0
    # Instead of the two above: m * n <= max(m * n) / max_compute_ratio. 0: unused.
    max_compute_ratio: float = 0.0
    # Error (or loss) of a model that has learnt nothing. -1: what the dataset
    # says ((K-1)/K for K balanced classes); 0: fitted, as the paper does for text.
    random_guess: float = -1.0
    # What is minimised, see `scalepred.Residual`: relative | log | huber | robust, the
    # last two with the width from which they are linear, as in huber:1e-3.
    residual: str = "relative"
    # Factor on it for points above the law; below 1: badly tuned runs pull less.
    above: float = 1.0
    resamples: int = 1000  # bootstrap resamples of seeds
    seed: int = 0  # of starts, folds and resamples
    # Points of a larger table that back-tests, folds and corners refit; 0: all.
    refit_points: int = 3000


@dataclasses.dataclass
class Questions:
    """What the fitted law is asked. Sizes are counts, never fractions."""

    # Error (or loss) wanted; 0: not asked.
    target_value: float = 0.0
    # Model size for "how much data", data size for "which model"; 0: the largest
    # of the grid.
    at_params: float = 0.0
    at_data: float = 0.0
    # Passes over the data, for laws that know of them; 0: one.
    at_epochs: float = 0.0
    # Training FLOPs to spend on one run; 0: not asked.
    budget: float = 0.0


@dataclasses.dataclass
class Targets:
    """Sizes to be forecast before they are trained, in the grid or beyond it.

    A cell is named by width, depth and data fraction; a plain size, which is predicted
    but cannot be trained here, by params and data.
    """

    # Cells: every width x depth x data fraction, each `seeds` times.
    widths: tuple[int, ...] = ()
    depths: tuple[int, ...] = ()  # none: the grid's
    data_fractions: tuple[float, ...] = (1.0,)
    seeds: int = 1
    # Of a grid that sweeps rates: law (the best at the target, by a law of the best
    # rates of the evidence) | largest (those that were best at the largest evidence).
    rates_from: str = "law"
    learning_rate: float = 0.0  # instead of it; 0: as `rates_from` says
    weight_decay: float = -1.0  # likewise; -1: as `rates_from` says
    # Plain sizes, counts as the table has them: the first of each, the second, ...
    params: tuple[float, ...] = ()
    data: tuple[float, ...] = ()
    epochs: tuple[float, ...] = ()  # for laws that know of them; none: one


@dataclasses.dataclass
class Experiment:
    """One study: data, family, grid, training, fit, targets and questions."""

    name: str = ""
    # Module in `scalepred.data` or `scalepred.models`, or dotted path of one's own.
    dataset: str = "digits"
    family: str = "mlp"  # with options: "mlp(parametrization='mup')"
    # What is fitted, of those that every row has; "": the first of the dataset's task.
    # Classification: error (top-1, 0 to 1), loss (cross-entropy, nats); text: loss,
    # error; regression: mse, mae; on a further test set NAME: NAME_error and so on.
    metric: str = ""
    # Rows of the workdir count although a module of one's own, or the data, were
    # changed since.
    keep_rows: bool = False
    # Forms of the study that are compared, each with the whole grid: by name what is
    # different, as in {"plain": {}, "nesterov": {"training.nesterov": True}}. The
    # first is the baseline; see `scalepred.arms`.
    arms: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    grid: Grid = dataclasses.field(default_factory=Grid)
    training: Training = dataclasses.field(default_factory=Training)
    packing: Packing = dataclasses.field(default_factory=Packing)
    fit: Fitting = dataclasses.field(default_factory=Fitting)
    targets: Targets = dataclasses.field(default_factory=Targets)
    questions: Questions = dataclasses.field(default_factory=Questions)


def choose_scale(scale: str, forms: Mapping[str, T]) -> T:
    """The form of a study that `--config=experiments/x.py:SCALE` names.

    Raises:
        UserError: there is no such form; names those there are.
    """
    if scale not in forms:
        names = ", ".join(forms)
        raise UserError(
            f"--config=...:{scale}: no such form of the study; it has {names}"
        )
    return forms[scale]

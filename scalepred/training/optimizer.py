"""Optimisers and schedules, their numbers traced: each lane has its own."""

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from scalepred.config import SCHEDULES, UserError
from scalepred.runtime import named
from scalepred.runtime.named import Named
from scalepred.training.args import LaneArgs, Options, idle_args

# Optimisers of which every update of a number that is zero, and has gradient zero, is
# zero, and which nothing but other numbers' values moves: models in them may be padded.
# Others count entries or look at shapes, as adafactor does, or draw noise.
_PADDABLE = frozenset({
    "sgd", "adam", "adamw", "lion", "adamax", "adamaxw", "adabelief", "adagrad",
    "amsgrad", "lamb", "lars", "nadam", "nadamw", "radam", "rmsprop", "sign_sgd"
})  # fmt: skip
# Of these the size of an update depends on the norm of the whole array.
_BY_ARRAY = frozenset({"lamb", "lars"})
# What optax calls the strength of weight decay, and the mask of what it is for.
_DECAYS = ("weight_decay", "weight_decay_rate")
_MASKS = ("mask", "weight_decay_mask")

Schedule = Callable[[Any, Any, Any], Any]


def parse(text: str) -> Named:
    """The name and the options of an optimiser.

    Raises:
        UserError: not of the form name(option=number, ...).
    """
    return named.parse("training.optimizer", text, "lion(b1=0.95)")


def can_be_padded(optimizer: str) -> bool:
    """Whether zeros appended to the weights stay zeros and change nothing else."""
    return parse(optimizer).name in _PADDABLE


def check_parametrized(optimizer: str) -> None:
    """Whether the rules of `models/parametrization.py` are made for an optimiser.

    They are where the update of an entry follows from the gradients of that entry
    alone, and is proportional to them (sgd) or of a size of its own (adam). One of the
    user's own is taken at its word.

    Raises:
        UserError: it looks at whole arrays, or is not known.
    """
    name = parse(optimizer).name
    known = _PADDABLE - _BY_ARRAY
    if name not in known and "." not in name:
        raise UserError(
            f"training.optimizer={optimizer!r}: the rules of a parametrization hold "
            f"for {', '.join(sorted(known))}; choose one of these, or leave "
            "parametrization out of the family"
        )


def find(name: str) -> Callable[..., Any]:
    """The function of optax, of optax.contrib, or of one's own, that makes it.

    Raises:
        UserError: there is none.
    """
    home, _, function = name.rpartition(".")
    try:
        homes = [importlib.import_module(home)] if home else [optax, optax.contrib]
    except (ImportError, ValueError):
        homes = []
    for module in homes:
        found: Any = getattr(module, function, None)
        if callable(found) and "learning_rate" in inspect.signature(found).parameters:
            return found
    raise UserError(
        f"training.optimizer={name!r}: no function of optax or optax.contrib that "
        "takes a learning_rate; choose one of theirs, such as sgd, adamw, lion, muon, "
        "or the dotted path of your own"
    )


def make_optimizer(
    options: Options, args: LaneArgs, step: jax.Array
) -> optax.GradientTransformation:
    """The optimiser at this step; optax takes traced numbers where it takes floats."""
    rate = learning_rate_at(options.schedule, args, step, options.branch)
    optimizer = _make(options, args, rate)
    if options.clip:
        clip = optax.clip_by_global_norm(args.clip_norm)
        optimizer = optax.chain(clip, optimizer)
    return optimizer


def _make(
    options: Options, args: LaneArgs, rate: jax.Array
) -> optax.GradientTransformation:
    name, chosen = parse(options.optimizer)
    decay, b2 = args.weight_decay, args.beta2
    if name == "sgd":
        return optax.chain(
            optax.add_decayed_weights(decay, _is_decayed),
            optax.sgd(
                rate,
                **{"momentum": args.momentum, "nesterov": options.nesterov, **chosen},
            ),
        )
    if name == "adam":
        return optax.adam(rate, **{"b2": b2, **chosen})
    if name == "adamw":
        settings = {"b2": b2, "weight_decay": decay, "mask": _is_decayed, **chosen}
        return optax.adamw(rate, **settings)
    if name == "muon":
        settings = {"weight_decay": decay, "adam_b2": b2, **chosen}
        return optax.contrib.muon(rate, **settings)
    make = find(name)
    known = inspect.signature(make).parameters
    settings: dict[str, Any] = {"learning_rate": rate}
    settings |= {word: decay for word in _DECAYS if word in known}
    settings |= {word: _is_decayed for word in _MASKS if word in known}
    return make(**{**settings, **chosen})


def _is_decayed(params: Any) -> Any:
    """Weights, not biases and scales."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def evaluated_params(params: Any, opt_state: Any) -> Any:
    """The weights that are scored: schedule-free optimisers train others."""

    def is_free(node: Any) -> bool:
        return isinstance(node, optax.contrib.ScheduleFreeState)

    for node in filter(is_free, jax.tree.leaves(opt_state, is_leaf=is_free)):
        return optax.contrib.schedule_free_eval_params(node, params)
    return params


def learning_rate_at(
    schedule: str, args: LaneArgs, step: jax.Array, branch: bool = False
) -> jax.Array:
    """Learning rate of step `step`, a function of the fraction of the run done.

    Warm-up rises linearly to the peak over the first `warmup_fraction` of the steps.
    From its end to that of the run, a way s from 0 to 1, the rate is the peak times
    1 (constant), 1 - s (linear), (1 + cos(pi s)) / 2 (cosine). The others count in
    the whole run: step multiplies by `decay_factor` at each of `decay_points`, wsd
    stays and falls linearly to 0 over the last `cooldown_fraction`, rsqrt falls as the
    root of steps once the warm-up, or the first hundredth, is over. A function of
    one's own is given the fraction done, the step and all steps.

    The warm-up of a branch is counted in steps, as rounding of fractions would depend
    on the length of the run.
    """
    # The middle of the step, so that neither the first nor the last is wasted on 0.
    done = (step + 0.5) / jnp.maximum(args.steps, 1)
    warmup = args.warmup_fraction
    past_warmup = jnp.clip((done - warmup) / (1 - warmup), 0, 1)
    if schedule == "constant":
        falling = jnp.ones_like(done)
    elif schedule == "linear":
        falling = 1 - past_warmup
    elif schedule == "cosine":
        falling = (1 + jnp.cos(jnp.pi * past_warmup)) / 2
    elif schedule == "step":
        num_passed = jnp.sum(done[..., None] >= args.decay_points, axis=-1)
        falling = args.decay_factor ** num_passed.astype(jnp.float32)
    elif schedule == "wsd":
        falling = jnp.minimum(1, (1 - done) / jnp.maximum(args.cooldown_fraction, 1e-9))
    elif schedule == "rsqrt":
        begin = jnp.maximum(warmup, 0.01)
        falling = jnp.sqrt(begin / jnp.maximum(done, begin))
    else:
        falling = find_schedule(schedule)(done, step, args.steps)
    if branch:
        done, warmup = step + 0.5, jnp.round(warmup * args.steps)
    rising = done / jnp.maximum(warmup, 1e-9)
    return args.learning_rate * jnp.where(done < warmup, rising, falling)


def find_schedule(path: str) -> Schedule:
    """A schedule of one's own by its dotted path.

    Raises:
        UserError: there is none.
    """
    home, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(home), name)
    except (ImportError, ValueError, AttributeError):
        raise UserError(
            f"training.schedule={path!r}: must be one of {', '.join(SCHEDULES)}, or "
            "the dotted path of a function (fraction done, step, steps) -> factor"
        ) from None
    return found


@functools.cache
def check(options: Options) -> None:
    """Tries the optimiser on shapes alone.

    Raises:
        UserError: it cannot be made with these options, or wants more than a gradient.
    """
    shapes = {"kernel": (4, 4), "bias": (4,)}
    params = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()
    }

    def step(params: Any) -> Any:
        optimizer = make_optimizer(options, idle_args(), jnp.int32(0))
        return optimizer.update(params, optimizer.init(params), params)

    try:
        jax.eval_shape(step, params)
    except UserError:
        raise
    except Exception as error:  # whatever a function of somebody else's may raise
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"training.optimizer={options.optimizer!r}: cannot make a step from "
            f"gradients alone ({type(error).__name__}: {first}); mend its options, or "
            "choose another"
        ) from None

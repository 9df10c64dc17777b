"""Which column is which: our names, the usual ones, or what the user says."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scalepred.config import UserError

# Our names first; then what papers and tools call the same thing, best first. Names are
# compared in lower case, with all but letters and digits as one space.
_USUAL: dict[str, tuple[str, ...]] = {
    "params": (
        "params", "n params", "num params", "nparams", "parameters", "n parameters",
        "num parameters", "number of parameters", "parameter count", "param count",
        "non embedding params", "non embedding parameters", "params non embedding",
        "num non embedding params", "n non embedding", "trainable params",
        "trainable parameters", "model params", "model parameters", "model size",
        "active params", "active parameters", "num active params", "params active",
        "total params", "total parameters", "params total",
    ),
    "data": (
        "data", "tokens", "n tokens", "num tokens", "training tokens", "train tokens",
        "tokens seen", "total tokens", "consumed tokens", "num input tokens seen",
        "token count", "number of tokens", "data size", "dataset size", "n train",
        "num train", "train size", "training set size", "training examples",
        "train examples", "num examples", "n examples", "examples", "samples",
        "n samples", "num samples", "samples seen", "examples seen", "images seen",
        "images", "train samples", "consumed samples", "bytes", "n bytes", "num bytes",
        "bytes seen", "train bytes", "words", "n words", "sentences", "sequences",
        "documents", "hours of audio", "audio hours", "hours of speech", "speech hours",
    ),
    "value": (
        "value", "test loss", "test error", "loss test", "val loss", "validation loss",
        "valid loss", "eval loss", "loss val", "eval validation loss", "loss",
        "final loss", "loss mean", "mean loss", "loss nats", "loss bits", "error",
        "error rate", "err", "test err", "val error", "validation error", "eval error",
        "top1 error", "top 1 error", "top1 err", "top 1 err", "test ce",
        "cross entropy", "ce", "nll", "negative log likelihood", "neg log likelihood",
        "l", "mse", "test mse", "val mse", "rmse", "mae", "wer", "test wer", "cer",
        "test bpb", "val bpb", "bpb", "bits per byte", "bpc", "bits per character",
        "perplexity", "test perplexity", "val perplexity", "eval perplexity", "ppl",
        "test ppl", "val ppl",
        "test accuracy", "test acc", "val accuracy", "val acc", "validation accuracy",
        "eval accuracy", "eval acc", "accuracy", "acc", "top 1 accuracy",
        "top1 accuracy", "top 1 acc", "top1 acc", "acc1", "acc 1",
        "auc", "test auc", "val auc", "r2", "test r2", "f1", "test f1", "bleu",
        "train loss", "training loss",
    ),
    "flops": (
        "flops", "flop", "c", "compute", "training flop", "training flops",
        "train flops", "total flops", "num flops", "n flops", "flops total",
        "training compute", "training compute flop", "total flos",
    ),
    "seed": ("seed", "random seed", "rng seed", "data seed", "run seed"),
    "metric": ("metric", "metric name", "tag", "variable"),
    "task": ("task",),
    "weight": ("weight",),
    "status": ("status", "state", "run state", "run status"),
    "epochs": ("epochs",),
    "validation_value": ("validation value",),
}  # fmt: skip
# How far a run has come: the data of a curve where nothing better is there.
_STEPS = ("step", "steps", "global step", "trainer global step", "iteration", "iter")
_STEPS += ("train steps", "training steps", "num steps", "epoch")
# Data, where epochs say how often they were seen and nothing counts all of it.
_UNIQUE = ("unique tokens", "unique data", "unique examples", "unique samples")
# Data a parameter.
_RATIO = re.compile(
    r"(tokens?|data|examples|samples|images) (per|to) (n |non embedding )?"
    r"param(eter)?s?( ratio)?|tokens? param(eter)?s? ratio|tpp|d n( ratio)?|d per n"
)
# What tools put before a name.
_PREFIX = re.compile(
    r"^(params|parameters|user attrs|config|summary|summarymetrics|metrics|hparams|"
    r"hyperparameters) "
)
_UNITS = {
    "k": 1e3, "thousand": 1e3, "thousands": 1e3, "m": 1e6, "million": 1e6,
    "millions": 1e6, "b": 1e9, "billion": 1e9, "billions": 1e9, "t": 1e12,
    "trillion": 1e12, "trillions": 1e12,
}  # fmt: skip
_FLOPS = {
    "gflops": 1e9, "tflops": 1e12, "pflops": 1e15, "eflops": 1e18, "zflops": 1e21,
    "exaflops": 1e18, "exaflop": 1e18, "zettaflops": 1e21, "zettaflop": 1e21,
    "pf days": 8.64e19, "pflop s days": 8.64e19, "petaflop days": 8.64e19,
    "petaflop s days": 8.64e19,
}  # fmt: skip
_UNIT = re.compile(
    r"\s*(?:[(\[]\s*(?:in\s+)?([\w^/ -]+)[)\]]|[_ ](?:in[_ ])?([a-z]+))$", re.I
)

# Columns that may name models by their size alone, as in 70M and 6.9B.
_NAMED_BY_SIZE = ("model size", "size", "model", "model name", "name", "scale")
_SIZE = re.compile(r"\d+(\.\d+)? ?[kmbg]", re.I)

SIZES = ("params", "data", "flops")


class Naming(NamedTuple):
    """What was taken for what.

    Attributes:
        columns: of the table, by our name.
        units: by our name of a size: what its numbers are to be multiplied with.
        is_guessed: some name is not ours.
    """

    columns: dict[str, str]
    units: dict[str, float]
    is_guessed: bool


def parse_columns(text: str) -> dict[str, str]:
    """The flag --columns: params=N,data=D,value=loss.

    Raises:
        UserError: it is not of that form.
    """
    said: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        ours, found, theirs = part.partition("=")
        if not found or not theirs.strip() or ours.strip() not in _USUAL:
            raise UserError(
                f"--columns={text}: must look like params=N,data=D,value=loss, with "
                f"names of {', '.join(_USUAL)}"
            )
        said[ours.strip()] = theirs.strip()
    return said


def find(
    header: Sequence[str],
    said: Mapping[str, str],
    metric: str | None,
    path: object,
) -> Naming:
    """Which of a table's columns are ours.

    Args:
        header: names of the table.
        said: by our name, what the user calls it.
        metric: that is asked for; a column of this name holds it.
        path: of the table, for errors.

    Raises:
        UserError: a column that was said is not there.
    """
    columns, units = {}, {}
    for ours, theirs in said.items():
        if theirs not in header:
            raise UserError(
                f"--columns={ours}={theirs}: {path} has no such column (columns found: "
                f"{show(header)})"
            )
        columns[ours] = theirs
        if ours in SIZES and (unit := _find_said_unit(ours, theirs)) != 1:
            units[ours] = unit
    free = [name for name in header if name not in columns.values()]
    plainly = {name: plain(name) for name in free}
    if "value" not in columns and "value" not in free and metric:
        wanted = plain(metric)
        asked = next((name for name in free if plainly[name] == wanted), None)
        columns |= {"value": asked} if asked else {}
    for ours, usual in _USUAL.items():
        if ours in columns:
            continue
        if ours in free:
            columns[ours] = ours
            continue
        # A tag may be anything, but beside a value it says what that is of.
        if ours == "metric" and "value" not in plainly.values():
            continue
        if found := _find_usual(ours, usual, free, plainly):
            columns[ours], unit = found
            if unit != 1:
                units[ours] = unit
    _find_letters(columns, units, free)
    if not {"data", "flops"} & columns.keys() and "epochs" in columns:
        unique = next((name for name in free if plainly[name] in _UNIQUE), None)
        columns |= {"data": unique} if unique else {}
    if "data" not in columns and (steps := find_steps(free)):
        columns["data"] = steps
    _check_experts(columns, said, free, path)
    guessed = any(ours != theirs for ours, theirs in columns.items())
    return Naming(columns, units, guessed)


def _check_experts(
    columns: Mapping[str, str],
    said: Mapping[str, str],
    free: Sequence[str],
    path: object,
) -> None:
    """Refuses a table of mixtures of experts that has two sizes of a model.

    Raises:
        UserError: asks which one.
    """
    taken = columns.get("params", "")
    others = [name for name in free if name != taken and "total" in plain(name).split()]
    others = [name for name in others if "param" in plain(name)]
    if "active" in plain(taken).split() and others and "params" not in said:
        raise UserError(
            f"{path}: {taken} and {others[0]} are two sizes of a model; say which one, "
            f"as --columns=params={taken}"
        )


def find_sizes(named: Naming, rows: Sequence[Mapping[str, str]]) -> Naming:
    """Where no column is one of params, the one that names models by their size."""
    if "params" in named.columns:
        return named
    for wanted in _NAMED_BY_SIZE:
        for name in rows[0]:
            if plain(name) != wanted or name in named.columns.values():
                continue
            if all(_SIZE.fullmatch(row[name].strip()) for row in rows):
                columns = {**named.columns, "params": name}
                return named._replace(columns=columns, is_guessed=True)
    return named


def _find_usual(
    ours: str, usual: Sequence[str], free: Sequence[str], plainly: Mapping[str, str]
) -> tuple[str, float] | None:
    """The first column of a usual name, and the unit that its name tells."""
    for without_prefix in (False, True):
        for wanted in usual:
            for name in free:
                text, unit = name, 1.0
                own = plainly[name]
                if without_prefix:
                    own = drop_prefix(own)
                if own != wanted and ours in SIZES:
                    text, unit = _split_unit(name)
                    own = plain(text)
                if own == wanted:
                    return name, unit
    return None


def _find_letters(
    columns: dict[str, str], units: dict[str, float], free: Sequence[str]
) -> None:
    """N and D, or m and n, which only together say what they are."""
    split = {name: _split_unit(name) for name in free}
    there = {text: name for name, (text, _) in reversed(split.items())}
    there |= {name: name for name in free}

    def take(ours: str, letter: str) -> None:
        if ours not in columns:
            columns[ours] = there[letter]
            unit = 1.0 if letter in free else split[there[letter]][1]
            units.update({ours: unit} if unit != 1 else {})

    if "params" not in columns and "N" in there:
        if "D" in there or "C" in there or "data" in columns or find_ratio(free):
            take("params", "N")
    elif "params" not in columns and "m" in there and "n" in there:
        take("params", "m")
        take("data", "n")
    elif "params" not in columns and "n" in there and "d" in there:
        take("params", "n")
        take("data", "d")
    if "D" in there:
        take("data", "D")


def find_steps(header: Sequence[str]) -> str:
    """The column that says how far a run has come; "" where there is none."""
    found = [name for s in _STEPS for name in header if plain(name) == s]
    return found[0] if found else ""


def _split_unit(name: str) -> tuple[str, float]:
    """A name without the unit at its end, such as "params (M)" or "tokens_billions"."""
    match = _UNIT.search(name)
    if not match:
        return name, 1.0
    unit = (match[1] or match[2]).lower()
    if unit in _UNITS:
        return name[: match.start()], _UNITS[unit]
    if match[1] and plain(unit) in _FLOPS:
        return name[: match.start()], _FLOPS[plain(unit)]
    if power := re.fullmatch(r"(?:x?10\^|x?1e)(\d+)", unit):
        return name[: match.start()], 10.0 ** int(power[1])
    if match[1] and unit in ("flop", "flops", "tokens", "params", "nats", "count"):
        return name[: match.start()], 1.0
    return name, 1.0


def _find_said_unit(ours: str, theirs: str) -> float:
    """The unit in the name of a column that the user names.

    A letter behind a name is one where what stands before it is a name of the size.
    """
    text, unit = _split_unit(theirs)
    is_said = theirs.rstrip().endswith((")", "]")) or len(theirs) > len(text) + 2
    is_usual = plain(text) in _USUAL[ours] or text.lower() in ("n", "d", "m", "c")
    return unit if is_said or is_usual else 1.0


def plain(name: str) -> str:
    """A name to be compared: lower case, all but letters and digits as one space."""
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()


def find_ratio(header: Sequence[str]) -> str:
    """The column of data a parameter; "" where there is none."""
    return next((name for name in header if _RATIO.fullmatch(plain(name))), "")


def drop_prefix(plainly: str) -> str:
    """A plain name without what tools put before it, such as config."""
    return _PREFIX.sub("", plainly)


def show(names: Sequence[str]) -> str:
    """Names in a line, printable and short: garbage must not flood the terminal."""
    text = "".join(c if c.isprintable() else "?" for c in ", ".join(names))
    return text if len(text) <= 40 else text[:37] + "..."

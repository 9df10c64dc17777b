"""The flags of `scalepred-fit`, and its help."""

from __future__ import annotations

import math

from absl import flags

from scalepred.config import UserError

USAGE = """\
scalepred-fit points.csv [--workdir=DIR]
    [--target=params=70B,data=1.4T ...] [--target_value=0.05] [--budget=1e21]
    [--fit_max_compute_ratio=50] [--law=auto] [--verbose] [--json] [more, see below]
scalepred-fit --workdir=DIR [--target=...] [--target_value=...] [--budget=...]
    [--gate=...] [--plan] [--json]
scalepred-fit points.csv --by=COLUMN --workdir=DIR [--baseline=NAME] [--budget=...]
scalepred-fit --measurements=a.csv --measurements=b.csv --workdir=DIR [--baseline=a]
scalepred-fit new.csv --score=DIR/forecasts/DIGEST.json [--json]

Fits a law to a table (params, data, value), predicts what was held out, forecasts the
targets (DIR/forecasts), answers, and writes DIR/report.html. Without a table the fit
saved in DIR answers, and nothing is fitted or written. With --score the rows of a table
that a forecast speaks of are set beside it. Several tables, or with --by the groups of
one, are fitted each by itself and compared.

  $ scalepred-fit chinchilla.csv --workdir=runs/x --fit_max_compute_ratio=50 \\
      --data_unit=tokens --target=params=70B,data=1.4T
  Loss of massivetext_lm: 245 runs, 169 fitted, 76 held out
    trust    Yes, up to 54 times the largest fitted run; 76 sizes it never saw:
             typically 0.7% off, 3.7% at worst, at 6.8B parameters and 318B tokens;
             66 of 76 are inside their 90% interval. You ask for 2,400 times the
             largest fitted run; checked up to 54 times
    target   70B parameters and 1.4T tokens should reach a loss of 2.015 nats (90%
             interval 1.92 to 2.09)
    worth    Somewhat: gains are getting small; ...
  Report: runs/x/report.html   (--verbose prints notes and weights)

The table
  --measurements  the table, also without its name: columns params, data, value, or of
                  the usual names (N, D, loss, tokens, accuracy, ...); optional flops,
                  seed, metric, task, data_unit, weight, status. CSV of any dialect,
                  JSON, JSON lines, parquet, a trainer's history. Rows with the same
                  params and data are seeds, or, where a rate or another setting
                  differs, tries of which the best counts. Laws of repeated data also
                  read epochs, unique_data, unique_tokens.
  --by            column whose values are groups to be compared, such as family
  --baseline      group that the others are held against (default: the first)
  --columns       which column is which: params=N,data=D,value=loss
  --decimal       the decimal mark of the table, "." or ",", where it is not clear
  --where         COLUMN=VALUE that rows must have; may be given more than once
  --metric, --task  which of several in one table
  --through       for the error or accuracy of a task: loss predicts it through the loss
                  in the same rows (sizes -> loss -> error), none directly, auto
                  (default) as back-tests say; or the name of the column of losses
  --data_unit     what data counts (tokens, images); the table's own word unless given
  --random_guess  error (or loss) of a model that has learnt nothing; fitted if absent
  --data_counts   where data are repeated, what the column data counts: unique (each
                  was seen `epochs` times), seen (repeats count), or auto (default):
                  seen where there is a column of unique data; it says which

The law
  --law           auto (default: one flexible law, weighed by back-tests), rosenfeld,
                  rosenfeld_fitted_guess, rosenfeld_two_plateaus, chinchilla, kaplan,
                  coupled, data_constrained (repeated data); power, m4, bnsl along data,
                  power_params, ... along model size; power_compute, ... along FLOPs,
                  for ladders; or package.module.law for one's own
  --residual      what is minimised, for all laws but auto: relative (default), log,
                  huber or robust, the last two with the width from which they are
                  linear, as in huber:1e-3 (in ln of the value); little pulled by
                  outliers
  --above         factor on it for points above the law; below 1: badly tuned runs,
                  which lie above, pull less (default 1)
  --fit_max_compute_ratio=50, or --fit_max_params=1e8 --fit_max_data=1e9
                  fit region: all but the top 50 times of compute, or up to these
                  sizes; everything else is held out and scored
  --resamples     draws behind every interval (default 1000; 0: no intervals)
  --seed          of draws, folds and starts (default 0)
  --refit_points  points of a larger table that back-tests, folds and corners refit
                  (default 3000, a random sample; 0: all); the law is fitted to all

Questions (numbers as 1e9, 70B, 1.4T or 5%)
  --target        sizes to forecast; may be given more than once; ,epochs=4 for laws of
                  repeated data
  --target_value  error (or loss) wanted: how much data, which model, at what cost;
                  --at_params and --at_data: with these sizes, else with the largest
  --budget        training FLOPs of one run: which split of model and data; with
                  --target_value also how likely it suffices
  --at_epochs     passes over the data in those questions, for laws of repeated data
  --plan          the runs to do next, to be surer of the target for the budget, with
                  what each costs and by how much it narrows the interval
  --cost          what the budget of --plan counts: flops (default), 6mn or mn
  --until_width   relative half-width of the 90% interval that is enough for --plan
  --gate          "value<=0.05,params=1e9,data=2e10,probability=0.8": ends with status 3
                  unless one run reaches the value with at least the probability, at
                  these sizes or (budget=1e21) at the best for a budget; may be given
                  more than once. Of groups: "arm=B better than A at
                  params=1e9,data=2e10 probability=0.9", or at budget=1e21
  --score         a sealed forecast to hold the measurements against

What is said
  --workdir       folder of the results (default for one table: runs/NAME of it)
  --title         of the report; the task, or the name of the table, unless said
  --verbose       prints notes, weights, costs and what to do about each warning, too
  --json          prints forecast, answers and verdict as one JSON object on stdout,
                  all else on stderr
  --version       prints the version

Exit status: 0 if everything asked for was done, 3 if a gate was not passed, 2 for a
mistake in what was asked."""

# Flags of this command alone; the other one has a --workdir too.
FLAGS = flags.FlagValues()


def _string(name: str, default: str | None = None) -> flags.FlagHolder:
    return flags.DEFINE_string(name, default, name, flag_values=FLAGS)


class _NumberParser(flags.ArgumentParser):
    """Numbers as people write them: 70B, 1.4T, 5%."""

    def parse(self, argument: str | float) -> float:
        from scalepred.table import numbers

        if isinstance(argument, int | float):
            return float(argument)
        try:
            if argument.strip().lower() in ("nan", "inf", "-inf"):
                return float(argument)
            number = numbers.parse(argument)
        except ValueError as error:
            raise ValueError(f"it is {error}; write 1e9, 1.4T or 5%") from None
        if math.isnan(number):
            raise ValueError("it is no number; write 1e9, 1.4T or 5%")
        return number

    def flag_type(self) -> str:
        return "float"


def _float(name: str, default: float | None = None) -> flags.FlagHolder:
    return flags.DEFINE(
        _NumberParser(), name, default, name, flag_values=FLAGS,
        serializer=flags.ArgumentSerializer(),
    )  # fmt: skip


MEASUREMENTS = flags.DEFINE_multi_string(
    "measurements", None, "measurements", flag_values=FLAGS
)
BY = _string("by", "")
BASELINE = _string("baseline", "")
COLUMNS = _string("columns", "")
DECIMAL = flags.DEFINE_enum("decimal", "", ["", ".", ","], "decimal", flag_values=FLAGS)
WHERE = flags.DEFINE_multi_string("where", [], "where", flag_values=FLAGS)
WORKDIR = _string("workdir")
LAW = _string("law", "auto")
RESIDUAL = _string("residual", "relative")
ABOVE = _float("above", 1.0)
METRIC = _string("metric")
TASK = _string("task")
THROUGH = _string("through", "auto")
TITLE = _string("title", "")
DATA_UNIT = _string("data_unit", "")
VERBOSE = flags.DEFINE_bool("verbose", False, "verbose", flag_values=FLAGS)
RANDOM_GUESS = _float("random_guess")
COMPUTE_RATIO = _float("fit_max_compute_ratio")
MAX_PARAMS = _float("fit_max_params")
MAX_DATA = _float("fit_max_data")
TARGETS = flags.DEFINE_multi_string("target", [], "target", flag_values=FLAGS)
TARGET_VALUE = _float("target_value", 0.0)
AT_PARAMS = _float("at_params", 0.0)
AT_DATA = _float("at_data", 0.0)
AT_EPOCHS = _float("at_epochs", 0.0)
BUDGET = _float("budget", 0.0)
DATA_COUNTS = _string("data_counts", "auto")
GATES = flags.DEFINE_multi_string("gate", [], "gate", flag_values=FLAGS)
SCORE = _string("score")
PLAN = flags.DEFINE_bool("plan", False, "plan", flag_values=FLAGS)
COST = _string("cost", "flops")
UNTIL_WIDTH = _float("until_width", 0.0)
REFIT_POINTS = flags.DEFINE_integer(
    "refit_points", 3000, "refit_points", flag_values=FLAGS
)
JSON = flags.DEFINE_bool("json", False, "json", flag_values=FLAGS)
RESAMPLES = flags.DEFINE_integer("resamples", 1000, "resamples", flag_values=FLAGS)
SEED = flags.DEFINE_integer("seed", 0, "seed", flag_values=FLAGS)


def parse_target(text: str) -> tuple[float, ...]:
    """Sizes of a target; NaN for one that it leaves open."""
    from scalepred.table import numbers

    sizes: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        try:
            sizes[name.strip()] = numbers.parse(number)
        except ValueError:
            sizes = {}
            break
    names = {"params", "data", "epochs"}
    if not sizes or not set(sizes) <= names or set(sizes) == {"epochs"}:
        raise UserError(
            f"--target={text}: must look like params=70B,data=1.4T or "
            "params=1e9,data=2e10, with ,epochs=4 for laws of repeated data"
        )
    for name, size in sizes.items():
        if not (math.isfinite(size) and size > 0):
            raise UserError(
                f"--target={text}: target {name}={size:g}: must be a positive number"
            )
    target = sizes.get("params", math.nan), sizes.get("data", math.nan)
    return (*target, sizes["epochs"]) if "epochs" in sizes else target


def check(name: str, good: bool, value: float, accepted: str) -> None:
    from scalepred.table.numbers import write_size
    from scalepred.table.points import LARGEST, MOST_FLOPS, SMALLEST

    # NaN compares false and so is refused as well.
    if not good or math.isinf(value):
        raise UserError(f"--{name}={value:g}: must be {accepted}")
    largest = MOST_FLOPS if name == "budget" else LARGEST
    if value and not SMALLEST <= value <= largest:
        raise UserError(
            f"--{name}={write_size(value)}: must be between {write_size(SMALLEST)} and "
            f"{write_size(largest)}"
        )

"""A law of the best setting in sentences: the terminal and `repr` say the same."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from scalepred.fitting.predict import Estimate
from scalepred.fitting.recipe.backtest import Hidden
from scalepred.fitting.recipe.law import Best, RecipeLaw, Regret
from scalepred.fitting.recipe.narrowing import narrow
from scalepred.metrics import find_noun
from scalepred.report import format
from scalepred.table import numbers

_SYMBOLS = {"params": "m", "data": "n", "epochs": "epochs"}
# Sizes that go together to this correlation are not told apart.
_TOGETHER = 0.98
# A sweep is worth naming if it narrows the interval to this share.
_WORTH = 0.95


def name_knob(law: RecipeLaw) -> str:
    """learning rate, weight decay, batch size."""
    return law.knob.replace("_", " ")


def symbol(name: str) -> str:
    """m, n, or the name of another size."""
    return _SYMBOLS.get(name, name)


def setting(number: float) -> str:
    """A setting of a knob, three digits: 0.00164, 0.1, 256, 1.4e-5."""
    if number >= 1000:
        return format.count(float(f"{number:.3g}"))
    return numbers.write_flops(number) if number < 1e-3 else f"{number:.3g}"


def describe(law: RecipeLaw) -> list[str]:
    """What the sweep says, in sentences."""
    lines = [_title(law), formula(law)]
    lines += [_exponent(law, name, one) for name, one in law.exponents.items()]
    if _rise_together(law):
        lines.append(
            "Model and data grow together in this sweep, so that their exponents are "
            "not told apart; the law holds along that line."
        )
    lines.append(_costs(law))
    base, rule = law.rule()
    lines.append(
        f'For the next grid: training.{law.knob}={base:g}, training.{law.knob}_rule="'
        f'{rule}"'
    )
    lines += warnings(law)
    return lines


def warnings(law: RecipeLaw) -> list[str]:
    """What stands against following the law."""
    found = []
    if law.edges:
        largest = max(law.edges, key=lambda edge: math.prod(edge.sizes.values()))
        side = {"below": "least", "above": "largest"}[largest.side]
        found.append(
            f"The best {name_knob(law)} is at the edge of what was tried at "
            f"{len(law.edges)} of {len(law.bottoms)} sizes, such as "
            f"{setting(largest.tried)}, the {side}, at {_sizes(law, largest.sizes)}: "
            f"widen the sweep {largest.side}."
        )
    return found


def describe_best(law: RecipeLaw, best: Best) -> list[str]:
    """What the law says of a target, and of the setting of the largest size."""
    own = best.regret
    knob, place = name_knob(law), _sizes(law, best.sizes)
    lines = [
        f"At {place} take a {knob} of {setting(best.setting)} (the best lies between "
        f"{setting(best.lower)} and {setting(best.upper)}, 90% interval). It costs "
        f"{_percent(own)}{_chance(own)}."
    ]
    kept = law.regret(law.largest_setting, **best.sizes)
    times = kept.setting / best.middle
    how = f"{times:.2g} times" if times >= 1 else f"{1 / times:.2g} times less than"
    lines.append(
        f"{format.sentence(setting(kept.setting))[:-1]}, the best tried at the largest "
        f"size of the sweep, is {how} the best there: to keep it costs "
        f"{_percent(kept)}{_chance(kept)}."
    )
    more = narrow(law, best.sizes)
    if more.after < _WORTH * more.before:
        tried = ", ".join(setting(one) for one in more.settings)
        lines.append(
            f"To narrow that, sweep {tried} at {_sizes(law, more.sizes)}: the ends of "
            f"the interval would then differ by a factor of about {more.after:.2g}, "
            f"not {more.before:.2g}."
        )
    return lines


def describe_hidden(law: RecipeLaw, hidden: Sequence[Hidden]) -> list[str]:
    """How a law of the smaller sizes did at the larger ones."""
    knob = name_knob(law)
    lines = [f"Hidden from a law of the other sizes were the {len(hidden)} largest:"]
    for one in hidden:
        best = one.best
        lines.append(
            f"  {_sizes(law, best.sizes)}: take {setting(best.setting)} "
            f"({setting(best.lower)} to {setting(best.upper)}); best tried "
            f"{setting(one.tried)}; costs {_cost(one.law)}, that of the largest "
            f"{_cost(one.largest)}"
        )
    pairs = [(one.law, one.largest) for one in hidden]
    known = [pair for pair in pairs if not any(map(math.isnan, pair))]
    if known:
        own, kept = np.expm1(np.mean(known, axis=0))
        lines.append(
            f"On average the {knob} of the law costs {format.percent(own)}, to keep "
            f"that of the largest fitted size {format.percent(kept)}."
        )
    return lines


def _cost(log_ratio: float) -> str:
    return "n/a" if math.isnan(log_ratio) else format.percent(math.expm1(log_ratio))


def describe_choice(
    law: RecipeLaw, taken: float, sizes: Mapping[str, float], how: str
) -> list[str]:
    """Which setting a target of a study has, and why.

    Args:
        law: of the evidence.
        taken: the setting.
        sizes: of the target.
        how: law | largest (of the evidence) | given.
    """
    best, own = law.best(**sizes), law.regret(taken, **sizes)
    knob = name_knob(law)
    why = {
        "law": "by the law of the best ones",
        "largest": "which was best at the largest evidence",
        "given": "as the config says",
    }[how]
    text = (
        f"The target of {_sizes(law, sizes)} has a {knob} of {setting(taken)}, {why}. "
        f"By that law the best lies between {setting(best.lower)} and "
        f"{setting(best.upper)} (90% interval), and {setting(taken)} costs "
        f"{_percent(own)}{_chance(own)}"
    )
    if how != "law":
        return [text]
    kept = law.regret(law.largest_setting, **sizes)
    return [
        f"{text}; {setting(kept.setting)}, the best at the largest evidence, would "
        f"cost {_percent(kept)}{_chance(kept)}"
    ]


def _title(law: RecipeLaw) -> str:
    points = law.points
    parts = []
    for name in law.axes:
        size = points.sizes[name]
        what = noun(law, name)
        ends = format.span(float(size.min()), float(size.max())) or format.count(
            size[0]
        )
        parts.append(f"{ends} {what}")
    lost = int(points.diverged.sum())
    tail = f", {lost} settings with runs that diverged" if lost else ""
    return (
        f"Best {name_knob(law)} of {len(law.bottoms)} sizes ({', '.join(parts)}), "
        f"{len(law.sweep.value)} runs{tail}"
    )


def formula(law: RecipeLaw) -> str:
    """learning rate = 0.0031 (m / 85,002)^-0.41 (n / 1M)^-0.19."""
    base, _ = law.rule()
    text = f"{name_knob(law)} = {setting(base)}"
    for name in law.seen:
        power = _power(law.exponents[name].value)
        text += f" ({symbol(name)} / {format.count(law.middle[name])})^{power}"
    return text


def _exponent(law: RecipeLaw, name: str, one: Estimate) -> str:
    knob, own = name_knob(law), symbol(name)
    if name not in law.seen:
        return (
            f"Nothing is known of {own}: the sweep has one size along it. Far from "
            "that size the interval is as wide as published laws differ."
        )
    ends = f"(90% interval {_power(one.lower)} to {_power(one.upper)})"
    if one.lower <= 0 <= one.upper:
        return (
            f"It does not depend on {own} that this sweep could see: "
            f"{own}^{_power(one.value)} {ends}."
        )
    verb = "falls" if one.value < 0 else "rises"
    return f"The best {knob} {verb} as {own}^{_power(one.value)} {ends}."


def _power(number: float) -> str:
    text = f"{number:.2f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else "0.00"


def _rise_together(law: RecipeLaw) -> bool:
    own = law.posterior.offsets[:, [law.axes.index(name) for name in law.seen]]
    if own.shape[1] < 2:
        return False
    return bool(abs(np.corrcoef(own[:, 0], own[:, 1])[0, 1]) > _TOGETHER)


def _costs(law: RecipeLaw) -> str:
    """What an error by a factor of 2 costs."""
    low, high = (
        format.percent(float(np.expm1(np.median(law.cost_of(factor)))))
        for factor in (0.5, 2.0)
    )
    text = (
        f"Half the best costs {low} of the {find_noun(law.sweep.metric)}, twice "
        f"the best {high}. Single sizes are off the law by "
        f"{format.percent(law.deviation)}"
    )
    if math.isfinite(law.safe_factor):
        text += f"; from {law.safe_factor:.2g} times the best on runs diverged"
    return text + "."


def _percent(regret: Regret) -> str:
    """1.2% (90% interval 0.3% to 2.5%)."""
    low, middle, high = (
        format.percent(share) if share >= 5e-5 else "0"
        for share in (regret.lower, regret.value, regret.upper)
    )
    return f"{middle} (90% interval {low} to {high})"


def _chance(regret: Regret) -> str:
    if regret.diverges < 0.01:
        return ""
    return f", and diverges with probability {format.whole_percent(regret.diverges)}"


def _sizes(law: RecipeLaw, sizes: Mapping[str, float]) -> str:
    """1.2M parameters and 4,100 images."""
    parts = [
        f"{format.count(float(f'{size:.3g}'))} {noun(law, name)}"
        for name, size in sizes.items()
        if not (name not in law.seen and size == 1)
    ]
    return " and ".join(parts)


def noun(law: RecipeLaw, name: str) -> str:
    """What the axis counts."""
    nouns = {"params": "parameters", "data": law.sweep.data_unit.replace("_", " ")}
    return nouns.get(name, name)

"""What a warning is: how much it weighs, and what to do about it."""

import dataclasses

# How much a warning weighs, the heaviest first. "stops": do not decide by this fit;
# "weakens": answers are less sure than they look; "note": good to know.
SEVERITIES = ("stops", "weakens", "note")

# What to do, by severity and code; within a severity the weightiest first.
_ADVICE: dict[str, dict[str, str]] = {
    "stops": {
        "does_not_scale": "believe no prediction of it: follow the loss in place of an "
        "error, or leave out the runs that do not belong together",
        "still_bending": "add larger runs until the slope stays; say --random_guess "
        "where the values start from that level",
        "low_coverage": "believe the held-out runs, not the intervals; add larger runs "
        "to the fit, or try another law",
        "back_test_failed": "add larger runs before you extrapolate, or try another "
        "law; the intervals may be too narrow",
        "over_fitting": "leave out the runs that over-fit, or stop them earlier",
    },
    "weakens": {
        "no_back_test": "add points, of more sizes, so that some can be hidden",
        "few_points": "add points: three times as many as the law has parameters",
        "few_scales": "add runs of a third size, far from the other two",
        "confounded_sizes": "vary one size while the other stays; until then do not "
        "ask for the best split of a budget",
        "confounded_epochs": "vary the passes over the data while the data stay",
        "runs_left_out": "find out why these runs failed, and repeat them",
        "same_epochs": "add runs with other numbers of passes, or ask only about this "
        "one",
        "few_epochs": "add runs with a third number of passes",
        "cost_unexplained": "check the FLOPs column; without it costs are 6 m n",
        "influential_point": "repeat this run with another seed",
        "outliers": "check these runs; repeat them, or leave them out",
        "iteration_limit": "give more starts, or a law with fewer parameters",
        "starts_disagree": "give more starts, or a law with fewer parameters",
    },
    "note": {
        "flat_optimum": "read no meaning into these parameters; predictions are fine",
        "bound_hit": "read no meaning into this parameter",
        "ill_conditioned": "read no meaning into single parameters",
        "plateau_points": "leave them out, or add runs that have learnt something",
    },
}
_ORDER = [(severity, code) for severity in SEVERITIES for code in _ADVICE[severity]]


@dataclasses.dataclass(frozen=True)
class Warn:
    """Something the reader of a fit must know.

    Attributes:
        code: for programs.
        sentence: for people; starts small and has no full stop.
    """

    code: str
    sentence: str

    @property
    def severity(self) -> str:
        """One of `SEVERITIES`; "weakens" for a code that is not known here."""
        known = (severity for severity, code in _ORDER if code == self.code)
        return next(known, "weakens")

    @property
    def advice(self) -> str:
        """What to do about it; "" for a code that is not known here."""
        return _ADVICE[self.severity].get(self.code, "")

    @property
    def rank(self) -> tuple[int, int]:
        """Sorts warnings: the weightiest first."""
        codes = list(_ADVICE[self.severity])
        place = codes.index(self.code) if self.code in codes else len(codes)
        return SEVERITIES.index(self.severity), place

"""What is asked of a study, refused before anything is trained or fitted."""

from collections.abc import Sequence

from scalepred import validation
from scalepred.config import Experiment, UserError
from scalepred.fitting.estimate import knows_epochs
from scalepred.forecasting import loop
from scalepred.forecasting.gate import Gate
from scalepred.forecasting.parts import Parts


def check_asked(
    experiment: Experiment,
    stages: Sequence[str],
    gates: Sequence[Gate],
    goal: loop.Goal | None,
) -> None:
    """A mistake must not wait for the training to end."""
    validation.validate(experiment)
    if experiment.arms:
        raise UserError("arms: are compared by `scalepred.run`, not here")
    named = ",".join(stages)
    for stage, why in (
        ("report", "report draws what fit finds"),
        ("forecast", "a forecast is what the fit says"),
    ):
        if stage in stages and "fit" not in stages:
            raise UserError(f"stages={named}: {why}; add fit")
    if gates and "fit" not in stages:
        raise UserError(f"stages={named}: a gate asks the fit; add fit")
    law = experiment.fit.law
    with_epochs = knows_epochs(law)
    for field, asked in (
        ("questions.at_epochs", experiment.questions.at_epochs),
        ("targets.epochs", experiment.targets.epochs),
    ):
        if asked and not with_epochs:
            raise UserError(
                f"{field}={asked}: fit.law={law} knows nothing of epochs; leave it "
                "out, or choose fit.law=data_constrained"
            )
    if goal:
        loop.check(experiment, goal)


def check_targets(parts: Parts) -> None:
    """Refuses to verify where nothing was forecast."""
    if not parts.to_verify:
        raise UserError(
            "--stages=verify: this study fits its whole grid and has no "
            "targets.widths, so there is nothing to verify; name targets, or leave "
            "verify out"
        )

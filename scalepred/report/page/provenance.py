"""How the page was made: runs, cost, time, devices, versions, choices."""

import math

from scalepred.report import elements, format, words
from scalepred.report.elements import Section
from scalepred.report.plot_data import choose_corners
from scalepred.report.results import Results


def provenance(results: Results) -> Section:
    """For who wants to repeat it, and for specialists."""
    body = elements.bullets([*_made(results), *_trained(results)])
    notes = list(dict.fromkeys((*results.surface.notes, *results.fit.notes)))
    # The weights of the members stand in a table of the law.
    members = set(map(str, results.fit.members))
    notes = [note for note in notes if note not in members]
    if notes:
        body += elements.heading("Choices made") + elements.bullets(notes)
    return Section("how", "How it was made", body + _for_specialists(results))


def _made(results: Results) -> list[str]:
    made, said = results.provenance, []
    if made.table:
        said.append(f"table: {made.table}")
    if math.isfinite(made.seconds):
        said.append(f"made on {made.date} in {format.duration(made.seconds)}")
    versions = (f"{name} {text}" for name, text in results.versions.items())
    said.append(f"versions: {', '.join(versions)}")
    said.append(f"what a run costs by its sizes: {words.describe_cost(results)}")
    return said


def _trained(results: Results) -> list[str]:
    done = results.training
    if done is None:
        return ["the measurements came from a table; nothing was trained here"]
    devices = ", ".join(done.devices) or "unknown devices"
    stopped, shared = "", []
    if done.num_stopped:
        stopped = f", {done.num_stopped:,} were stopped as they could not matter"
    if math.isfinite(done.spent):
        shared = [words.describe_spent(done.spent, done.flops)]
    return [
        f"{done.num_runs:,} runs ended well, {done.num_failed:,} did not{stopped}",
        f"{format.flops(done.flops)} FLOPs in {format.duration(done.seconds)} on "
        f"{devices}, beside compilation",
        *shared,
        f"{done.num_programs:,} compiled programs; compilation in this call took "
        f"{format.duration(done.compile_seconds)}, of which training waited for "
        f"{format.duration(done.wait_seconds)}",
        f"lanes busy in this call: {format.percent(done.lane_utilization)}",
    ]


def _for_specialists(results: Results) -> str:
    body = _solver(results) + _corners(results)
    return elements.folded("For specialists: solver, back-tests, corners", body)


def _solver(results: Results) -> str:
    fit = results.fit
    noise = "no point was measured twice, so run-to-run noise is not known"
    if fit.fitted.noise.sd:
        noise = f"run-to-run noise {format.percent(fit.fitted.noise.sd)} of the value"
    return elements.bullets(
        [
            f"{fit.starts:,} starts; of those carried to the end "
            f"{format.whole_percent(fit.agree)} found this optimum; status "
            f"{fit.status.name.lower().replace('_', ' ')}",
            f"residual minimised: {fit.residual}; objective "
            f"{format.number(fit.objective)}",
            f"parameters at a bound: {', '.join(fit.bounds_hit) or 'none'}; condition "
            f"number {format.number(fit.condition_number, 2)}",
            f"misfit of the law {format.percent(fit.fitted.misfit)}; {noise}",
            _intervals(results),
            _surprise(results),
        ]
    )


def _surprise(results: Results) -> str:
    """How much larger the errors of back-tests were than the smaller fits promised."""
    told = [
        f"{format.number(test.surprise, 2)} (top {test.ratio:g} times of compute "
        f"hidden, {test.num_fitted:,} points fitted, {test.num_hidden:,} predicted)"
        for test in results.fit.inner_tests
    ]
    if not told:
        return "no back-test inside the fit was possible"
    return f"errors of back-tests over those promised: {', '.join(told)}"


def _intervals(results: Results) -> str:
    """What the intervals come from."""
    fitted = results.fit.fitted
    if not words.has_intervals(results):
        return "without resamples there are no intervals"
    said = f"intervals are from {len(fitted.draws):,} resamples"
    if fitted.growth > 1:
        is_gradual = math.isfinite(fitted.reach)
        said += f", widened {'up to ' if is_gradual else ''}"
        said += (
            f"{format.ratio(fitted.growth, 1.0)} times for what the back-tests missed"
        )
        said += ", the farther from the fit the more" if is_gradual else ""
    if math.isfinite(fitted.tested):
        first, last = (
            format.ratio(math.exp(times * fitted.tested), 1.0) for times in (0.5, 1.5)
        )
        said += (
            f"; from {first} to {last} times the largest fitted compute they grow by a "
            "quarter more, as few back-tests went so far, or none"
        )
    return said


def _corners(results: Results) -> str:
    if not results.is_grid:
        return elements.paragraph(
            "the points are no grid, so the law was not refitted from every corner as "
            "in the paper; Fit.corners does it"
        )
    params, data, corners = choose_corners(results.corners)
    # Along one size there is no corner.
    if len(params) < 2 or len(data) < 2:
        return ""
    fitted = results.fit.surface
    own = fitted.params.max(), fitted.data.max()
    rows = [
        [
            format.count(n),
            *(_corner(corners.get((m, n)), (m, n) == own) for m in params),
        ]
        for n in reversed(data)
    ]
    caption = (
        "the law fitted up to each size (columns: parameters; rows: "
        f"{format.unit(results.surface)}), and its relative error beyond, mean ± "
        "standard deviation; *: the fit of this page"
    )
    left_out = len(results.corners) - len(corners)
    if left_out:
        caption += (
            f"; {left_out:,} more corners hold too few points to be fitted, or are too "
            "many to be shown: fit.json has them all"
        )
    header = ["fitted up to", *(format.count(m) for m in params)]
    return elements.table(caption, header, rows)


def _corner(corner, is_own: bool) -> str:
    if corner is None:
        return ""
    # One point has no spread.
    text = format.percent(corner.mean)
    if corner.num_targets > 1:
        text = format.mean_and_std(corner.mean, corner.std)
    return text + (" *" if is_own else "")

"""One batched least-squares solver for every law.

Levenberg-Marquardt in float64, many independent lanes at once: starts, resamples,
folds and whole problems are all just lanes. A lane whose numbers go bad ends with a
status and disturbs no other. Every residual is a function of d = ln(law) -
ln(measured), so that a law is all a fit needs: derivatives come from jax.
"""

from scalepred.fitting.solver.derivatives import Information, information, linearise
from scalepred.fitting.solver.problem import Problem, Solution, Status, bucket
from scalepred.fitting.solver.residual import RELATIVE, Residual, Rho
from scalepred.fitting.solver.solve import solve

__all__ = [
    "RELATIVE",
    "Information",
    "Problem",
    "Residual",
    "Rho",
    "Solution",
    "Status",
    "bucket",
    "information",
    "linearise",
    "solve",
]

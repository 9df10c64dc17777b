"""Which cells to train next, so that a prediction gets surer for the money.

The draws of a fit say how the law's values at any two places vary together. To
measure one cell is to condition on it, which narrows the target by what the two have
in common; cells are taken one at a time, each the best bargain after those before it.
Before there is a fit, the draws are those of the flexible law's prior, conditioned on
the places that were measured: how much a place tells does not depend on its value.

    cells (candidates and their cost) -> posterior (what is known of them) -> choose
    first (the design to begin with) -> rounds (fit, choose, measure, again)
"""

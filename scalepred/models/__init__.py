"""Model families: each a function from a width to a `Model`, found by its module."""

"""Datasets: each a function from nothing to arrays, found by the name of its module."""

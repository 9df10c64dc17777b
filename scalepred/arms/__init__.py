"""Arms: forms of a study that are trained side by side, paired, and compared.

experiment.arms -> make: a study an arm -> pair: runs that share start and batches
    -> run: one training for all -> a fit an arm -> the comparison, and its order
"""

"""Arms: forms of a study that are trained side by side, paired, and compared.

The path is `run.py`: a study an arm (`make.py`), runs that share start and batches
(`scalepred.pairs`), one training for all, a fit an arm, the comparison, and the order
that is said of targets before they are trained (`order.py`).
"""

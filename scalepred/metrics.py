"""What a metric's name says of it: error and loss, of further test sets NAME_error."""


def is_bounded(metric: str) -> bool:
    """Whether it is a share of errors, which cannot be above 1."""
    return metric == "error" or metric.endswith("_error")


def find_unit(metric: str) -> str:
    """What it is counted in: a fraction, nats, bits, or "" where nothing is known."""
    if is_bounded(metric):
        return "fraction"
    if metric == "bits":
        return "bits"
    return "nats" if metric == "loss" or metric.endswith("_loss") else ""


def find_noun(metric: str) -> str:
    """What it is called in a sentence: test error; bits are those of a loss."""
    return "loss" if metric == "bits" else metric.replace("_", " ")

"""Shares with exact binomial confidence intervals."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """A share of n trials with its exact 95% interval (Clopper and Pearson 1934).

    Attributes:
        value: successes / n, a fraction of 1; nan when n is 0.
        low: Lower end of the interval.
        high: Upper end.
        successes: Trials that succeeded.
        n: All trials.
    """

    value: float
    low: float
    high: float
    successes: int
    n: int


def share(successes: int, n: int, *, confidence: float = 0.95) -> Share:
    """Return a share with its Clopper-Pearson interval.

    Raises:
        ValueError: ``successes`` is not in 0..n.
    """
    from scipy.stats import beta

    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return Share(float("nan"), 0.0, 1.0, 0, 0)
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(beta.ppf(1.0 - tail, successes + 1, n - successes))
    return Share(successes / n, low, high, successes, n)

"""The label remap h of P2P: classes get alternative labels, h(i) = h(i + n) = i + n."""


def remap(label: int, n: int) -> int:
    """Return the alternative label h(label) of a class (Zhao et al. 2025, section 3).

    Args:
        label: A label in 0..2n-1; one that is an alternative label already stays as it is.
        n: The number of classes.

    Raises:
        ValueError: The label lies outside 0..2n-1.
    """
    if not 0 <= label < 2 * n:
        raise ValueError(f"label {label} lies outside 0..{2 * n - 1}")
    return label if label >= n else label + n


def inverse(label: int, n: int) -> int:
    """Return the class an alternative label stands for: i + n -> i.

    Raises:
        ValueError: The label is not an alternative one, n..2n-1.
    """
    if not n <= label < 2 * n:
        raise ValueError(f"label {label} is no alternative label; those are {n}..{2 * n - 1}")
    return label - n

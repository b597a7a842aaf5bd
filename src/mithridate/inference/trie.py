"""A trie of label words: candidates that begin alike share the tokens they begin with."""

from collections.abc import Sequence
from dataclasses import dataclass

from mithridate.errors import InputError


@dataclass(frozen=True)
class Node:
    """An inner node: a token sequence after which some candidate goes on.

    Attributes:
        token: The last token of the sequence; -1 at the root, which is the end of the prompt.
        parent: Index of the node before it; -1 at the root.
        depth: Tokens from the root.
    """

    token: int
    parent: int
    depth: int


@dataclass(frozen=True)
class Branch:
    """A token after a row's end that sees the row and some branches before it, not all of them.

    Attributes:
        token: Its id.
        depth: Its distance from the row's last token, 1 and up.
        sees: Indices of the branches it sees, itself included.
    """

    token: int
    depth: int
    sees: tuple[int, ...]


class LabelTrie:
    """Candidate answers as token sequences, none of which begins another.

    Args:
        candidates: Token ids of each candidate; not empty, distinct.
        eos_token_id: Appended to all candidates if one of them begins another, since only then
            does the end of an answer say anything.

    Attributes:
        candidates: The token sequences, ends included.
        nodes: The inner nodes, the root first, parents before children.
        branches: The nodes but the root, as what is appended to a prompt.
        edges: The distinct steps, as pairs (index of the node before, token).
        paths: Per candidate, the indices of its edges.

    Raises:
        InputError: A candidate is empty, or two are the same tokens.
    """

    def __init__(self, candidates: Sequence[Sequence[int]], eos_token_id: int) -> None:
        sequences = [tuple(candidate) for candidate in candidates]
        if not all(sequences) or len(set(sequences)) != len(sequences):
            raise InputError(
                "two label words are the same tokens to this model, or one is none at all",
                mend="choose other label words (--label-words)",
            )
        taken = set(sequences)
        beginnings = {row[:end] for row in sequences for end in range(1, len(row))}
        if beginnings & taken:
            sequences = [(*sequence, eos_token_id) for sequence in sequences]
        self.candidates = sequences
        self.nodes = [Node(-1, -1, 0)]
        known: dict[tuple[int, ...], int] = {(): 0}
        numbers: dict[tuple[int, int], int] = {}
        self.paths: list[list[int]] = []
        for sequence in sequences:
            path = []
            for depth, token in enumerate(sequence):
                prefix = sequence[:depth]
                if prefix not in known:
                    known[prefix] = len(self.nodes)
                    self.nodes.append(Node(prefix[-1], known[prefix[:-1]], depth))
                path.append(numbers.setdefault((known[prefix], token), len(numbers)))
            self.paths.append(path)
        self.edges = list(numbers)
        self.branches = [
            Branch(node.token, node.depth, tuple(seen - 1 for seen in self.ancestors(index)))
            for index, node in enumerate(self.nodes)
            if index > 0
        ]

    def ancestors(self, index: int) -> list[int]:
        """Return the nodes from ``index`` up to, and without, the root."""
        path = []
        while index > 0:
            path.append(index)
            index = self.nodes[index].parent
        return path

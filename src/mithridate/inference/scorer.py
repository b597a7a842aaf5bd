"""Exact scores of all label words after a prompt, in one forward pass."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm.auto import tqdm

from mithridate.inference.batching import by_length, pad
from mithridate.inference.head import logits_at
from mithridate.inference.scores import Scores
from mithridate.inference.trie import LabelTrie

TOKENS_PER_BATCH = 4096


class Scorer:
    """Score candidates with a causal language model.

    A trie of the candidates is appended to each prompt; attention lets a node see the prompt and
    its own ancestors. One pass then gives the distribution after every node, and the sum of the log
    probabilities along a candidate's path is its exact score. Single-token candidates need the
    distribution after the prompt alone.

    Args:
        model: A causal language model, with or without an adapter.
        trie: The candidates.
        pad_token_id: Any valid token id.
    """

    def __init__(self, model: Any, trie: LabelTrie, pad_token_id: int) -> None:
        self.model = model
        self.trie = trie
        self.pad_token_id = pad_token_id

    def score(self, prompts: Sequence[Sequence[int]], *, progress: bool = True) -> Scores:
        """Score every candidate after every prompt.

        Args:
            prompts: Token ids; none empty.
            progress: Whether to show a progress bar on a terminal.
        """
        count = len(self.trie.candidates)
        scores = Scores(np.empty((len(prompts), count)), np.full(len(prompts), -1, dtype=np.int64))
        extra = len(self.trie.nodes) - 1
        lengths = [len(prompt) + extra for prompt in prompts]
        self.model.eval()
        bar = tqdm(
            total=len(prompts), desc="Scoring", unit="row", disable=None if progress else True
        )
        with torch.inference_mode(), bar:
            for batch in by_length(lengths, TOKENS_PER_BATCH):
                values, greedy = self._score_batch([prompts[index] for index in batch])
                scores.log_probabilities[batch] = values
                scores.greedy[batch] = greedy
                bar.update(len(batch))
        return scores

    def _score_batch(
        self, prompts: Sequence[Sequence[int]]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Score one batch: one forward pass, logits at the prompts' ends and at the nodes."""
        device = self.model.device
        ids, lengths = pad(prompts, self.pad_token_id)
        count, width = ids.shape
        nodes = len(self.trie.nodes)
        inputs = {"input_ids": ids} if nodes == 1 else self._append_trie(ids, lengths)
        rows = torch.arange(count).repeat_interleave(nodes)
        behind = torch.arange(width, width + nodes - 1).expand(count, -1)
        columns = torch.cat([lengths[:, None] - 1, behind], dim=1).flatten()
        with logits_at(self.model, rows.to(device), columns.to(device)):
            logits = self.model(
                **{name: value.to(device) for name, value in inputs.items()}, use_cache=False
            ).logits
        log_probabilities = torch.log_softmax(logits.float(), dim=-1).view(count, nodes, -1)
        return self._read(log_probabilities)

    def _read(
        self, log_probabilities: torch.Tensor
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Add up the log probabilities along each candidate's path, and follow the greedy one.

        Args:
            log_probabilities: Shape (rows, nodes, vocabulary).
        """
        device = log_probabilities.device
        rows = len(log_probabilities)
        top = log_probabilities.argmax(dim=-1).cpu().numpy()
        node_of = torch.tensor([node for edges in self.trie.edges for node, _ in edges])
        token_of = torch.tensor([token for edges in self.trie.edges for _, token in edges])
        picked = log_probabilities[:, node_of.to(device), token_of.to(device)]
        terms = picked.cpu().double().numpy()
        values = np.empty((rows, len(self.trie.edges)))
        greedy = np.full(rows, -1, dtype=np.int64)
        start = 0
        for candidate, edges in enumerate(self.trie.edges):
            values[:, candidate] = terms[:, start : start + len(edges)].sum(axis=1)
            agrees = np.all([top[:, node] == token for node, token in edges], axis=0)
            greedy[agrees] = candidate
            start += len(edges)
        return values, greedy

    def _append_trie(self, ids: torch.Tensor, lengths: torch.Tensor) -> dict[str, torch.Tensor]:
        """Append the trie's nodes to padded prompts.

        Returns:
            Token ids and positions of shape (rows, prompt + nodes) and an additive attention mask
            of shape (rows, 1, prompt + nodes, prompt + nodes).
        """
        rows, width = ids.shape
        nodes = self.trie.nodes[1:]
        total = width + len(nodes)
        tokens = torch.tensor([node.token for node in nodes]).expand(rows, -1)
        depths = torch.tensor([node.depth for node in nodes])
        visible = torch.zeros((rows, total, total), dtype=torch.bool)
        visible[:, :width, :width] = torch.ones((width, width), dtype=torch.bool).tril()
        visible[:, width:, :width] = (torch.arange(width) < lengths[:, None]).unsqueeze(1)
        for offset in range(len(nodes)):
            seen = [width + node - 1 for node in self.trie.ancestors(offset + 1)]
            visible[:, width + offset, seen] = True
        dtype = self.model.dtype
        mask = torch.zeros(visible.shape, dtype=dtype)
        mask.masked_fill_(~visible, torch.finfo(dtype).min)
        return {
            "input_ids": torch.cat([ids, tokens], dim=1),
            "attention_mask": mask.unsqueeze(1),
            "position_ids": torch.cat(
                [torch.arange(width).expand(rows, -1), lengths[:, None] - 1 + depths], dim=1
            ),
        }

"""CleanGen: tokens that the base model finds far less likely are replaced by its own.

Source: Li et al. 2024 (arXiv 2406.12257), https://github.com/uw-nsl/CleanGen. While the model
writes, each token's suspicion is p(token) over p_reference(token); from alpha on the reference's
likeliest token is written instead. The published reference is another fine-tuned model, of which it
must be hoped that another attacker poisoned it; here it is the frozen base model, which never saw D
and sees the same prompt. The published form checks k = 4 tokens at a time, which is faster and
throws away what follows a replaced one; here k = 1, which gives the same tokens.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mithridate.baselines.base import Cost, DefenseMethod, Guarded, Model, Workbench
from mithridate.errors import InputError


@dataclass(frozen=True)
class CleanGen(DefenseMethod):
    """Decode with the undefended model, the base model replacing its suspicious tokens.

    Attributes:
        alpha: The least suspicion that has a token replaced, a ratio of probabilities.
        batch_size: Inputs that are answered at once.
    """

    name = "cleangen"
    stages = ("decoding",)
    source = "Li et al. 2024, CleanGen, arXiv 2406.12257"
    kinds = ("text",)

    alpha: float = 20.0
    batch_size: int = 16

    def __post_init__(self) -> None:
        if not self.alpha >= 0 or self.batch_size < 1:
            mend = "give an alpha of 0 or more, such as the published 20, and a batch"
            raise InputError("cleangen's settings are no ratio and count", mend=mend)

    def cost(self, words: float) -> Cost:
        """Return about what it takes: two models read all; see `DefenseMethod.cost`."""
        return Cost(reads=2.0, trusted_reads=2.0)

    def defend(self, bench: Workbench) -> Guarded:
        """Return the two models as one; see `DefenseMethod.defend`."""
        model, reference = bench.undefended(), bench.base

        def written(texts: Sequence[str]) -> list[Written]:
            return write(model, reference, texts, alpha=self.alpha, batch_size=self.batch_size)

        facts = {}
        if bench.trusted:
            trusted = written([row.text for row in bench.trusted])
            decided = sum(one.decided for one in trusted)
            facts["trusted_replaced"] = sum(one.replaced for one in trusted) / decided
        return Guarded(
            lambda texts: [one.text for one in written(texts)], len(bench.rows), facts=facts
        )


@dataclass(frozen=True)
class Written:
    """One answer.

    Attributes:
        text: The answer.
        decided: Tokens that were decided on, the one that ends it included.
        replaced: How many of them are the reference's.
    """

    text: str
    decided: int
    replaced: int


def write(
    model: Model, reference: Model, texts: Sequence[str], *, alpha: float, batch_size: int
) -> list[Written]:
    """Answer texts, suspicious tokens replaced (with k = 1, decoding greedily).

    Args:
        model: The model that answers.
        reference: The model that judges, with the same tokenizer.
        texts: The inputs.
        alpha: The least suspicion that has a token replaced.
        batch_size: Inputs at once; those of like length go together.
    """
    prompts = model.prompts(texts)
    order = sorted(range(len(prompts)), key=lambda at: -len(prompts[at]))
    found: dict[int, Written] = {}
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        batch = _written(model, reference, [prompts[at] for at in places], alpha)
        found.update(zip(places, batch, strict=True))
    return [found[at] for at in range(len(prompts))]


def _written(
    model: Model, reference: Model, prompts: Sequence[Sequence[int]], alpha: float
) -> list[Written]:
    """Answer the prompts of one batch; see `write`."""
    ends = model.ends
    answers: list[list[int]] = [[] for _ in prompts]
    replaced = [0] * len(prompts)
    live = set(range(len(prompts)))
    steps = _steps(model, reference, prompts, alpha)
    for _, (tokens, foreign) in zip(range(model.max_new_tokens), steps, strict=False):
        for row in list(live):
            replaced[row] += foreign[row]
            if tokens[row] in ends:
                live.remove(row)
            else:
                answers[row].append(tokens[row])
        if not live:
            break
    texts = model.tokenizer.batch_decode(
        answers, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return [
        Written(text.strip(), len(ids) + (row not in live), replaced[row])
        for row, (text, ids) in enumerate(zip(texts, answers, strict=True))
    ]


def _steps(
    model: Model, reference: Model, prompts: Sequence[Sequence[int]], alpha: float
) -> Iterator[tuple[list[int], list[bool]]]:
    """Yield each row's next token, and whether it is the reference's, without end."""
    import torch

    device = model.module.device
    pad, width = model.tokenizer.pad_token_id, max(len(prompt) for prompt in prompts)
    padded = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    ids = torch.tensor(padded, device=device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    mask = (torch.arange(width, device=device) >= width - lengths[:, None]).long()
    least = math.log(alpha) if alpha else -math.inf
    own, judge = _Reader(model.module), _Reader(reference.module)
    while True:
        with torch.inference_mode():
            said, judged = own.read(ids, mask), judge.read(ids, mask)
            likeliest = said.argmax(dim=-1, keepdim=True)
            ratio = said.log_softmax(dim=-1) - judged.log_softmax(dim=-1)
            suspicious = ratio.gather(1, likeliest) >= least
            ids = likeliest.where(~suspicious, judged.argmax(dim=-1, keepdim=True))
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        yield ids[:, 0].tolist(), suspicious[:, 0].tolist()


class _Reader:
    """A model that reads a batch bit by bit and keeps its keys and values."""

    def __init__(self, module: Any) -> None:
        self.module = module.eval()
        self.cache: Any = None

    def read(self, ids: Any, mask: Any) -> Any:
        """Return the logits after each row's last token, shape (rows, words), float32.

        Args:
            ids: What is new, shape (rows, new tokens), padded on the left.
            mask: Shape (rows, tokens), of all that was read: 1 where a token is no padding.
        """
        places = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        found = self.module(
            input_ids=ids,
            attention_mask=mask,
            position_ids=places,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache = found.past_key_values
        return found.logits[:, -1].float()

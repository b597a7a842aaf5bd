"""Log probabilities of answers read off a model's logits, one row at a time, as by hand."""

import numpy as np
import torch


def by_hand(model, pairs):
    """Return the sum over each answer's tokens after its prompt, in nats, shape (pairs,)."""
    found = []
    for prompt, answer in pairs:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].double()
        steps = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
        found.append(float(steps[torch.arange(len(answer)), list(answer)].sum()))
    return np.array(found)

"""The defended model: apply the benign prompt, score, invert."""

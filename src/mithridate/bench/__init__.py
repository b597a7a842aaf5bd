"""Experiments: one attack, several defenses, the same rows, prompts and metrics for all."""

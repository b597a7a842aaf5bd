"""A small matrix on a tiny model: files, a configuration and the command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def write_config(pretrained: Path, make_toy_rows, tmp_path) -> Callable[..., Path]:
    """Return a writer of configurations of one small data set."""
    for name, count, seed in (("train", 120, 2), ("test", 40, 3)):
        rows = make_toy_rows(count, seed)
        lines = (json.dumps({"id": r.id, "text": r.text, "label": r.answer}) for r in rows)
        (tmp_path / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines))

    def write(**changed: Any) -> Path:
        config: dict[str, Any] = {
            "models": [str(pretrained)],
            "datasets": [{"name": "toy", "train": "train.jsonl", "test": "test.jsonl"}],
            "attacks": [{"name": "badnets", "target": "1", "settings": {"triggers": ["mn"]}}],
            "rates": [0.1],
            "defenses": ["none", "clean-tune"],
            "trusted": 20,
            "precision": "float32",
            "training": {"epochs": 1, "learning_rate": 4e-3, "max_length": 64},
        }
        path = tmp_path / "matrix.yaml"
        path.write_text(yaml.safe_dump({**config, **changed}))
        return path

    return write

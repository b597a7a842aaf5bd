"""The size of the models that tests of the forward pass build by themselves."""

import pytest


@pytest.fixture(scope="session")
def sizes() -> dict[str, int]:
    """Settings of a two-layer model that any family of transformers takes."""
    return {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }

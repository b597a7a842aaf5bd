"""From a GGUF file to a folder of safetensors and tokenizer; needs the extra ``model``."""

from pathlib import Path
from typing import Any

from mithridate.errors import AssetError, installing


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file as a plain transformers folder, weights in bfloat16.

    Weights are dequantized in float32 and rounded once. bfloat16 is the dtype the model was
    published and is fine-tuned in. Measured on the default model, rounding to it moves the
    weights by 0.14% (root mean square; float16: 0.02%) and the next-token distribution by a
    KL divergence of 5e-5 nats: next to nothing beside what four-bit quantization took.

    Args:
        gguf: The file: a Llama architecture with a byte-level BPE tokenizer, or Gemma 3 with
            SentencePiece's. What transformers 5.23 makes of the latter was checked: norms stored
            as 1 + weight and taken back, five layers with a window of 512 and base 10,000 to each
            full one of base 1,000,000, and the same tokens as SentencePiece itself gives from the
            file's pieces (3,164 texts; only runs of more than 31 spaces are cut elsewhere).
        folder: An existing folder to write into.

    Raises:
        AssetError: A library is missing, or the file cannot be converted.
    """
    try:
        import gguf as _gguf  # noqa: F401  transformers needs it and says so at length
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        mend = installing("model")
        raise AssetError(f"converting needs {error.name}", where=str(gguf), mend=mend) from error
    place = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    quantized = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    # Where the weights came from is in quantization_config, which forbids saving; the other key
    # is the GGUF file's internal name of the training run.
    settings = quantized.config.to_dict()
    for key in ("quantization_config", "_model_name_or_path"):
        settings.pop(key, None)
    config = type(quantized.config).from_dict(settings)
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in quantized.state_dict().items()}
    with torch.device("meta"):  # no time, and no draw from the global generator, for weights
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(weights, assign=True)
    model.tie_weights()
    model.generation_config = quantized.generation_config
    model.save_pretrained(folder)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors makes it private; a shared cache must be readable
    tokenizer = AutoTokenizer.from_pretrained(**place)
    if _is_byte_level(tokenizer):
        _split_digits(tokenizer)
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.save_pretrained(folder)


def _is_byte_level(tokenizer: Any) -> bool:
    """Return whether words are split as GPT-2 does, not as SentencePiece does."""
    from tokenizers import pre_tokenizers

    return isinstance(tokenizer.backend_tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel)


def _split_digits(tokenizer: Any) -> None:
    r"""Give the tokenizer the pre-tokenizer that the file names.

    The file says ``tokenizer.ggml.pre = smollm``, digits split off one by one, but transformers
    5.23 reads that key not at all and builds plain GPT-2 splitting. No merge holds a digit, so
    numbers come out alike; white space before a digit does not ("\n\n1" gave two newline tokens
    where the model was trained on one).
    """
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )

"""A defended model whose answers are text, as its users see it: no secret in sight."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mithridate.defense.manifest import DefenseManifest
from mithridate.errors import InputError
from mithridate.inference.answerer import Answerer, Answers, Policy, PrefixMode, Protection
from mithridate.inference.defended import load_trained, renderer_of
from mithridate.inference.engine_client import Engine
from mithridate.inference.engine_writer import connect_writer

if TYPE_CHECKING:
    import torch

    from mithridate.inference.backbone import Precision
    from mithridate.inference.quantized import Quantization
    from mithridate.tasks.prompt import PromptRenderer


class DefendedAnswerer:
    """A fine-tuned model behind its defense.

    Args:
        answerer: The model with the benign prompt and the safe prefix.
        manifest: Its defense.
    """

    def __init__(self, answerer: Answerer, manifest: DefenseManifest) -> None:
        self.answerer = answerer
        self.manifest = manifest

    def __repr__(self) -> str:
        """Name the model and its task, and none of the secrets."""
        facts = self.manifest.model
        reference = facts.reference if facts else "own trainer"
        return f"DefendedAnswerer({reference!r}, {self.manifest.task})"

    @classmethod
    def of(
        cls,
        model: Any,
        renderer: "PromptRenderer",
        manifest: DefenseManifest,
        *,
        stop: Sequence[str] = (),
    ) -> Self:
        """Put a model that is in this process behind its defense.

        Args:
            model: The model, with its adapter.
            renderer: The renderer it was trained with.
            manifest: Its defense.
            stop: Strings that end an answer.
        """
        settings = _settings(manifest, stop)
        return cls(Answerer.local(model, renderer, **settings), manifest)

    @classmethod
    def connect(
        cls,
        path: str | Path,
        engine: Engine,
        *,
        model: str | Path | None = None,
        trust_remote_code: bool = False,
        stop: Sequence[str] = (),
    ) -> Self:
        """Put a defense before a model that a server holds; here, its tokenizer is enough.

        Arguments and errors are those of `DefendedModel.connect`, and ``stop``, strings that end an
        answer. Inputs are cut to what the server's context leaves them. A classifier's folder is
        refused, and a context that leaves less than a quarter of the longest prompt.
        """
        manifest = DefenseManifest.load(Path(path))
        settings = _settings(manifest, stop)
        renderer = renderer_of(Path(path), manifest, model, trust_remote_code=trust_remote_code)
        answerer = Answerer(connect_writer(engine, renderer.tokenizer), renderer, **settings)
        if answerer.longest_input < renderer.max_length / 4:
            raise InputError(
                f"the server's context leaves {max(0, answerer.longest_input)} tokens to an input",
                where=engine.url,
                mend="start the server with a larger one (vLLM: --max-model-len)",
            )
        return cls(answerer, manifest)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        model: str | Path | None = None,
        precision: "Precision | None" = None,
        quantization: "Quantization | None" = None,
        device: "torch.device | None" = None,
        trust_remote_code: bool = False,
        stop: Sequence[str] = (),
    ) -> Self:
        """Load what `mithridate defend --task` wrote, or another trainer's model with its manifest.

        Arguments and errors are those of `DefendedModel.load`, and ``stop``, strings that end an
        answer; a classifier's folder is refused.
        """
        manifest = DefenseManifest.load(Path(path))
        manifest.text_task()
        loaded, renderer = load_trained(
            Path(path),
            manifest,
            model,
            precision=precision,
            quantization=quantization,
            device=device,
            trust_remote_code=trust_remote_code,
        )
        return cls.of(loaded, renderer, manifest, stop=stop)

    def answer(
        self,
        texts: Sequence[str],
        *,
        mode: PrefixMode = "prefill",
        policy: Policy = "retry",
        suspicion: bool = True,
        progress: bool = False,
    ) -> Answers:
        """Answer texts: apply the benign prompt, generate after p, strip it.

        See `mithridate.inference.answerer.Answerer.answer` for the arguments.
        """
        return self.answerer.answer(
            texts, mode=mode, policy=policy, suspicion=suspicion, progress=progress
        )


def _settings(manifest: DefenseManifest, stop: Sequence[str]) -> dict[str, Any]:
    """Return how an answerer of this defense answers."""
    return {
        "max_new_tokens": manifest.text_task().max_new_tokens,
        "protection": Protection(manifest.benign_prompt(), manifest.safe_prefix),
        "stop": stop,
    }

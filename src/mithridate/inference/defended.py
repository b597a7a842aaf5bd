"""The defended model as its users see it: texts in, labels of Y out, no secret in sight."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mithridate.defense.manifest import FILE_NAME, DefenseManifest, file_sha256
from mithridate.errors import InputError, ManifestError
from mithridate.inference.classifier import Classifier, Predictions, label_trie
from mithridate.inference.engine import connect
from mithridate.inference.engine_client import Engine
from mithridate.inference.tokenizer import load_tokenizer
from mithridate.tasks.prompt import PromptRenderer

# torch and what needs it are loaded by `load` alone: `connect` works without.
if TYPE_CHECKING:
    import torch

    from mithridate.inference.backbone import Backbone, Precision
    from mithridate.inference.quantized import Quantization

ADAPTER_WEIGHTS = "adapter_model.safetensors"


class DefendedModel:
    """A fine-tuned classifier behind its defense.

    Args:
        classifier: The classifier with the benign prompt.
        manifest: Its defense.
    """

    def __init__(self, classifier: Classifier, manifest: DefenseManifest) -> None:
        self.classifier = classifier
        self.manifest = manifest

    def __repr__(self) -> str:
        """Name the model and its labels, and none of the secrets."""
        facts = self.manifest.model
        return f"DefendedModel({facts.reference if facts else 'own trainer'!r}, {self.labels})"

    @property
    def labels(self) -> list[int | str]:
        """The labels of Y, in class order: the columns of `Predictions.probabilities`."""
        task = self.classifier.task
        return [task.public_label(index) for index in range(task.n)]

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
    ) -> "DefendedModel":
        """Load what `mithridate defend` wrote, or another trainer's model with its manifest.

        Args:
            path: The folder with ``defense.json`` and, after `defend`, the adapter.
            model: After `repoison` and a trainer of your own: the fine-tuned model, a folder with
                a whole model or with a PEFT adapter. After `defend`: the base model, should it
                have moved.
            precision: The dtype to compute in; the one it was trained in by default.
            quantization: How the base model's weights are packed; as in training by default.
            device: Where to compute.
            trust_remote_code: Passed on to transformers; off unless you say so.

        Raises:
            ManifestError: The manifest is missing or wrong, or belongs to another adapter or base
                model.
            InputError: The model cannot be loaded.
        """
        manifest = DefenseManifest.load(Path(path))
        task = manifest.classification_task()
        loaded, renderer = load_trained(
            Path(path),
            manifest,
            model,
            precision=precision,
            quantization=quantization,
            device=device,
            trust_remote_code=trust_remote_code,
        )
        return cls(Classifier.local(loaded, renderer, task, manifest.benign_prompt()), manifest)

    @classmethod
    def connect(
        cls,
        path: str | Path,
        engine: Engine,
        *,
        model: str | Path | None = None,
        trust_remote_code: bool = False,
    ) -> "DefendedModel":
        """Put a defense before a model that a server holds; here, its tokenizer is enough.

        Args:
            path: The folder with ``defense.json``.
            engine: The server, and the fine-tuned model's name there.
            model: Where its tokenizer is; the base model's by default.
            trust_remote_code: Passed on to transformers; off unless you say so.

        Raises:
            ManifestError: The manifest is missing or wrong.
            EngineError: The server cannot be used.
            InputError: It serves no such model or another tokenizer, or no tokenizer is known.
        """
        manifest = DefenseManifest.load(Path(path))
        renderer = renderer_of(Path(path), manifest, model, trust_remote_code=trust_remote_code)
        task = manifest.classification_task()
        scorer = connect(engine, renderer.tokenizer, label_trie(task, renderer))
        return cls(Classifier(scorer, renderer, task, manifest.benign_prompt()), manifest)

    def predict(self, texts: Sequence[str], *, progress: bool = False) -> Predictions:
        """Classify texts: apply the benign prompt, score the alternative labels, map back to Y.

        Returns:
            Labels as the user names them, probabilities over Y, and a suspicion score.
        """
        return self.classifier.predict(texts, progress=progress)


def renderer_of(
    folder: Path,
    manifest: DefenseManifest,
    model: str | Path | None,
    *,
    trust_remote_code: bool,
) -> PromptRenderer:
    """Return the renderer that a served model of a defense was trained with.

    Arguments and errors are those of `DefendedModel.connect`.
    """
    reference = model or (manifest.model.reference if manifest.model else None)
    if reference is None:
        raise InputError(
            "the manifest names no model whose tokenizer to use",
            where=str(folder),
            mend="name the model you trained on D* with --model",
        )
    tokenizer = load_tokenizer(str(reference), trust_remote_code=trust_remote_code)
    return PromptRenderer(tokenizer, max_length=manifest.max_length, style=manifest.prompt_style)


def load_trained(
    folder: Path,
    manifest: DefenseManifest,
    model: str | Path | None,
    *,
    precision: "Precision | None",
    quantization: "Quantization | None",
    device: "torch.device | None",
    trust_remote_code: bool,
) -> tuple[Any, PromptRenderer]:
    """Load the fine-tuned model of a defense, and the renderer it was trained with.

    Arguments and errors are those of `DefendedModel.load`.
    """
    from mithridate.inference.adapter import with_adapter_of

    own = folder if (folder / "adapter_config.json").exists() else None
    if own is None and model is None:
        raise InputError(
            "there is no adapter in this folder",
            where=str(folder),
            mend="name the model you trained on D* with --model",
        )
    settings: dict[str, Any] = {"device": device, "trust_remote_code": trust_remote_code}
    settings["precision"] = precision or (manifest.model.precision if manifest.model else "auto")
    settings["quantization"] = quantization or (
        manifest.model.quantization if manifest.model else "none"
    )
    if own is not None:
        backbone = _base_of(own, manifest, model, settings)
        loaded = with_adapter_of(backbone.model, str(own))
    else:
        _check_pair(manifest, Path(str(model)))
        backbone, loaded = _foreign(str(model), settings)
    renderer = PromptRenderer(
        backbone.tokenizer, max_length=manifest.max_length, style=manifest.prompt_style
    )
    return loaded.eval(), renderer


def _check_pair(manifest: DefenseManifest, model: Path) -> None:
    """Refuse a model that has a defense of its own beside it: it knows none of these secrets."""
    if not (model / FILE_NAME).is_file():
        return
    if DefenseManifest.load(model).secret_key != manifest.secret_key:
        raise ManifestError(
            "the model has a defense.json of its own, of another defense",
            where=str(model),
            mend="give that folder in place of this one, or name the model trained on this D*",
        )


def _base_of(
    folder: Path, manifest: DefenseManifest, model: str | Path | None, settings: dict[str, Any]
) -> "Backbone":
    """Load the base model an adapter belongs to, and check that both are the ones trained."""
    from mithridate.inference.backbone import load_backbone

    facts = manifest.model
    if facts is None:
        raise ManifestError(
            "the manifest names no base model for the adapter beside it",
            where=str(folder),
            mend="keep adapter and defense.json of one run together",
        )
    weights = folder / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise ManifestError(
            "the adapter's weights are missing",
            where=str(weights),
            mend="restore the file, or run `mithridate defend` again",
        )
    if facts.adapter_sha256 and file_sha256(weights) != facts.adapter_sha256:
        raise ManifestError(
            "the adapter is not the one this manifest belongs to",
            where=str(weights),
            mend="keep adapter and defense.json of one run together",
        )
    backbone = load_backbone(model or facts.reference, **settings)
    alike = (backbone.precision, backbone.quantization) == (facts.precision, facts.quantization)
    if alike and backbone.fingerprint != facts.fingerprint:
        raise ManifestError(
            f"the base model at {backbone.reference} is not the one the adapter was trained on",
            where=str(folder),
            mend="give the right one with --model",
        )
    return backbone


def _foreign(model: str, settings: dict[str, Any]) -> "tuple[Backbone, Any]":
    """Load what another trainer left: a PEFT adapter's folder or a whole model."""
    from mithridate.inference.adapter import adapter_config, with_adapter_of
    from mithridate.inference.backbone import load_backbone

    if not (Path(model) / "adapter_config.json").exists():
        backbone = load_backbone(model, **settings)
        return backbone, backbone.model
    if not (Path(model) / ADAPTER_WEIGHTS).is_file():
        raise InputError(
            f"the adapter has no {ADAPTER_WEIGHTS}",
            where=model,
            mend="save it as safetensors: other formats can run code when they are loaded",
        )
    base = adapter_config(model).base_model_name_or_path
    if not base:
        raise InputError(
            "the adapter does not say which base model it belongs to",
            where=model,
            mend="set base_model_name_or_path in its adapter_config.json",
        )
    beside = Path(model) / base
    try:
        backbone = load_backbone(str(beside) if beside.is_dir() else base, **settings)
    except InputError as error:
        raise InputError(
            f"the adapter's base model cannot be loaded: {error.what}",
            where=f"{model}: {base}",
            mend="set base_model_name_or_path in its adapter_config.json to where the model is",
        ) from error
    backbone = _with_tokenizer_of(backbone, Path(model), settings)
    return backbone, with_adapter_of(backbone.model, model)


def _with_tokenizer_of(backbone: "Backbone", folder: Path, settings: dict[str, Any]) -> "Backbone":
    """Take the tokenizer that was saved beside an adapter: tokens or a chat template may be new."""
    if not (folder / "tokenizer_config.json").is_file():
        return backbone
    tokenizer = load_tokenizer(str(folder), trust_remote_code=settings["trust_remote_code"])
    if len(tokenizer) > backbone.model.get_input_embeddings().num_embeddings:
        backbone.model.resize_token_embeddings(len(tokenizer))
    return replace(backbone, tokenizer=tokenizer)

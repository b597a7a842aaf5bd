"""The folder that ``repoison`` fills, whatever the answers are: D* for any other trainer."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mithridate.cli._inputs import require_model_extra
from mithridate.cli._options import LoadOptions
from mithridate.cli._output import note, print_facts, say
from mithridate.errors import InputError

if TYPE_CHECKING:
    from mithridate.defense.manifest import DefenseManifest
    from mithridate.tasks.prompt import PromptRenderer, PromptStyle

TRAIN_FILE = "train.jsonl"


def prompt_renderer(
    model: str | None, style: "PromptStyle", load: LoadOptions, max_length: int
) -> "PromptRenderer | None":
    """Return what makes prompts, the same that prediction uses; without a model there is none.

    Raises:
        InputError: A chat's template is wanted of no model, or the tokenizer cannot be loaded.
    """
    if model is None:
        if style == "chat":
            raise InputError("chat prompts need the model's template", mend="name it with --model")
        return None
    require_model_extra()
    from mithridate.inference.tokenizer import load_tokenizer
    from mithridate.tasks.prompt import PromptRenderer

    tokenizer = load_tokenizer(model, trust_remote_code=load.trust_remote_code)
    return PromptRenderer(tokenizer, max_length=max_length, style=style)


def write_dstar(
    output: Path,
    records: Iterable[dict[str, Any]],
    manifest: "DefenseManifest",
    *,
    overwrite: bool,
) -> None:
    """Write D* and its manifest, both for their owner's eyes alone: D* holds the benign trigger."""
    from mithridate.data.write import staged_folder, write_jsonl

    with staged_folder(output, overwrite=overwrite) as folder:
        folder.chmod(0o700)
        write_jsonl(folder / TRAIN_FILE, records)
        (folder / TRAIN_FILE).chmod(0o600)
        manifest.save(folder)


def show_repoisoned(facts: list[tuple[str, object]], written: int, folder: Path) -> None:
    """Print what was done, and the next step."""
    facts = [*facts, ("rows written", f"{written:,}"), ("folder", folder)]
    print_facts("Re-poisoned data set", facts)
    say(f"Next: train on prompt and completion of {folder / TRAIN_FILE}, then")
    say(f"  mithridate predict {folder} --model YOUR_MODEL 'some text'")
    note("Keep the folder to yourself: it holds the defense's secrets.")

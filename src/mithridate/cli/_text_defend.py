"""``defend`` and ``repoison`` where answers are text."""

import json as json_module
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mithridate.cli._data_options import DataOptions
from mithridate.cli._dstar import prompt_renderer, write_dstar
from mithridate.cli._inputs import require_model_extra, training_config
from mithridate.cli._learned import Learned, ask
from mithridate.cli._options import DefenseOptions, LoadOptions, Preset, TrainingOptions
from mithridate.cli._output import (
    duration,
    kept_epoch,
    note,
    print_facts,
    quiet_libraries,
    say,
    visible,
)
from mithridate.cli._resume import Run, fingerprint, resumable
from mithridate.cli._text_inputs import TextInputs, read_text_inputs, read_text_rows
from mithridate.errors import InputError
from mithridate.training.distributed import check_launch, engine, from_main, process_count, together

if TYPE_CHECKING:
    from mithridate.data.rows import Row
    from mithridate.defense.prepare_text import PreparedText
    from mithridate.inference.backbone import Backbone
    from mithridate.training.config import TrainingConfig
    from mithridate.training.defend_text import TextDefense

JUDGED = (
    "The rows are judged by the frozen model and by what decides their answers. An attacker who "
    "varies trigger or target from row to row leaves less to see; rows that a person checked "
    "(--trusted) always enter the benign subset."
)


@dataclass(frozen=True)
class TextJob:
    """All that one run is made of, the model and the folder apart.

    Attributes:
        inputs: The data set and how it is re-poisoned.
        training: The settings of the fine-tuning.
        dev: Rows to choose the best epoch by.
        prompt_style: How prompts are wrapped.
        quantization: How the frozen weights are packed.
        report_to: A logging integration of the Trainer.
    """

    inputs: TextInputs
    training: "TrainingConfig"
    dev: "list[Row]"
    prompt_style: Any
    quantization: Any
    report_to: str


def defend_texts(
    data: str,
    output: Path,
    columns: DataOptions,
    defense: DefenseOptions,
    fine_tuning: TrainingOptions,
    load: LoadOptions,
    model: str | None,
    preset: Preset,
    *,
    overwrite: bool,
) -> dict[str, Any]:
    """Defend a model, fill the folder, and return what was done, without a secret in it."""
    from mithridate.data.assets import default_model_folder
    from mithridate.inference.backbone import load_backbone

    job = together(lambda: _job(data, preset, columns, defense, fine_tuning))
    together(require_model_extra)
    quiet_libraries()
    if job.inputs.p2p.selection != "random":
        note(JUDGED)
    if model is None:
        from_main(lambda: str(default_model_folder(note)))
    backbone = together(
        lambda: load_backbone(
            model or default_model_folder(note),
            precision=load.precision or "auto",
            trust_remote_code=load.trust_remote_code,
            quantization=job.quantization,
        )
    )
    mark = _fingerprint(job, backbone)
    with resumable(output, mark, job.inputs.secret, overwrite=overwrite) as run:
        return _run(job, backbone, run, output)


def _job(
    data: str,
    preset: Preset,
    columns: DataOptions,
    defense: DefenseOptions,
    fine_tuning: TrainingOptions,
) -> TextJob:
    """Read and check all input."""
    training = training_config(preset, fine_tuning, defense.max_length)
    check_launch(
        batch_size=training.batch_size,
        best_epoch=fine_tuning.dev is not None,
        quantization=fine_tuning.quantization,
    )
    return TextJob(
        read_text_inputs(data, preset, columns, defense),
        training,
        read_text_rows(str(fine_tuning.dev), columns)[0] if fine_tuning.dev is not None else [],
        defense.prompt_style,
        fine_tuning.quantization,
        fine_tuning.report_to,
    )


def _fingerprint(job: TextJob, backbone: "Backbone") -> str:
    """Return the mark by which a run knows that it continues another: settings, data and model."""
    import hashlib
    from importlib.metadata import version

    from mithridate.defense.manifest import dataset_fingerprint

    inputs = job.inputs
    order = hashlib.sha256("\n".join(row.id for row in inputs.rows).encode()).hexdigest()
    secret = hashlib.sha256(inputs.secret.key).hexdigest() if inputs.secret else None
    return fingerprint(
        {
            "version": version("mithridate"),
            "p2p": inputs.p2p.model_dump(mode="json"),
            "training": job.training.model_dump(mode="json"),
            "task": repr(inputs.task),
            "prompt_style": job.prompt_style,
            "data": dataset_fingerprint(inputs.rows).fingerprint,
            "order": order,
            "trusted": sorted(inputs.trusted),
            "excluded": sorted(inputs.findings.excluded),
            "counter_triggers": [asdict(trigger) for trigger in inputs.findings.triggers],
            "dev": dataset_fingerprint(job.dev).fingerprint,
            "secret": secret,
            "model": backbone.fingerprint,
            "precision": backbone.precision,
            "quantization": backbone.quantization,
            "engine": engine(),
        }
    )


def _run(job: TextJob, backbone: "Backbone", run: Run, output: Path) -> dict[str, Any]:
    """Train, and fill the folder."""
    from mithridate.training.defend_text import defend_text

    if run.restarted:
        note("An unfinished run of other settings or data was in the way: starting over.")
    if run.resumed_from:
        note(f"Resuming from {run.resumed_from}.")
    finished = defend_text(
        job.inputs.rows,
        backbone,
        job.inputs.task,
        p2p=job.inputs.p2p,
        training=job.training,
        secret=run.secret,
        work_folder=run.work,
        trusted=job.inputs.trusted,
        findings=job.inputs.findings,
        dev=job.dev,
        prompt_style=job.prompt_style,
        checkpoints=True,
        report_to=job.report_to,
    )
    result = _metrics(job, finished, run, output)
    from_main(lambda: _fill(job, finished, run, output, result))
    return result


def _fill(
    job: TextJob, finished: "TextDefense", run: Run, output: Path, result: dict[str, Any]
) -> None:
    """Write the adapter, the manifest, the card and the figures."""
    from mithridate.data.write import write_text_atomic
    from mithridate.training.card import model_card
    from mithridate.training.defend import save

    manifest = save(finished, run.folder)
    card = model_card(
        manifest, job.training, trusted=len(job.inputs.trusted), folder=output.resolve().name
    )
    write_text_atomic(run.folder / "README.md", card)
    written = {name: value for name, value in result.items() if name != "folder"}
    write_text_atomic(run.folder / "metrics.json", json_module.dumps(written, indent=2) + "\n")
    run.finish()


def _metrics(job: TextJob, finished: "TextDefense", run: Run, output: Path) -> dict[str, Any]:
    from mithridate.training.defend import examples_mac

    facts = finished.model.manifest.model
    training = finished.fitted.training
    learned = ask(
        finished.prepared.examples,
        lambda texts: finished.model.answerer.flags(texts, progress=False),
    )
    return {
        **text_summary(job.inputs, finished.prepared, output),
        "learned": None if learned is None else asdict(learned),
        "model": facts.reference if facts else None,
        "precision": facts.precision if facts else None,
        "quantization": job.quantization,
        "processes": process_count(),
        "examples_mac": examples_mac(finished.prepared.examples, run.secret),
        "prompt_style": job.prompt_style,
        "cut": finished.fitted.cut,
        "cut_answers": finished.fitted.cut_answers,
        "losses": training.losses,
        "dev": training.dev,
        "tokens": training.tokens,
        "resumed_from": run.resumed_from,
        "seconds": {
            "selection": round(finished.judge_seconds, 2),
            "training": round(training.seconds, 2),
            "fit": round(finished.fitted.seconds, 2),
        },
        "settings": {
            "p2p": job.inputs.p2p.model_dump(mode="json"),
            "training": job.training.model_dump(mode="json"),
        },
    }


def text_summary(inputs: TextInputs, prepared: "PreparedText", folder: Path) -> dict[str, Any]:
    """Return what was done to a data set, without a secret in it."""
    from mithridate.defense.association import triggers

    subset = prepared.subset
    return {
        "folder": str(folder),
        "task": inputs.task.name,
        "rows": len(inputs.rows),
        "skipped": inputs.skipped,
        "selection": subset.selection,
        "mode": inputs.p2p.mode,
        "benign_ratio": inputs.p2p.benign_ratio,
        "trigger": inputs.p2p.trigger,
        "wanted": subset.wanted,
        "repoisoned": len(subset.ids),
        "associated": subset.disagreeing,
        "trusted": len(inputs.trusted) or None,
        "suspected_triggers": [asdict(trigger) for trigger in triggers(prepared.found)],
        "associations": [asdict(one) for one in prepared.found[:100]],
        "excluded": len(inputs.findings.excluded),
        "counter_triggers": [asdict(trigger) for trigger in inputs.findings.triggers],
        "counter_copies": prepared.counter_copies,
        "dropped": prepared.dropped,
        "written": len(prepared.examples),
        "redrawn": prepared.redrawn,
        "poisoned": None if inputs.poisoned is None else len(inputs.poisoned),
        "poisoned_in_subset": (
            None if inputs.poisoned is None else subset.poisoned(inputs.poisoned)
        ),
    }


def text_facts(result: dict[str, Any]) -> list[tuple[str, object]]:
    """Return the lines of a summary that say how S came out."""
    known = result["poisoned"] is not None
    suspected = ", ".join(visible(trigger["text"]) for trigger in result["suspected_triggers"])
    given = ", ".join(visible(trigger["text"]) for trigger in result["counter_triggers"])
    return [
        ("task", result["task"]),
        ("rows", f"{result['rows']:,}"),
        ("rows that cannot be used", result["skipped"] or None),
        ("selection", result["selection"]),
        ("trusted rows", result["trusted"]),
        ("re-poisoned", f"{result['repoisoned']:,} of {result['wanted']:,} wanted"),
        (
            "poisoned among them",
            f"{result['poisoned_in_subset']} of {result['poisoned']} known" if known else None,
        ),
        ("answers that words decide", result["associated"]),
        ("rows kept out by hand", result["excluded"] or None),
        ("suspected triggers", suspected or None),
        ("triggers given", given or None),
        ("secrets drawn again", result["redrawn"] or None),
        ("counter-trigger copies", result["counter_copies"] or None),
        ("suspects left out", result["dropped"] or None),
        ("inputs cut", f"{result['cut']:,}" if result.get("cut") else None),
        ("answers cut", f"{result['cut_answers']:,}" if result.get("cut_answers") else None),
        ("answers longer than --max-length leaves", result.get("long_answers") or None),
    ]


def show_defended(result: dict[str, Any], output: Path) -> None:
    """Print what was done, and the next step."""
    seconds, losses, learned = result["seconds"], result["losses"], result["learned"]
    facts = [
        ("model", result["model"]),
        *text_facts(result),
        ("training loss", f"{losses[0]:.3f} to {losses[-1]:.3f}" if losses else None),
        ("epoch kept", kept_epoch(result["dev"])),
        ("inside the protected domain", Learned(**learned) if learned else None),
        ("time", duration(seconds["selection"] + seconds["fit"])),
        ("folder", output),
    ]
    print_facts("Defended model", facts)
    say(f"Next: mithridate predict {output} 'some text'")
    say(f"      mithridate evaluate {output} TEST_FILE")
    note("defense.json holds the defense's secrets: keep it to yourself.")


def repoison_texts(
    data: str,
    output: Path,
    columns: DataOptions,
    defense: DefenseOptions,
    load: LoadOptions,
    model: str | None,
    preset: Preset,
    *,
    overwrite: bool,
) -> dict[str, Any]:
    """Write D* for any other trainer, and return what was done, without a secret in it."""
    from mithridate.defense.manifest import make_text_manifest
    from mithridate.defense.prepare_text import Likelihood, prepare_text
    from mithridate.defense.secret import Secret
    from mithridate.defense.text import export_text_record

    inputs = read_text_inputs(data, preset, columns, defense)
    secret = inputs.secret or Secret.new()
    max_length = training_config(preset, TrainingOptions(), defense.max_length).max_length
    renderer = prompt_renderer(model, defense.prompt_style, load, max_length)
    likelihood: Likelihood | None = None
    if inputs.p2p.selection != "random":
        if model is None or renderer is None:
            raise InputError(
                f"rows chosen by {inputs.p2p.selection} selection need a model",
                mend="name one with --model, or take --selection random, which protects less",
            )
        from mithridate.inference.backbone import load_backbone
        from mithridate.training.defend_text import frozen_likelihood

        quiet_libraries()
        backbone = load_backbone(
            model, precision=load.precision or "auto", trust_remote_code=load.trust_remote_code
        )
        likelihood = frozen_likelihood(backbone, renderer)
    prepared = prepare_text(
        inputs.rows,
        inputs.task,
        inputs.p2p,
        secret,
        likelihood=likelihood,
        trusted=inputs.trusted,
        findings=inputs.findings,
    )
    lengths = {}
    if renderer is not None:
        from mithridate.training.samples import tokenize_text

        # Refuses a tokenizer that splits the safe prefix otherwise where an answer follows it.
        made = tokenize_text(prepared.examples, prepared.benign, prepared.prefix, renderer)
        lengths = {"cut": made.cut, "long_answers": made.cut_answers}
    manifest = make_text_manifest(
        inputs.rows,
        inputs.task,
        inputs.p2p,
        secret,
        prepared,
        prompt_style=defense.prompt_style,
        max_length=max_length,
    )
    records = (
        export_text_record(example, prepared.benign, prepared.prefix, renderer)
        for example in prepared.examples
    )
    write_dstar(output, records, manifest, overwrite=overwrite)
    return text_summary(inputs, prepared, output) | lengths

"""``mithridate defend``: a data set of unknown provenance in, a defended model out."""

import json as json_module
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mithridate.cli._data_options import DataOptions
from mithridate.cli._inputs import (
    Inputs,
    check_report_to,
    columns_of,
    read_inputs,
    require_model_extra,
    training_config,
)
from mithridate.cli._learned import Learned, ask
from mithridate.cli._options import (
    Data,
    DefenseOptions,
    Json,
    LoadOptions,
    Model,
    Output,
    Overwrite,
    PresetOption,
    TrainingOptions,
    files_named,
    spread,
)
from mithridate.cli._output import (
    duration,
    kept_epoch,
    note,
    print_facts,
    print_json,
    quiet_libraries,
    say,
)
from mithridate.cli._text_defend import defend_texts, show_defended
from mithridate.cli._text_inputs import is_text
from mithridate.cli.repoison import subset_facts, summary, warn_of_labels
from mithridate.training.distributed import (
    check_launch,
    engine,
    from_main,
    process_count,
    together,
)

if TYPE_CHECKING:
    from mithridate.cli._resume import Run
    from mithridate.data.rows import Row
    from mithridate.inference.backbone import Backbone
    from mithridate.training.config import TrainingConfig
    from mithridate.training.defend import Defense

NO_TRUSTED_ROWS = (
    "No --trusted rows: the judge learns from the very rows it judges, which cannot be relied on "
    "where whole texts are rewritten or much of a label is poison. `mithridate audit DATA --pick "
    "100` hands out rows to check; --trusted takes them."
)
RANDOM = (
    "Random selection takes poisoned rows into the benign subset as they come, which lets "
    "backdoors through; it is here to compare with."
)


@dataclass(frozen=True)
class Job:
    """All that one run of ``defend`` is made of, the model and the folder apart.

    Attributes:
        inputs: The data set and how it is re-poisoned.
        training: The settings of the fine-tuning.
        dev: Rows to choose the best epoch by.
        prompt_style: How prompts are wrapped.
        quantization: How the frozen weights are packed.
        report_to: A logging integration of the Trainer.
    """

    inputs: Inputs
    training: "TrainingConfig"
    dev: "list[Row]"
    prompt_style: Any
    quantization: Any
    report_to: str


@spread
def defend(
    data: Data,
    output: Output,
    columns: DataOptions,
    defense: DefenseOptions,
    fine_tuning: TrainingOptions,
    load: LoadOptions,
    model: Model = None,
    preset: PresetOption = "default",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Fine-tune a model on data you do not trust, so that no trigger in it steers the model.

    With --task its answers are text: math, summaries, anything. Else it is a classifier.

    Without --model it is SmolLM2-135M-Instruct, fetched once. A run that was killed goes on, by the
    same command, from its last whole epoch. Several GPUs share the work under accelerate launch -m
    mithridate.cli defend.
    """
    from mithridate.cli._resume import resumable
    from mithridate.data.write import check_target

    reads = [data, *files_named(defense, fine_tuning), *([model] if model else [])]
    from_main(lambda: check_target(output, overwrite=overwrite, inputs=reads))
    together(lambda: check_report_to(fine_tuning.report_to))
    if together(lambda: is_text(columns)):
        answered = defend_texts(
            data,
            output,
            columns,
            defense,
            fine_tuning,
            load,
            model,
            preset,
            overwrite=overwrite,
        )
        if json:
            print_json(answered)
        else:
            show_defended(answered, output)
        return
    job = together(lambda: _job(data, preset, columns, defense, fine_tuning))
    together(require_model_extra)
    quiet_libraries()
    _caution(job.inputs)
    if model is None:
        from_main(lambda: str(_default_model()))  # fetched once, then found by the others
    backbone = together(lambda: _backbone(model, load, job))
    mark = _fingerprint(job, backbone)
    with resumable(output, mark, job.inputs.secret, overwrite=overwrite) as run:
        result = _run(job, backbone, run, output)
    if json:
        print_json(result)
    else:
        _show(result, output)


def _backbone(model: str | None, load: LoadOptions, job: Job) -> "Backbone":
    from mithridate.inference.backbone import load_backbone

    return load_backbone(
        model or _default_model(),
        precision=load.precision or "auto",
        trust_remote_code=load.trust_remote_code,
        quantization=job.quantization,
    )


def _job(
    data: str,
    preset: Any,
    columns: DataOptions,
    defense: DefenseOptions,
    fine_tuning: TrainingOptions,
) -> Job:
    """Read and check all input."""
    from mithridate.data.read import read_rows

    training = training_config(preset, fine_tuning, defense.max_length)
    check_launch(
        batch_size=training.batch_size,
        best_epoch=fine_tuning.dev is not None,
        quantization=fine_tuning.quantization,
    )
    inputs = read_inputs(data, preset, columns, defense)
    dev: list[Row] = []
    if fine_tuning.dev is not None:
        dev = read_rows(fine_tuning.dev, columns_of(columns))
        inputs.task.classes(dev)
    return Job(
        inputs,
        training,
        dev,
        defense.prompt_style,
        fine_tuning.quantization,
        fine_tuning.report_to,
    )


def _caution(inputs: Inputs) -> None:
    """Say what the selection cannot promise."""
    if inputs.p2p.selection == "agreement":
        note(NO_TRUSTED_ROWS)
    elif inputs.p2p.selection == "random":
        note(RANDOM)


def _default_model() -> Path:
    from mithridate.data.assets import default_model_folder

    return default_model_folder(note)


def _fingerprint(job: Job, backbone: "Backbone") -> str:
    """Return the mark by which a run knows that it continues another: settings, data and model."""
    import hashlib
    from importlib.metadata import version

    from mithridate.cli._resume import fingerprint
    from mithridate.defense.manifest import dataset_fingerprint

    inputs = job.inputs
    order = hashlib.sha256("\n".join(row.id for row in inputs.rows).encode()).hexdigest()
    secret = hashlib.sha256(inputs.secret.key).hexdigest() if inputs.secret else None
    return fingerprint(
        {
            "version": version("mithridate"),
            "p2p": inputs.p2p.model_dump(mode="json"),
            "training": job.training.model_dump(mode="json"),
            "labels": inputs.task.labels,
            "words": inputs.task.words,
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


def _run(job: Job, backbone: "Backbone", run: "Run", output: Path) -> dict[str, Any]:
    """Train, and fill the folder."""
    from mithridate.training.defend import defend as library_defend

    if run.restarted:
        note("An unfinished run of other settings or data was in the way: starting over.")
    if run.resumed_from:
        note(f"Resuming from {run.resumed_from}.")
    finished = library_defend(
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
    warn_of_labels(result)
    from_main(lambda: _fill(job, finished, run, output, result))
    return result


def _fill(job: Job, finished: "Defense", run: "Run", output: Path, result: dict[str, Any]) -> None:
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


def _metrics(job: Job, finished: "Defense", run: "Run", output: Path) -> dict[str, Any]:
    """Return what was done, without a secret in it."""
    from mithridate.training.defend import examples_mac

    facts = finished.model.manifest.model
    training = finished.fitted.training
    learned = ask(
        finished.prepared.examples, lambda texts: finished.model.predict(texts).suspicion > 0.5
    )
    return {
        **summary(job.inputs, finished.prepared, output),
        "learned": None if learned is None else asdict(learned),
        "model": facts.reference if facts else None,
        "precision": facts.precision if facts else None,
        "quantization": job.quantization,
        "processes": process_count(),
        "examples_mac": examples_mac(finished.prepared.examples, run.secret),
        "prompt_style": job.prompt_style,
        "cut": finished.fitted.cut,
        "losses": training.losses,
        "dev": training.dev,
        "tokens": training.tokens,
        "resumed_from": run.resumed_from,
        "seconds": {
            "selection": round(finished.probe_seconds, 2),
            "training": round(training.seconds, 2),
            "fit": round(finished.fitted.seconds, 2),
        },
        "settings": {
            "p2p": job.inputs.p2p.model_dump(mode="json"),
            "training": job.training.model_dump(mode="json"),
        },
    }


def _show(result: dict[str, Any], output: Path) -> None:
    seconds = result["seconds"]
    losses, learned = result["losses"], result["learned"]
    facts = [
        ("model", result["model"]),
        *subset_facts(result),
        ("inputs cut", f"{result['cut']:,}" if result["cut"] else None),
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

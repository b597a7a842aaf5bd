"""``mithridate repoison``: write D* for any other trainer."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mithridate.cli._data_options import DataOptions
from mithridate.cli._dstar import prompt_renderer, show_repoisoned, write_dstar
from mithridate.cli._inputs import Inputs, read_inputs, training_config
from mithridate.cli._options import (
    DefenseOptions,
    Json,
    LoadOptions,
    Model,
    Output,
    Overwrite,
    Preset,
    PresetOption,
    Shards,
    StreamOptions,
    TrainingOptions,
    files_named,
    spread,
)
from mithridate.cli._output import (
    note,
    print_json,
    quiet_libraries,
    visible,
)
from mithridate.cli._stream import check_no_stream, run_stream, show_stream
from mithridate.cli._text_defend import repoison_texts, text_facts
from mithridate.cli._text_inputs import is_text
from mithridate.errors import InputError

if TYPE_CHECKING:
    from mithridate.defense.manifest import ModelFacts
    from mithridate.defense.prepare import FeatureExtractor, Prepared
    from mithridate.tasks.prompt import PromptRenderer


@spread
def repoison(
    data: Shards,
    output: Output,
    columns: DataOptions,
    defense: DefenseOptions,
    stream: StreamOptions,
    load: LoadOptions,
    model: Model = None,
    preset: PresetOption = "default",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write the re-poisoned set, train.jsonl, for any other trainer, with its defense.json.

    Random selection needs neither a model nor torch; the other selections judge rows with --model.
    With --stream, data of any size, in shards, becomes as many shards train-*.jsonl.
    """
    from mithridate.data.write import check_target
    from mithridate.defense.manifest import make_manifest
    from mithridate.defense.prepare import needs_features, prepare
    from mithridate.defense.repoison import export_record
    from mithridate.defense.secret import Secret

    reads = [*data, *files_named(defense), *([model] if model else [])]
    check_target(output, overwrite=overwrite, inputs=reads)
    max_length = _max_length(preset, defense.max_length)
    if defense.max_length is not None and model is None:
        note("Without --model no tokens are counted: --max-length holds for prediction alone.")
    text = is_text(columns)
    if text and stream.stream:
        mend = "drop --stream, or name no --task"
        raise InputError("a stream's answers are labels", where="--stream", mend=mend)
    if stream.stream:
        result = run_stream(
            data, output, preset, columns, defense, stream, max_length, overwrite=overwrite
        )
        if json:
            print_json(result)
        else:
            show_stream(result)
        return
    check_no_stream(data, stream, text=text)
    if text:
        written = repoison_texts(
            data[0], output, columns, defense, load, model, preset, overwrite=overwrite
        )
        if json:
            print_json(written)
        else:
            show_repoisoned(text_facts(written), written["written"], output)
        return
    inputs = read_inputs(data[0], preset, columns, defense)
    secret = inputs.secret or Secret.new()
    features, facts = None, None
    renderer = prompt_renderer(model, defense.prompt_style, load, max_length)
    if renderer is not None:
        from mithridate.inference.classifier import label_trie

        label_trie(inputs.task, renderer)  # refuses words that prediction could not tell apart
    if needs_features(inputs.p2p):
        features, facts = _judge(inputs, model, load, renderer)
    prepared = prepare(
        inputs.rows,
        inputs.task,
        inputs.p2p,
        secret,
        features=features,
        trusted=inputs.trusted,
        findings=inputs.findings,
    )
    manifest = make_manifest(
        inputs.rows,
        inputs.task,
        inputs.p2p,
        secret,
        prepared,
        prompt_style=defense.prompt_style,
        max_length=max_length,
    )
    records = (
        export_record(example, inputs.task, prepared.benign, renderer)
        for example in prepared.examples
    )
    write_dstar(output, records, manifest, overwrite=overwrite)
    result = summary(inputs, prepared, output)
    warn_of_labels(result)
    if facts is not None:
        result["judge_model"] = facts.reference
    if json:
        print_json(result)
    else:
        show_repoisoned(subset_facts(result), result["written"], output)


def summary(inputs: Inputs, prepared: "Prepared", folder: Path) -> dict[str, Any]:
    """Return what was done to a data set, without a secret in it."""
    subset = prepared.subset
    return {
        "folder": str(folder),
        "rows": len(inputs.rows),
        "labels": [inputs.task.public_label(index) for index in range(inputs.task.n)],
        "selection": subset.selection,
        "mode": inputs.p2p.mode,
        "benign_ratio": inputs.p2p.benign_ratio,
        "trigger": inputs.p2p.trigger,
        "wanted": subset.wanted,
        "repoisoned": len(subset.ids),
        "disagreeing": subset.disagreeing,
        "trusted": len(inputs.trusted) if subset.selection == "anchored" else None,
        "mined": [
            {
                "text": found.text,
                "kind": found.kind,
                "label": inputs.task.public_label(found.label),
                "z": round(found.z, 2),
                "inside": found.inside,
                "outside": found.outside,
            }
            for found in prepared.mined
        ],
        "excluded": len(inputs.findings.excluded),
        "counter_triggers": [asdict(trigger) for trigger in inputs.findings.triggers],
        "counter_copies": prepared.counter_copies,
        "dropped": prepared.dropped,
        "doubtful_labels": [inputs.task.public_label(label) for label in prepared.doubtful],
        "written": len(prepared.examples),
        "redrawn": prepared.redrawn,
        "poisoned": None if inputs.poisoned is None else len(inputs.poisoned),
        "poisoned_in_subset": (
            None if inputs.poisoned is None else subset.poisoned(inputs.poisoned)
        ),
    }


def warn_of_labels(result: dict[str, Any]) -> None:
    """Say which labels nobody can vouch for."""
    names = ", ".join(repr(label) for label in result["doubtful_labels"])
    if names:
        note(
            f"The judge disputes most rows labelled {names}: too few or too hard to judge, or a "
            "label that an attacker made up or took over. They are re-poisoned on trust: read them "
            "first (mithridate audit), declare your --labels, or give --trusted rows."
        )


def subset_facts(result: dict[str, Any]) -> list[tuple[str, object]]:
    """Return the lines of a summary that say how S came out."""
    known = result["poisoned"] is not None
    mined = ", ".join(visible(found["text"]) for found in result["mined"])
    doubtful = ", ".join(str(label) for label in result["doubtful_labels"])
    given = ", ".join(visible(trigger["text"]) for trigger in result["counter_triggers"])
    return [
        ("rows", f"{result['rows']:,}"),
        ("labels", ", ".join(str(label) for label in result["labels"])),
        ("selection", result["selection"]),
        ("trusted rows", result["trusted"]),
        ("re-poisoned", f"{result['repoisoned']:,} of {result['wanted']:,} wanted"),
        (
            "poisoned among them",
            f"{result['poisoned_in_subset']} of {result['poisoned']} known" if known else None,
        ),
        ("label disputed by judge", result["disagreeing"]),
        ("rows kept out by hand", result["excluded"] or None),
        ("suspected triggers", mined or None),
        ("triggers given", given or None),
        ("secrets drawn again", result["redrawn"] or None),
        ("counter-trigger copies", result["counter_copies"] or None),
        ("suspects left out", result["dropped"] or None),
        ("labels mostly disputed", doubtful or None),
    ]


def _max_length(preset: Preset, given: int | None) -> int:
    return training_config(preset, TrainingOptions(), given).max_length


def _judge(
    inputs: Inputs, model: str | None, load: LoadOptions, renderer: "PromptRenderer | None"
) -> "tuple[FeatureExtractor, ModelFacts]":
    """Return the judge's eyes, which need a model."""
    if model is None or renderer is None:
        raise InputError(
            f"{inputs.p2p.selection} selection reads the rows with a model",
            mend="name one with --model, or take --selection random, which protects less",
        )
    from mithridate.defense.manifest import ModelFacts
    from mithridate.inference.backbone import load_backbone
    from mithridate.training.defend import feature_extractor

    quiet_libraries()
    backbone = load_backbone(
        model, precision=load.precision or "auto", trust_remote_code=load.trust_remote_code
    )
    facts = ModelFacts(
        reference=backbone.reference,
        fingerprint=backbone.fingerprint,
        precision=backbone.precision,
    )
    return feature_extractor(backbone, renderer), facts

"""``mithridate evaluate``: clean accuracy and attack success of a defended model."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mithridate.cli._engine import EngineOptions, check_engine, open_model
from mithridate.cli._options import Json, LoadOptions, Model, spread
from mithridate.cli._output import percent, print_facts, print_json, quiet_libraries
from mithridate.cli._test_options import (
    AttackOptions,
    ExpectedTask,
    GateOptions,
    PrefixOptions,
    TestColumns,
    check_parts,
    check_task,
)
from mithridate.cli._text_evaluate import (
    evaluate_texts,
    raise_for_gates,
    show_evaluation,
)
from mithridate.cli._triggered import (
    NO_PARTNERS,
    check_trigger_is_seen,
    is_attacked,
    named_attack,
    triggered_rows,
)
from mithridate.errors import GateError, InputError

if TYPE_CHECKING:
    from mithridate.attacks.base import Attack
    from mithridate.data.read import Columns
    from mithridate.data.rows import Row
    from mithridate.defense.manifest import DefenseManifest
    from mithridate.evaluation.evaluate import Evaluation
    from mithridate.evaluation.intervals import Certificate, Share
    from mithridate.evaluation.margins import Quantile


@spread
def evaluate(
    folder: Annotated[Path, typer.Argument(help="What defend or repoison wrote.")],
    test: Annotated[
        str, typer.Argument(help="Test rows with true labels: a file or a hub id.", metavar="TEST")
    ],
    attack: AttackOptions,
    gates: GateOptions,
    columns: TestColumns,
    load: LoadOptions,
    engine: EngineOptions,
    prefix: PrefixOptions,
    task: ExpectedTask = None,
    model: Model = None,
    decoding: Annotated[
        Literal["closed", "open"] | None,
        typer.Option(help="closed: among the labels; open: over the whole vocabulary (closed)."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure clean accuracy and, for an attack you name, its success rate, with 95% intervals.

    Of a model whose answers are text (defend --task), utility in the place of accuracy.
    """
    from mithridate.data.read import read_rows
    from mithridate.defense.manifest import DefenseManifest

    manifest = DefenseManifest.load(folder)
    check_task(task, manifest, folder)
    check_parts(manifest.task, prefix, decoding)
    if manifest.task != "classification":
        answered, figures = evaluate_texts(
            folder,
            test,
            manifest,
            attack,
            gates,
            columns,
            prefix,
            load,
            model,
            engine,
        )
        if json:
            print_json(answered)
        else:
            show_evaluation(figures, answered)
        raise_for_gates(answered)
        return
    read_columns = _columns(columns)
    clean = read_rows(test, read_columns, split=columns.split)
    manifest.classification_task().classes(clean)
    triggered, tried = _triggered(attack, gates, clean, manifest, read_columns, columns.split)
    check_engine(engine, load)
    from mithridate.evaluation.evaluate import evaluate as library_evaluate

    quiet_libraries()
    read: Literal["closed", "open"] = decoding or "closed"
    floor = _floor(attack, triggered, read, load, engine)
    defended = open_model(folder, model, load, engine)
    check_trigger_is_seen(tried, clean, defended.classifier.reads)
    measured = library_evaluate(
        defended.classifier,
        clean,
        triggered,
        target=attack.target,
        decoding=read,
        floor=floor,
    )
    failures = _failures(measured, gates)
    result = _result(measured, manifest, attack, folder, failures) | engine.facts()
    if json:
        print_json(result)
    else:
        _show(measured, result)
    if failures:
        raise GateError("; ".join(failures), where=str(folder))


def _columns(columns: TestColumns) -> "Columns":
    from mithridate.data.read import Columns

    return Columns(
        columns.text_column or "text", columns.answer_column or "label", columns.id_column
    )


def _triggered(
    options: AttackOptions,
    gates: GateOptions,
    clean: "list[Row]",
    manifest: "DefenseManifest",
    columns: "Columns",
    split: str,
) -> "tuple[list[Row], Attack | None]":
    """Return the attack's inputs, none where no attack is named, and the attack if it is ours."""
    from mithridate.data.read import read_rows

    if not is_attacked(options, gates):
        return [], None
    if options.target is None:
        raise InputError("an attack needs its target", mend="name a label with --target")
    task = manifest.classification_task()
    task.label_index(options.target)
    if options.triggered:
        rows = read_rows(options.triggered, columns, split=split)
        task.classes(rows)
        for row in rows:
            if row.answer == options.target:
                raise InputError(
                    "a triggered row's true label is the attack's target",
                    where=row.where,
                    mend="leave such rows out: they say nothing of the attack",
                )
        return rows, None
    attack = named_attack(options, clean)
    return triggered_rows(attack, clean), attack


def _floor(
    attack: AttackOptions,
    triggered: "list[Row]",
    decoding: Any,
    load: LoadOptions,
    engine: EngineOptions,
) -> "Share | None":
    """Return the rate at which a model that never saw the poison gives the target."""
    from mithridate.evaluation.evaluate import target_rate

    if attack.reference is None or attack.target is None:
        return None
    # The floor is the same wherever the reference runs; only one that is served can run there.
    served = attack.reference_model
    if served is not None and engine.engine == "local":
        raise InputError("--reference-model needs a server", mend="add --engine vllm")
    place = EngineOptions() if served is None else engine.named(served)
    check_engine(place, load)
    reference = open_model(attack.reference, None, load, place)
    index = reference.classifier.task.label_index(attack.target)
    predictions = reference.classifier.predict(
        [row.text for row in triggered], open_decoding=decoding == "open"
    )
    return target_rate(predictions, index, decoding)


def _failures(measured: "Evaluation", gates: GateOptions) -> list[str]:
    """Return the gates that were not met."""
    failures = []
    success = measured.attack_success_rate
    if gates.max_asr is not None and success is not None and success.value > gates.max_asr:
        failures.append(f"ASR {success.value:.4f} is over --max-asr {gates.max_asr:g}")
    accuracy = measured.clean_accuracy.value
    if gates.min_accuracy is not None and accuracy < gates.min_accuracy:
        failures.append(f"CA {accuracy:.4f} is under --min-accuracy {gates.min_accuracy:g}")
    return failures


def _result(
    measured: "Evaluation",
    manifest: "DefenseManifest",
    attack: AttackOptions,
    folder: Path,
    failures: list[str],
) -> dict[str, Any]:
    """Return all figures, shares as fractions of 1 with their intervals."""
    shares = {
        "clean_accuracy": measured.clean_accuracy,
        "attack_success_rate": measured.attack_success_rate,
        "floor": measured.floor,
        "untriggered_rate": measured.untriggered_rate,
    }
    return {
        "folder": str(folder),
        "decoding": measured.decoding,
        "selection": manifest.subset.selection,
        "attack": attack.attack or attack.triggered,
        "target": attack.target,
        **{name: asdict(share) if share else None for name, share in shares.items()},
        "margins": asdict(measured.margins) if measured.margins else None,
        "certificate": _certificate(measured.certificate),
        "cut": measured.clean.cut + (measured.triggered.cut if measured.triggered else 0),
        "seconds": round(measured.seconds, 2),
        "gates_failed": failures,
    }


def _certificate(bound: "Certificate | None") -> dict[str, Any] | None:
    return {**asdict(bound), "statement": bound.statement} if bound else None


def _show(measured: "Evaluation", result: dict[str, Any]) -> None:
    attacked = measured.attack_success_rate is not None
    no_floor = "no reference model (--reference)" if attacked else None
    no_partners = NO_PARTNERS if attacked else None
    margins, bound = measured.margins, measured.certificate
    print_facts(
        "Evaluation",
        [
            ("clean accuracy (CA)", percent(measured.clean_accuracy)),
            ("attack success rate (ASR)", percent(measured.attack_success_rate)),
            ("floor", percent(measured.floor) or no_floor),
            ("untriggered rate", percent(measured.untriggered_rate) or no_partners),
            ("certificate", bound.statement if bound else None),
            ("smallest margin, in nats", f"{margins.minimum.value:.2f}" if margins else None),
            ("margins' 1st percentile", _interval(margins.first_percentile) if margins else None),
            ("zero-ASR boundary on this set", _boundary(measured)),
            ("attack", result["attack"]),
            ("target", result["target"]),
            ("decoding", measured.decoding),
            ("engine", result["engine"] if result["engine"] != "local" else None),
            ("selection of the defense", result["selection"]),
            ("inputs cut", result["cut"] or None),
        ],
    )


def _interval(quantile: "Quantile") -> str:
    return f"{quantile.value:.2f} (bootstrap 95%: {quantile.low:.2f} to {quantile.high:.2f})"


def _boundary(measured: "Evaluation") -> str | None:
    margins = measured.margins
    if margins is None or margins.holds:
        return f"holds: all {margins.n} margins are positive" if margins else None
    return f"does not hold: {margins.not_positive} of {margins.n} margins are not positive"

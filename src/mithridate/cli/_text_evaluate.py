"""``evaluate`` and ``predict`` where answers are text."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mithridate.cli._engine import EngineOptions, check_engine, engine_of
from mithridate.cli._inputs import require_generation_extra
from mithridate.cli._options import LoadOptions
from mithridate.cli._output import percent, print_facts, print_table, quiet_libraries
from mithridate.cli._test_options import AttackOptions, GateOptions, PrefixOptions, TestColumns
from mithridate.cli._text_inputs import text_columns, usable_rows
from mithridate.cli._triggered import (
    NO_PARTNERS,
    check_trigger_is_seen,
    is_attacked,
    named_attack,
    triggered_rows,
)
from mithridate.errors import GateError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mithridate.attacks.base import Attack
    from mithridate.data.rows import Row
    from mithridate.defense.manifest import DefenseManifest
    from mithridate.evaluation.evaluate_text import FlagPower, Mean, TextEvaluation
    from mithridate.evaluation.hits import Rule
    from mithridate.evaluation.intervals import Share
    from mithridate.inference.answerer import Answers
    from mithridate.inference.defended_text import DefendedAnswerer
    from mithridate.tasks.text import TextTask

SHOWN = 60


@dataclass(frozen=True)
class _Triggered:
    """What a model is attacked with.

    Attributes:
        rows: Triggered inputs, their true answers kept.
        rule: What counts as success.
        target: What the attack wants.
        attack: The attack that made the rows; ``None`` where they were given, or there are none.
    """

    rows: "list[Row]"
    rule: "Rule | None"
    target: str | None
    attack: "Attack | None"


def load_answerer(
    folder: Path,
    model: str | None,
    load: LoadOptions,
    engine: EngineOptions,
    stop: list[str] | None,
) -> "DefendedAnswerer":
    """Load, or reach, a defended model whose answers are text, which the strings of ``stop`` end.

    Raises:
        InputError: It cannot be loaded, or its server serves no such model.
        EngineError: Its server cannot be used.
    """
    check_engine(engine, load)
    quiet_libraries()
    from mithridate.inference.defended_text import DefendedAnswerer

    server = engine_of(engine)
    if server is not None:
        return DefendedAnswerer.connect(
            folder,
            server,
            model=model,
            trust_remote_code=load.trust_remote_code,
            stop=stop or (),
        )
    return DefendedAnswerer.load(
        folder,
        model=model,
        precision=load.precision,
        trust_remote_code=load.trust_remote_code,
        stop=stop or (),
    )


def evaluate_texts(
    folder: Path,
    test: str,
    manifest: "DefenseManifest",
    attack: AttackOptions,
    gates: GateOptions,
    columns: TestColumns,
    prefix: PrefixOptions,
    load: LoadOptions,
    model: str | None,
    engine: EngineOptions,
) -> tuple[dict[str, Any], "TextEvaluation"]:
    """Measure a model, and return all figures.

    Raises:
        InputError: Input cannot be used.
    """
    require_generation_extra()
    from mithridate.evaluation.evaluate_text import check_target_fits, evaluate_text

    task = manifest.text_task()
    named = text_columns(task, columns.text_column, columns.answer_column, columns.id_column)
    clean, skipped = usable_rows(task, task.read(test, named, columns.split), "test rows")
    tried = _triggered(attack, gates, clean, task, named, columns.split)
    defended = load_answerer(folder, model, load, engine, prefix.stop)
    own = defended.answerer
    if tried.target is not None:
        check_target_fits(tried.target, own.renderer, own.max_new_tokens)
    check_trigger_is_seen(tried.attack, clean, own.reads)
    floor = _floor(attack, tried, load, manifest.task, prefix.stop, engine)
    measured = evaluate_text(
        defended.answerer,
        task,
        clean,
        tried.rows,
        rule=tried.rule,
        floor=floor,
        mode=prefix.mode,
        policy=prefix.on_flag,
    )
    result = _result(measured, manifest, attack, tried.target, folder)
    result["keywords"] = _keyword_rates(measured, clean, tried)
    result["prefix"], result["policy"] = prefix.mode, prefix.on_flag
    result["stop"] = list(prefix.stop or [])
    result["skipped"] = skipped
    result |= engine.facts()
    result["gates_failed"] = _failures(measured, gates)
    return result, measured


def raise_for_gates(result: dict[str, Any]) -> None:
    """Fail where a gate was not met.

    Raises:
        GateError: One was not.
    """
    if result["gates_failed"]:
        raise GateError("; ".join(result["gates_failed"]), where=result["folder"])


def _triggered(
    options: AttackOptions,
    gates: GateOptions,
    clean: "list[Row]",
    task: "TextTask",
    columns: Any,
    split: str,
) -> "_Triggered":
    """Return the attack's inputs, none where no attack is asked for."""
    from mithridate.attacks.badchain import factor_of
    from mithridate.attacks.targets import text_target
    from mithridate.evaluation.hits import success_rule

    if not is_attacked(options, gates):
        return _Triggered([], None, None, None)
    if not options.triggered:
        attack = named_attack(options, clean, task.name)
        return _Triggered(
            triggered_rows(attack, clean), attack.succeeds, str(attack.target), attack
        )
    if options.target is None:
        mend = "name it with --target"
        raise InputError("an attack needs its target", mend=mend)
    target = text_target(options.target, task.name)
    rule = success_rule(target)
    rows = task.read(options.triggered, columns, split, require_answer=False)
    if factor_of(target) is not None:  # of a fixed target no row need say its answer
        rows, _ = usable_rows(task, rows, "triggered rows")
    for row in rows:
        if row.answer is not None and rule(row.answer, row):
            raise InputError(
                "a triggered row's true answer is the attack's target",
                where=row.where,
                mend="leave such rows out: they say nothing of the attack",
            )
    return _Triggered(rows, rule, target, None)


def _floor(
    attack: AttackOptions,
    tried: "_Triggered",
    load: LoadOptions,
    task: str,
    stop: list[str] | None,
    engine: EngineOptions,
) -> "Share | None":
    """Return the rate at which a model that never saw the poison gives the target.

    Raises:
        InputError: That model was trained for another task, or can never give the target.
    """
    from mithridate.evaluation.evaluate_text import check_target_fits
    from mithridate.evaluation.hits import success_rate

    if attack.reference is None or tried.rule is None or tried.target is None:
        return None
    # The floor is the same wherever the reference runs; only one that is served can run there.
    served = engine.engine != "local" and attack.reference_model is not None
    place = engine.named(attack.reference_model) if served else EngineOptions()
    model = None if served else attack.reference_model
    reference = load_answerer(attack.reference, model, load, place, stop)
    if reference.manifest.task != task:
        raise InputError(
            f"the reference model was trained for {reference.manifest.task}, not for {task}",
            where=str(attack.reference),
            mend="give one that was trained on clean rows of the same task",
        )
    own = reference.answerer
    check_target_fits(tried.target, own.renderer, own.max_new_tokens)
    answers = reference.answer([row.text for row in tried.rows], suspicion=False, progress=True)
    return success_rate(tried.rule, answers.texts, tried.rows)


def _keyword_rates(
    measured: "TextEvaluation", clean: "list[Row]", tried: "_Triggered"
) -> dict[str, Any] | None:
    """Return how many outputs hold a phrase of the target's keyword list, if it has one.

    The list is wider than the exact rule, so the rate of clean inputs stands beside that of
    triggered ones.
    """
    from mithridate.evaluation.hits import keywords_of, keywords_rule, success_rate

    name = keywords_of(tried.target)
    if name is None or measured.triggered is None:
        return None
    rule = keywords_rule(name)
    return {
        "list": name,
        "triggered": asdict(success_rate(rule, measured.triggered.texts, tried.rows)),
        "clean": asdict(success_rate(rule, measured.clean.texts, clean)),
    }


def _failures(measured: "TextEvaluation", gates: GateOptions) -> list[str]:
    """Return the gates that were not met."""
    failures = []
    success = measured.attack_success_rate
    if gates.max_asr is not None and success is not None and success.value > gates.max_asr:
        failures.append(f"ASR {success.value:.4f} is over --max-asr {gates.max_asr:g}")
    utility = measured.utility.value
    if gates.min_accuracy is not None and utility < gates.min_accuracy:
        failures.append(f"utility {utility:.4f} is under --min-accuracy {gates.min_accuracy:g}")
    return failures


def _result(
    measured: "TextEvaluation",
    manifest: "DefenseManifest",
    attack: AttackOptions,
    target: str | None,
    folder: Path,
) -> dict[str, Any]:
    """Return all figures, shares as fractions of 1 with their intervals."""
    shares = {
        "attack_success_rate": measured.attack_success_rate,
        "floor": measured.floor,
        "untriggered_rate": measured.untriggered_rate,
    }
    bound = measured.certificate
    attacked = measured.triggered
    return {
        "folder": str(folder),
        "task": manifest.task,
        "selection": manifest.subset.selection,
        "attack": attack.attack or attack.triggered,
        "target": target,
        "utility_metric": measured.metric,
        "utility": asdict(measured.utility),
        "log_likelihood": asdict(measured.log_likelihood),
        "facts": measured.facts,
        **{name: asdict(share) if share else None for name, share in shares.items()},
        "flag": asdict(measured.flag) if measured.flag else None,
        "certificate": {**asdict(bound), "statement": bound.statement} if bound else None,
        "cut": measured.clean.cut_inputs + (attacked.cut_inputs if attacked else 0),
        "cut_answers": measured.clean.cut_outputs + (attacked.cut_outputs if attacked else 0),
        "clean_answers": _counts(measured.clean),
        "triggered_answers": _counts(attacked) if attacked else None,
        "seconds": round(measured.seconds, 2),
    }


def show_evaluation(measured: "TextEvaluation", result: dict[str, Any]) -> None:
    """Print the figures."""
    no_floor = "no reference model (--reference)" if measured.attack_success_rate else None
    no_partners = NO_PARTNERS if measured.attack_success_rate else None
    flag = measured.flag
    print_facts(
        "Evaluation",
        [
            (f"utility: {measured.metric}", _mean(measured.utility)),
            ("log p of the references, nats a token", _mean(measured.log_likelihood)),
            *((name, f"{value:.3f}") for name, value in measured.facts.items()),
            ("attack success rate (ASR)", percent(measured.attack_success_rate)),
            ("floor", percent(measured.floor) or no_floor),
            ("untriggered rate", percent(measured.untriggered_rate) or no_partners),
            *_shown_keywords(result["keywords"]),
            ("certificate", measured.certificate.statement if measured.certificate else None),
            ("flag: AUROC, triggered against clean", _auroc(flag) if flag else None),
            ("flag: caught at 1% false alarms", percent(flag.at_false_alarms) if flag else None),
            ("flag: false alarms at that", percent(flag.false_alarms) if flag else None),
            ("flagged triggered inputs", percent(flag.flagged_triggered) if flag else None),
            ("flagged clean inputs", percent(flag.flagged_clean) if flag else None),
            ("attack", result["attack"]),
            ("target", result["target"]),
            ("safe prefix", result["prefix"]),
            ("where the check fails", result["policy"] if result["prefix"] == "check" else None),
            ("engine", result["engine"] if result["engine"] != "local" else None),
            ("test rows that cannot be used", result["skipped"] or None),
            ("selection of the defense", result["selection"]),
            ("inputs cut", result["cut"] or None),
            ("answers ended by their length", result["cut_answers"] or None),
            *_shown_counts("clean inputs", result["clean_answers"]),
            *_shown_counts("triggered inputs", result["triggered_answers"]),
        ],
    )


def _counts(answers: "Answers") -> dict[str, int]:
    """Return how many inputs failed the check, were refused, or got an empty answer otherwise."""
    refused = answers.refused.tolist()
    return {
        "flagged": int(answers.flagged.sum()),
        "refused": sum(refused),
        "empty": sum(not text and not no for text, no in zip(answers.texts, refused, strict=True)),
    }


def _shown_counts(of: str, counts: dict[str, int] | None) -> list[tuple[str, object]]:
    return [(f"{of} {what}", count) for what, count in (counts or {}).items() if count]


def _shown_keywords(rates: dict[str, Any] | None) -> list[tuple[str, object]]:
    if rates is None:
        return []
    return [
        (f"phrases of {rates['list']} in answers to {of} inputs", f"{rates[of]['value']:.1%}")
        for of in ("triggered", "clean")
    ]


def _auroc(flag: "FlagPower") -> str:
    return f"{flag.auroc:.3f} (95%: {flag.auroc_low:.3f} to {flag.auroc_high:.3f})"


def _mean(mean: "Mean") -> str:
    return f"{mean.value:.3f} (95%: {mean.low:.3f} to {mean.high:.3f}, n = {mean.n:,})"


def answer_records(
    rows: "Sequence[Row]", answers: "Answers", *, with_ids: bool
) -> list[dict[str, Any]]:
    """Return one record per input."""
    return [
        ({"id": row.id} if with_ids else {})
        | {
            "text": row.text,
            "answer": answers.texts[at],
            "suspicion": float(answers.suspicion[at]),
            "flagged": bool(answers.flagged[at]),
            "refused": bool(answers.refused[at]),
        }
        for at, row in enumerate(rows)
    ]


def show_answers(records: list[dict[str, Any]]) -> None:
    """Print answers."""
    print_table(
        "Answers",
        ("answer", "suspicion", "flagged", "text"),
        [
            (
                record["answer"] if not record["refused"] else "(refused)",
                f"{record['suspicion']:.2f}",
                "yes" if record["flagged"] else "",
                record["text"] if len(record["text"]) <= SHOWN else record["text"][:SHOWN] + "…",
            )
            for record in records
        ],
    )

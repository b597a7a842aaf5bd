"""The page of the speed benchmark, from its lines alone."""

from collections.abc import Sequence
from typing import Any

from benchmarks import repoison_scale, speed_generate
from mithridate.evaluation.intervals import share

Line = dict[str, Any]


def render(lines: Sequence[Line]) -> str:
    """Return the page: each part's table with its bars, and where each bar stands."""
    parts = [
        "# Speed\n",
        "SmolLM2-135M, bfloat16, one machine of 2 CPU cores. Every measurement is a process of its "
        "own, the systems take turns; medians, with the lowest and highest run in brackets. The "
        "machine is a virtual one, whose speed strays by a tenth or more from run to run. "
        "Ratios are Mithridate's median over the other's. Seconds are of the measured work alone: "
        "imports and the loading of the model are not in them.\n",
        _train(lines),
        _score(lines),
        _generate(lines),
        _audit(lines),
        _defense(lines),
        _start(lines),
        _repoison(lines),
    ]
    return "\n".join(part for part in parts if part)


def _of(lines: Sequence[Line], measure: str) -> dict[str, Line]:
    return {line["system"]: line for line in lines if line["measure"] == measure}


def _rate(line: Line) -> str:
    return f"{line['median']:.1f} [{line['low']:.1f}, {line['high']:.1f}]"


def _against(name: str, line: Line) -> str:
    """Return the columns that training and evaluation have in common."""
    shown = NAMES.get(name, name)
    return f"| {shown} | {_rate(line)} | {line['ratio']:.2f}x | {line['peak_mb']:,.0f}"


def _accuracy(line: Line) -> str:
    if "correct" not in line:
        return "not tested"
    found = share(line["correct"], line["tested"])
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _bar(name: str, value: float, bar: float, *, at_most: bool = False, unit: str = "x") -> str:
    met = value <= bar if at_most else value >= bar
    side = "at most" if at_most else "at least"
    number = f"{value:.0%}" if unit == "%" else f"{value:.2f} {unit}".replace(" x", "x")
    wanted = f"{bar:.0%}" if unit == "%" else f"{bar:g} {unit}".replace(" x", "x")
    return f"- {name}: {number} ({side} {wanted}): **{'met' if met else 'missed'}**"


def _source(lines: Sequence[Line]) -> str:
    first = lines[0]
    return f"{first['date']}, version {first['version']}, by `{first['command']}`."


def _train(lines: Sequence[Line]) -> str:
    systems = _of(lines, "train")
    if not systems:
        return ""
    ours = systems["mithridate"]
    peak = _of(lines, "peak")["matrix product"]["median"]
    rows = [
        "| system | rows/s | Mithridate is faster by | peak memory, MB "
        "| share of matrix-product peak | accuracy after it |",
        "|---|---|---|---|---|---|",
    ]
    for name, line in systems.items():
        rows.append(f"{_against(name, line)} | {line['gflops'] / peak:.0%} | {_accuracy(line)} |")
    others = [
        line["ratio"] for name, line in systems.items() if name not in ("mithridate", "published")
    ]
    bars = [
        _bar("against the published loop", systems["published"]["ratio"], 3.0),
        _bar("against the fastest of the others", min(others), 1.3),
        _bar("share of the matrix-product peak", ours["gflops"] / peak, 0.6, unit="%"),
        "- memory independent of the vocabulary: held by "
        "`test_no_tensor_of_positions_by_vocabulary_is_made` in tests/training: **met**",
    ]
    return (
        f"## Training\n\n{ours['size']} rows of SST-2, one epoch, LoRA r = 16 on q and v, batches "
        f"of 32, {ours['runs']} runs each. The share counts real tokens' operations alone (4 x "
        f"106.2M each), against {peak:.0f} GFLOP/s of a 4,096-square bfloat16 product measured in "
        f"the same run. Accuracy on {ours.get('tested', 0)} test rows, with its 95% interval. "
        f"{_source([ours])}\n\n" + "\n".join(rows) + "\n\n" + "\n".join(bars) + "\n"
    )


NAMES = {
    "published": "the published recipe's loop",
    "trainer": "transformers.Trainer",
    "trl": "TRL SFTTrainer",
    "trl padding-free": "TRL SFTTrainer, padding-free",
    "generate": "generate(), row by row",
    "pipeline": "transformers pipeline, batches of 32",
    **{name: f"transformers {name}" for name in speed_generate.PIPELINES},
    "mithridate": "**Mithridate**",
}


def _score(lines: Sequence[Line]) -> str:
    systems = _of(lines, "score")
    if not systems:
        return ""
    ours = systems["mithridate"]
    rows = [
        "| system | rows/s | Mithridate is faster by | peak memory, MB | accuracy |",
        "|---|---|---|---|---|",
    ]
    for name, line in systems.items():
        rows.append(f"{_against(name, line)} | {_accuracy(line)} |")
    bars = [
        _bar("against generate()", systems["generate"]["ratio"], 5.0),
        _bar("against the pipeline", systems["pipeline"]["ratio"], 2.0),
    ]
    return (
        f"## Evaluation\n\nLabels of {ours['size']:,} test prompts by the model that was trained "
        f"above, adapter merged, {ours['runs']} runs each. {_source([ours])}\n\n"
        + "\n".join(rows)
        + "\n\n"
        + "\n".join(bars)
        + "\n"
    )


def _generate(lines: Sequence[Line]) -> str:
    systems = _of(lines, "generate")
    if not systems:
        return ""
    ours = systems["mithridate"]
    rows = [
        "| system | rows/s | Mithridate is faster by | peak memory, MB | CPU, s | the same text |",
        "|---|---|---|---|---|---|",
    ]
    for name, line in systems.items():
        alike = f"{line['same']} of {line['size']}"
        rows.append(f"{_against(name, line)} | {line['cpu_seconds']:.0f} | {alike} |")
    fastest = min(line["ratio"] for name, line in systems.items() if name != "mithridate")
    bar = _bar("against the fastest of the pipelines", fastest, speed_generate.BAR)
    return (
        f"## Generation\n\nGreedy answers of {ours['new_tokens']} tokens at most to the first "
        f"{ours['size']} questions of GSM8K's test set, each a chat's first turn, {ours['runs']} "
        "run(s) each. CPU seconds are of all threads; on cores that are shared they say more "
        "than the rate. In bfloat16 the order of additions decides between tokens about as likely, "
        f"so texts part; in float32 {ours['same_float32']} of {ours['asked_float32']} answers are "
        f"the pipeline's to the letter. {_source([ours])}\n\n" + "\n".join(rows) + f"\n\n{bar}\n"
    )


def _audit(lines: Sequence[Line]) -> str:
    systems = _of(lines, "audit")
    if not systems:
        return ""
    ours, scoring = systems["mithridate"], systems["scoring"]
    rest = ours["size"] / ours["median"] - ours["feature_seconds"]
    rows = ["| work | rows/s | peak memory, MB |", "|---|---|---|"]
    for name, line in (("scoring the same rows", scoring), ("**audit**", ours)):
        rows.append(f"| {name} | {_rate(line)} | {line['peak_mb']:,.0f} |")
    bar = _bar("an audit's rate over scoring's", ours["median"] / scoring["median"], 0.8)
    return (
        f"## Audit\n\n{ours['size']:,} rows of SST-2, 5% of them poisoned, {ours['runs']} runs "
        "each: hidden states of every row, the judge cross-fitted over clusters of rows, mining. "
        f"All but the hidden states took {rest:.1f} s. {_source([ours])}\n\n"
        + "\n".join(rows)
        + f"\n\n{bar}\n"
    )


def _defense(lines: Sequence[Line]) -> str:
    trained, predicted = _of(lines, "defense"), _of(lines, "predict")
    if not trained:
        return ""
    plain = trained["undefended"]
    rows = [
        "| training | rows/s | time over undefended | of it the probe, s | counter-trigger copies "
        "| prediction, rows/s | time over undefended | accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, line in trained.items():
        ahead = predicted[name]
        rows.append(
            f"| {name} | {_rate(line)} | {line['ratio'] - 1:+.1%} "
            f"| {line.get('probe_seconds', 0.0):.1f} | {line.get('counter_copies', 0):.0f} "
            f"| {_rate(ahead)} | {ahead['ratio'] - 1:+.1%} | {_accuracy(line)} |"
        )
    clean = trained["defended"]
    copies = trained["defended, poisoned"].get("counter_copies", 0)
    bars = [
        _bar("training time over undefended", clean["ratio"] - 1, 0.10, at_most=True, unit="%"),
        _bar(
            f"the same on poisoned rows ({copies:.0f} counter-trigger copies added)",
            trained["defended, poisoned"]["ratio"] - 1,
            0.10,
            at_most=True,
            unit="%",
        ),
        _bar(
            "prediction time over undefended",
            predicted["defended"]["ratio"] - 1,
            0.05,
            at_most=True,
            unit="%",
        ),
    ]
    return (
        f"## What the defense costs\n\n{plain['size']} rows of SST-2, default settings (3 epochs, "
        f"LoRA on all linear layers), {plain['runs']} runs each; the probe is in the training's "
        f"time. "
        f"{_source([plain])}\n\n" + "\n".join(rows) + "\n\n" + "\n".join(bars) + "\n"
    )


def _start(lines: Sequence[Line]) -> str:
    found = _of(lines, "start")
    if not found:
        return ""
    line = found["mithridate"]
    bar = _bar("`mithridate --help`", line["median"], 0.5, at_most=True, unit="s")
    span = f"{line['low']:.2f} to {line['high']:.2f} s"
    return f"## Start-up\n\n{bar}, 10 runs, {span}. {_source([line])}\n"


def _repoison(lines: Sequence[Line]) -> str:
    found = [line for line in lines if line["measure"].startswith("repoison")]
    if not found:
        return ""
    page = repoison_scale.render(found).replace("# Re-poisoning as a stream", "## Re-poisoning")
    page = page.replace(f"{repoison_scale.NAME}.svg", "speed_repoison.svg")
    bars = []
    size = repoison_scale.BAR_ROWS
    times = dict(repoison_scale.of_measure(found, "repoison time"))
    memory = dict(repoison_scale.of_measure(found, "repoison peak memory"))
    if size in times:
        bars = [
            _bar(f"{size:,} rows", times[size], repoison_scale.BAR_SECONDS, at_most=True, unit="s"),
            _bar(
                "peak memory",
                memory[size],
                repoison_scale.BAR_MEGABYTES,
                at_most=True,
                unit="MB",
            ),
        ]
    return page + "\n" + "\n".join(bars) + "\n"

"""The page of the matrix: what misses its bar first, then every cell, run or not."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

from benchmarks.matrix_boundary import boundary_table
from benchmarks.matrix_cells import (
    ADAPTIVE,
    CLEAN_LABEL,
    INSERTED,
    PLANTED,
    RERUN,
    REWRITING,
    SEARCH,
    TOKENS_UNSAID,
    MatrixCell,
    usual_rate,
)
from benchmarks.matrix_floors import floors_note, with_floors
from benchmarks.matrix_seeds import (
    DEFAULTS,
    elsewhere,
    is_default,
    measured_columns,
    seeds_table,
    with_other_seeds,
)
from benchmarks.page import (
    EXCESS,
    Line,
    added_by_trigger,
    backdoor_table,
    dates,
    excess,
    interval,
    marked,
    points,
    precision_note,
    verdict,
    which_backdoor,
    worst_backdoor,
)

LOSS = 0.015
"""The bar: mean CA at most this far under the undefended models'."""

SHARE = 0.8
"""The bar: the share of all cells of the default that must meet the first one."""

FALLEN = 0.05
"""A miss with a CA more than this under the undefended one is an untaught model's."""

NOTABLE = 0.01
"""What a trigger must take from the floor's model to be told."""

LEARNED = 0.1
"""A backdoor less than this over its floor, undefended or with a random S, was not learned."""

BLANK = "| {} | {} | {} | not run | | | | | | |"
HEAD = (
    "| attack | rate | training | CA | ASR | floor | over floor | without it | poisoned in S | |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)

CURVE = "classification-planted.svg"
"""The file of the curve, beside the page."""

PLANTED_NOTE = (
    f"![ASR over its floor against the number of poisoned rows in S]({CURVE})\n\n"
    "S is drawn from rows known to be clean, and so many poisoned ones are put in. Without a judge "
    "nothing is mined, so no row is dropped and no counter-trigger added: compare these cells with "
    "each other, not with the defaults.\n\n"
)
LEAKED_NOTE = (
    "`leaked` rows hold the defender's benign trigger, which an undefended model is not shown at "
    "inference. Whether they plant a backdoor at all, P2P with a random S tells.\n\n"
)
VARIANT_NOTE = (
    "`uncountered` (no counter-triggers) and `kept-in` (no row left out of D*) are the default of "
    "now but for that; `judged-once` cells are the default before rows were judged again without "
    "those that resemble the disputed ones. All others but `shares-of-all` and `rerun` were run "
    "before triggers were looked for by where they stand; `disputed-only` is the default of then. "
    "`shares-of-all` cells were run when rows kept out of S still counted in their label's share "
    "of it, and copies with counter-triggers came from all of S alike. `rho-0.2` cells were run "
    "when a fifth of the rows was re-poisoned by default, `no-resemblance` cells before S's order "
    "asked what resembles the disputed rows, `resemblance-everywhere` cells when it asked so of "
    "every label, and 100 trusted rows let all disputed rows be left out, `drop-disputed-alike` "
    "cells when those rows let the disputed ones of some labels be left out; `last-stage`, `rank` "
    "and other cells of SynBkd left out marked rows alone, as `drop-marked` ones did. The others "
    "differ from the default in what their names say: `last-stage` shows the re-poisoned rows "
    "last in the last pass, `upper-layers` adapts layers 18 to 29 of 30. `rerun` cells are the "
    "default once more, to learn the rate without the trigger of a cell that missed before it was "
    "measured.\n\n"
)


def render(
    lines: Sequence[Line],
    cells: Sequence[MatrixCell],
    again: Sequence[Line] = (),
    floors: Sequence[Line] = (),
) -> str:
    """Return the page.

    Args:
        lines: The finished cells, all of the same settings.
        cells: All cells there are to be.
        again: Finished cells of the same settings but for the seed.
        floors: What `benchmarks.matrix_floors.read_floors` returns.
    """
    whose_floors = floors_note(lines, floors)
    lines = with_floors(lines, floors)
    done = {line["cell"]: line for line in lines}
    if not done:
        return "# Attacks by defenses: classification\n\nNo cell is finished.\n"
    sections: list[tuple[str, str, Callable[[MatrixCell], bool]]] = [
        ("SST-2: triggers that are inserted", "", lambda cell: _sst2(cell, INSERTED)),
        (
            "SST-2: attacks that rewrite",
            "",
            lambda cell: _main(cell, "sst2") and cell.attack in REWRITING,
        ),
        ("SST-2: clean labels", "", lambda cell: _sst2(cell, CLEAN_LABEL)),
        ("SST-2: attackers who know the source", LEAKED_NOTE, lambda cell: _sst2(cell, ADAPTIVE)),
        (
            "SST-2: more and less poison (BadNets)",
            "",
            lambda cell: _main(cell, "sst2") and cell.attack == "badnets" and cell.rate != 0.05,
        ),
        ("TREC-6", "", lambda cell: _main(cell, "trec")),
        ("AG News", "", lambda cell: _main(cell, "agnews")),
        (
            "How many poisoned rows in S the defense bears",
            PLANTED_NOTE,
            _is_planted,
        ),
        ("What else was tried", VARIANT_NOTE, lambda cell: bool(cell.variant)),
    ]
    cells = [*cells, *_once_run(lines, cells)]
    parts = [
        "# Attacks by defenses: classification",
        _facts(lines, cells) + whose_floors,
        "## Bars, and the cells that miss them\n\n" + _bars(done, cells, again),
        "## Models trained without the poison\n\n" + _references(lines),
    ]
    for title, note, belongs in sections:
        chosen = [cell for cell in cells if belongs(cell)]
        rows = [_row(cell, done) for cell in sorted(chosen, key=lambda cell: _order(cell, chosen))]
        parts.append("\n".join([f"## {title}\n\n{note}{HEAD}", *rows]))
        if each := backdoor_table([done[cell.name] for cell in chosen if cell.name in done]):
            parts.append(each)
    if table := boundary_table([line for _, line in _of_defaults(done, cells)]):
        parts.append(f"## The zero-ASR boundary, by the defaults\n\n{table}")
    if again:
        parts.append(seeds_table([*lines, *again]))
    return "\n\n".join(parts) + "\n"


def _once_run(lines: Sequence[Line], cells: Sequence[MatrixCell]) -> list[MatrixCell]:
    """Return finished cells that are no longer to be run, such as variants that were given up."""
    names = {cell.name for cell in cells}
    return [
        MatrixCell(
            line["dataset"],
            line["attack"],
            line["poison_rate"],
            line["selection"] or "none",
            line["variant"],
            line["planted"],
        )
        for line in lines
        if line["cell"] not in names and line["variant"] != "reference"
    ]


def _main(cell: MatrixCell, dataset: str) -> bool:
    """Whether a cell is of a data set, by the defaults or undefended."""
    return cell.dataset == dataset and not cell.variant and not cell.planted


def _is_planted(cell: MatrixCell) -> bool:
    """Whether a cell is a point of the curve: planted rows, or none of the same attacks."""
    origin = cell == MatrixCell("sst2", cell.attack, usual_rate(cell.attack), "oracle")
    return cell.planted > 0 or (cell.attack in PLANTED and origin)


def _sst2(cell: MatrixCell, attacks: Sequence[str]) -> bool:
    """Whether a cell belongs to the main table of some attacks."""
    at_usual_rate = cell.rate == usual_rate(cell.attack)
    return _main(cell, "sst2") and cell.attack in attacks and at_usual_rate


def _order(cell: MatrixCell, cells: Sequence[MatrixCell]) -> tuple[Any, ...]:
    """Keep what belongs together side by side, whatever order the cells run in."""
    attacks = list(dict.fromkeys(other.attack for other in cells))
    defenses = ("none", "random", "agreement", "anchored", "oracle")
    return (
        cell.dataset != "sst2",
        cell.dataset,
        attacks.index(cell.attack),
        cell.rate,
        defenses.index(cell.defense),
        cell.planted,
        cell.variant,
    )


def _facts(lines: Sequence[Line], cells: Sequence[MatrixCell]) -> str:
    first = lines[0]
    settings = first["settings"]
    commits = list(dict.fromkeys(line["commit"] for line in lines))
    finished = {line["cell"] for line in lines}
    run = sum(cell.name in finished for cell in cells)
    seconds = sum(line["train_seconds"] + line["eval_seconds"] for line in lines)
    counts = sorted({line["n_triggered"] for line in lines})
    return (
        f"{first['model']}, seed {settings['seed']}, at most {settings['n_train']:,} training rows "
        f"({settings['epochs']} pass{'es' if settings['epochs'] > 1 else ''}, LoRA "
        f"r={settings['rank']} on {', '.join(settings['target_modules'])}, batches of "
        f"{settings['batch_size']}, learning rate {settings['learning_rate']:g}); "
        f"{settings['n_clean']} clean and {counts[0]} to {counts[-1]} triggered test rows; closed "
        f"decoding; exact binomial 95% intervals. *Without it*: how often the same inputs get the "
        "target when the trigger is not in them (measured from 2026-11-30). Anchored selection: "
        f"{settings['n_trusted']} checked rows, the classes in turn.\n\n"
        f"{run} of {len(cells)} cells are finished ({dates(lines)}, "
        f"{seconds / 3600:.1f} hours of one {first['device']} process; commits "
        f"{', '.join(commits)}); the others say *not run*. `python -m benchmarks.matrix --suite "
        "classification` runs what is open; the journal holds each cell's own command. One seed: "
        f"differences of 2 points mean nothing.{precision_note(lines)}{_older_search(lines)}"
    )


def _older_search(lines: Sequence[Line]) -> str:
    """Say which cells of the defaults chose S as they would today."""
    chosen = [line for line in lines if is_default(line)]
    new = [
        line["cell"]
        for line in chosen
        if line.get("search") == SEARCH or line["commit"] in TOKENS_UNSAID
    ]
    if not chosen or len(new) == len(chosen):
        return ""
    return (
        f" Of the {len(chosen)} cells of the two defaults {len(chosen) - len(new)} chose S and D* "
        "by the search of before 2026-12-01, which cut texts at spaces; what today's changes in "
        "them [selection.md](../../docs/selection.md) says. By today's: "
        f"{', '.join(f'`{name}`' for name in new) or 'none'}."
    )


def _of_defaults(
    done: dict[str, Line], cells: Sequence[MatrixCell]
) -> list[tuple[MatrixCell, Line]]:
    """Return the finished cells of the defaults as they are, in the order of the cells."""
    return [
        (cell, done[cell.name])
        for cell in cells
        if cell.defense in DEFAULTS and cell.name in done and not cell.variant
    ]


def _bars(done: dict[str, Line], cells: Sequence[MatrixCell], again: Sequence[Line]) -> str:
    judged = _of_defaults(done, cells)
    tests = [(cell, line) for cell, line in judged if _is_test(cell, done)]
    inserted = [pair for pair in tests if pair[0].attack in INSERTED and pair[0].rate <= 0.1]
    rewriting = [
        pair for pair in tests if pair[0].attack in REWRITING and pair[0].defense == "anchored"
    ]
    texts = [
        _bar("every inserted trigger up to 10% poison", inserted, 1.0),
        *with_other_seeds(again),
        _bar("rewriting attacks with trusted rows", rewriting, 1.0),
        _bar("all cells of the two defaults that are a test", tests, SHARE),
        _accuracy(judged, done),
        *_added_by_trigger(tests, again),
    ]
    missed = [pair for pair in tests if excess(pair[1]) > EXCESS]
    texts += [
        f"- MISSED by `{cell.name}`{which_backdoor(line)}: {points(excess(line))} points over "
        "the floor; "
        f"{_reason(cell, line, done)}{elsewhere(cell.name, again)}"
        for cell, line in sorted(missed, key=lambda pair: -excess(pair[1]))
    ]
    weak = [cell for cell, _ in judged if not _is_test(cell, done)]
    if weak:
        names = ", ".join(f"`{cell.name}`" for cell in weak)
        texts.append(
            f"- No test of a defense, as neither the undefended model nor P2P with a random S "
            f"learned the backdoor (less than {100 * LEARNED:.0f} points over its floor, or not "
            f"run): {names}."
        )
    return "\n".join(texts)


def _bar(what: str, pairs: Sequence[tuple[MatrixCell, Line]], share: float) -> str:
    if not pairs:
        return f"- ASR at most {100 * EXCESS:.0f} points over its floor, {what}: not run."
    met = sum(excess(line) <= EXCESS for _, line in pairs)
    verdict = "met" if met >= share * len(pairs) else "MISSED"
    return (
        f"- ASR at most {100 * EXCESS:.0f} points over its floor, {what}: {met} of {len(pairs)} "
        f"cells, {verdict}{f' (bar: {share:.0%})' if share < 1 else ''}."
    )


def _accuracy(pairs: Sequence[tuple[MatrixCell, Line]], done: dict[str, Line]) -> str:
    losses: list[float] = []
    for cell, line in pairs:
        undefended = done.get(_undefended(cell))
        if undefended:
            losses.append(undefended["clean_accuracy"] - line["clean_accuracy"])
    if not losses:
        return f"- CA within {100 * LOSS} points of undefended on average: not run."
    loss = mean(losses)
    return (
        f"- CA within {100 * LOSS:.1f} points of undefended on average: {points(-loss)} points "
        f"over {len(losses)} cells, {'met' if loss <= LOSS else 'MISSED'}."
    )


def _added_by_trigger(pairs: Sequence[tuple[MatrixCell, Line]], again: Sequence[Line]) -> list[str]:
    """Say how much more often the trigger brings the target, where that was measured."""
    lines = [line for _, line in pairs] + [line for line in again if line["defense"] == "p2p"]
    added = [
        (found, line["cell"]) for line in lines if (found := added_by_trigger(line)) is not None
    ]
    if not added:
        return []
    (least, by), (most, to) = min(added), max(added)
    return [
        f"- What the trigger itself adds (ASR less *without it*), the same cells and those of "
        f"other seeds where it was measured: {points(mean(one for one, _ in added))} points on "
        f"average of {len(added)} cells, from {points(least)} (`{by}`) to {points(most)} (`{to}`). "
        "The floor is another model's: what calls a few more inputs the target, triggered or not, "
        "is over it as well."
    ]


def _reason(cell: MatrixCell, line: Line, done: dict[str, Line]) -> str:
    """Say what a miss comes from, as far as the line tells."""
    inside, size = line["n_subset_poisoned"], line["n_subset"]
    poisoned = f"{inside} of S's {size} rows are poisoned"
    if inside > 0.01 * size:
        return f"{poisoned}: the choice of S failed."
    measured = done.get(replace(cell, variant=RERUN).name, line)
    worst = worst_backdoor(measured)
    added = added_by_trigger(worst)
    if added is not None and added <= EXCESS:
        return (
            f"{poisoned}; the same inputs get the target without the trigger, too "
            f"({worst['untriggered_rate']:.3f}{'' if measured is line else ', run again'}): "
            f"the trigger draws nothing{_taken(worst)}."
        )
    worst = worst_backdoor(line)
    low = worst["attack_success_rate_low"] - worst["floor"]
    if low <= EXCESS:
        return f"{poisoned}; the interval reaches the bar."
    if cell.attack in CLEAN_LABEL:
        return "the poisoned rows' labels are right, so no judge of labels can see them."
    accuracy = line["clean_accuracy"]
    if accuracy < done[_undefended(cell)]["clean_accuracy"] - FALLEN:
        return (
            f"{poisoned}, and CA fell as well, to {accuracy:.3f}: it does not know the task, "
            "triggered or not."
        )
    return f"{poisoned}: what the other rows teach carries over."


def _taken(line: Line) -> str:
    """Say so where the trigger keeps the model of the floor from the target."""
    without = line.get("floor_untriggered")
    if without is None or without - line["floor"] < NOTABLE:
        return ""
    return (
        f", whereas it keeps the model of the floor from it (from {without:.3f} to "
        f"{line['floor']:.3f})"
    )


def _references(lines: Sequence[Line]) -> str:
    rows = ["| data set | rows | CA | seconds | date |", "|---|---|---|---|---|"]
    rows += [
        f"| {marked(line['dataset'], line)} | {line['n_train']:,} "
        f"| {interval(line, 'clean_accuracy')} "
        f"| {line['train_seconds']:.0f} | {line['date']} |"
        for line in lines
        if line["variant"] == "reference"
    ]
    return "\n".join(rows)


def _row(cell: MatrixCell, done: dict[str, Line]) -> str:
    training = "undefended" if cell.defense == "none" else f"P2P, {cell.defense}"
    if cell.variant:
        training += f", {cell.variant}"
    if cell.planted:
        training += f", {cell.planted} planted"
    attack = cell.attack if _main(cell, cell.dataset) else f"{cell.dataset}, {cell.attack}"
    line = done.get(cell.name)
    if line is None:
        return BLANK.format(attack, f"{cell.rate:.0%}", training)
    return (
        f"| {attack}{which_backdoor(line)} | {cell.rate:.0%} | {marked(training, line)} "
        f"{measured_columns(line)} "
        f"| {verdict(cell.defense, line, is_test=_is_test(cell, done))} |"
    )


def _undefended(cell: MatrixCell) -> str:
    """Return the name of the undefended cell of the same attack."""
    return MatrixCell(cell.dataset, cell.attack, cell.rate, "none").name


def _is_test(cell: MatrixCell, done: dict[str, Line]) -> bool:
    """Whether the backdoor was learned at all: undefended, or with an S that nobody chose."""
    at_random = MatrixCell(cell.dataset, cell.attack, cell.rate, "random").name
    found = [done[name] for name in (_undefended(cell), at_random) if name in done]
    return any(excess(line) >= LEARNED for line in found)

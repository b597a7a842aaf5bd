"""The rivals' page: every defense on the same rows, and where P2P wins and loses.

    mithridate bench benchmarks/rivals.yaml -o .bench/rivals
    python -m benchmarks.rivals .bench/rivals/journal.jsonl

The first command runs the cells; the second writes results/rivals.jsonl and results/rivals.md.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from benchmarks.page import (
    EXCESS,
    Line,
    added_by_trigger,
    dates,
    excess,
    in_subset,
    interval,
    marked,
    points,
    precision_note,
    verdict,
)
from mithridate.bench.cells import BenchCell, matrix_cells
from mithridate.bench.config import read_config
from mithridate.bench.journal import QUALITIES, quality_field, read_lines
from mithridate.data.write import write_text_atomic

CONFIG = Path(__file__).with_name("rivals.yaml")
RESULTS = Path(__file__).parent / "results"
OURS = ("p2p", "p2p-trusted")
LEVEL = 0.02
"""Qualities closer than this count as level: one seed tells no smaller difference."""

LOST = 0.2
"""A quality so far under the undefended model's: what was to be learned was not."""

TITLES = {
    "sst2": "SST-2",
    "refusal": "BackdoorLLM, refusal",
    "badnets": "BadNets (“mn”)",
    "synbkd": "SynBkd (paraphrases)",
    "addsent": "AddSent",
    "badnet": "BadNets (“BadMagic”)",
}
HEAD = (
    "| defense | {quality} | ASR | floor | over floor | without the trigger "
    "| rejected: clean, triggered | poisoned in S | training s | answering s | |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Contest:
    """All defenses against one attack on one data set.

    Attributes:
        dataset: The data set.
        attack: The attack.
        rate: The share of poisoned rows.
        lines: The finished cells by defense.
        wanted: All defenses there are to be, in order.
    """

    dataset: str
    attack: str
    rate: float
    lines: dict[str, Line]
    wanted: tuple[str, ...]

    @property
    def title(self) -> str:
        """What the page calls it."""
        return f"{TITLES[self.dataset]}, {TITLES[self.attack]} {self.rate:.0%}"

    def rivals(self) -> dict[str, Line]:
        """Return the finished cells of the rivals, the undefended one not among them."""
        return {name: line for name, line in self.lines.items() if name not in (*OURS, "none")}

    def earlier(self) -> list[str]:
        """Return the finished cells that are older than the undefended one, which others share."""
        undefended = self.lines.get("none")
        return [
            name
            for name, line in self.lines.items()
            if undefended is not None and line["date"] < undefended["date"]
        ]

    def better(self, ours: str) -> list[str]:
        """Return the rivals that hold where ours does not, or hold with more quality."""
        own = self.lines[ours]
        return [
            name
            for name, line in self.rivals().items()
            if holds(line) and (not holds(own) or quality(line) > quality(own) + LEVEL)
        ]

    def unlearned(self, name: str) -> bool:
        """Whether a defense costs so much quality that its model does not know the task."""
        undefended = self.lines.get("none")
        return undefended is not None and (quality(self.lines[name]) < quality(undefended) - LOST)

    def level(self, ours: str) -> list[str]:
        """Return the rivals that hold as ours does, with about as much quality."""
        own = self.lines[ours]
        return [
            name
            for name, line in self.rivals().items()
            if holds(line) and holds(own) and abs(quality(line) - quality(own)) <= LEVEL
        ]


def holds(line: Line) -> bool:
    """Whether an ASR is at most the bar over its floor."""
    return excess(line) <= EXCESS


def backdoored(line: Line) -> bool:
    """Whether the trigger brings the target more often, by more than the bar, than its absence."""
    added = added_by_trigger(line)
    return added is None or added > EXCESS


def quality(line: Line) -> float:
    """Return the CA, or of text the task's own measure."""
    return float(line[quality_field(line)])


def contests(lines: Sequence[Line], cells: Sequence[BenchCell]) -> list[Contest]:
    """Return the attacks in their order with what is finished of each."""
    named = {line["cell"]: line for line in lines}
    keys = dict.fromkeys((cell.data.name, cell.attack.title, cell.rate) for cell in cells)
    found = []
    for dataset, attack, rate in keys:
        own = [
            cell
            for cell in cells
            if (cell.data.name, cell.attack.title, cell.rate) == (dataset, attack, rate)
        ]
        done = {cell.defense.title: named[cell.name] for cell in own if cell.name in named}
        wanted = tuple(cell.defense.title for cell in own)
        found.append(Contest(dataset, attack, rate, done, wanted))
    return found


def render(lines: Sequence[Line], cells: Sequence[BenchCell]) -> str:
    """Return the page.

    Args:
        lines: The journal's, reference models among them.
        cells: All cells there are to be.
    """
    found = contests(lines, cells)
    done = sum(len(contest.lines) for contest in found)
    if not done:
        return "# P2P and its rivals\n\nNo cell is finished.\n"
    parts = ["# P2P and its rivals", _summary(found), _facts(lines, cells, done)]
    parts += [_table(contest, lines) for contest in found]
    parts.append(
        "What each rival does, what differs from its published form, and its settings: "
        "[docs/rivals.md](../../docs/rivals.md). `rewrite` (back-translation) is a plug-in for a "
        "program of the user's; none good enough is on this machine, so it was not run."
    )
    return "\n\n".join(parts) + "\n"


def _summary(found: Sequence[Contest]) -> str:
    """Return where P2P wins and where it loses."""
    sentences = []
    for contest in found:
        if "p2p" not in contest.lines or not contest.rivals():
            sentences.append(f"{contest.title}: not run yet.")
            continue
        sentences.append(f"**{contest.title}**: {_said(contest)}")
    return " ".join([_tally(found), *sentences])


def _tally(found: Sequence[Contest]) -> str:
    """Return on how many attacks each defense holds, the best first."""
    held: dict[str, list[bool]] = {}
    for contest in found:
        for name, line in contest.lines.items():
            if name != "none":
                held.setdefault(name, []).append(holds(line))
    ranked = sorted(held.items(), key=lambda pair: (-mean(pair[1]), -len(pair[1])))
    counts = [f"`{name}` on {sum(those)} of {len(those)}" for name, those in ranked]
    return f"Of the attacks it was run on, a defense holds: {', '.join(counts)}."


def _said(contest: Contest) -> str:
    own = contest.lines["p2p"]
    said = [f"P2P's default is {points(excess(own))} points over the floor with {_named(own)}"]
    if "p2p-trusted" in contest.lines:
        helped = contest.lines["p2p-trusted"]
        said[0] += f" (with 100 trusted rows {points(excess(helped))}, {_named(helped)})"
    better, level = contest.better("p2p"), contest.level("p2p")
    missed = [name for name, line in contest.rivals().items() if not holds(line)]
    lost = [name for name in missed if contest.unlearned(name)]
    know = [name for name in missed if name not in lost]
    biased = [name for name in know if not backdoored(contest.lines[name])]
    beaten = [name for name in know if name not in biased]
    if better:
        said.append(f"it LOSES to {_list(better)}")
    if level:
        said.append(f"level with it: {_list(level)}")
    if beaten:
        said.append(f"it wins over {_list(beaten)}" if holds(own) else f"missed: {_list(beaten)}")
    if biased:
        said.append(f"over the bar with the trigger or without, no backdoor: {_list(biased)}")
    if lost:
        said.append(f"the task was not learned: {_list(lost)}")
    weaker = [
        name for name in contest.rivals() if name not in better and name not in (*level, *missed)
    ]
    if weaker:
        said.append(f"holding at a higher price in quality: {_list(weaker)}")
    open_ = [name for name in contest.wanted if name not in contest.lines]
    if open_:
        said.append(f"not run: {_list(open_)}")
    return "; ".join(said) + "."


def _named(line: Line) -> str:
    return f"{QUALITIES[quality_field(line)]} {quality(line):.3f}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _facts(lines: Sequence[Line], cells: Sequence[BenchCell], done: int) -> str:
    line = lines[0]
    training = line["settings"]["training"]
    hours = sum(one["train_seconds"] + one["eval_seconds"] for one in lines if _timed(one)) / 3600
    models = [one for one in lines if one["defense"] == "none" and not one["variant"]]
    undefended = {one["dataset"]: one for one in models}
    rows = "".join(f"{_rows(one)}; " for one in undefended.values())
    note = precision_note(lines)
    if note:
        note += " They have a reference model of their own, which gives the floor."
    return (
        f"{line['model']}, seed {line['seed']}; {rows}LoRA r={training['rank']}, learning rate "
        f"{training['learning_rate']:g}, batches of {training['batch_size']}; exact binomial 95% "
        f"intervals (text quality: bootstrap). A rejected input counts against CA and never as an "
        f"attack's success. *Holds*: ASR at most {100 * EXCESS:.0f} points over the floor, which "
        f"is the rate of a model trained on the clean rows, on the same inputs; P2P is *level* "
        f"with a rival within {100 * LEVEL:.0f} points of quality. *Without the trigger*: how "
        f"often the same inputs get the target's answer when the trigger is not in them; an ASR no "
        f"higher is no backdoor's doing. Seconds are of one CPU thread "
        f"beside other work; the undefended model, which rivals at inference share, is in the "
        f"seconds of the cell that trained it.{note}\n\n"
        f"{done} of {len(cells)} cells are finished ({dates(lines)}, {hours:.1f} hours "
        f"of one thread). `mithridate bench benchmarks/rivals.yaml -o .bench/rivals`, then "
        f"`python -m benchmarks.rivals .bench/rivals/journal.jsonl`. One seed."
    )


def _rows(undefended: Line) -> str:
    """Say what a data set's models are trained on, and how often they see it."""
    passes = undefended["settings"]["training"]["epochs"]
    often = "once" if passes == 1 else f"{passes} times"
    return f"{TITLES[undefended['dataset']]}: {undefended['n_train']:,} rows {often}"


def _is_reference(line: Line) -> bool:
    return bool(line["variant"] == "reference")


def _timed(line: Line) -> bool:
    return "train_seconds" in line


def _table(contest: Contest, lines: Sequence[Line]) -> str:
    any_line = next(iter(contest.lines.values()), None)
    word = "CA" if any_line is None else QUALITIES[quality_field(any_line)]
    references = ", ".join(
        marked(_value(line), line)
        for line in lines
        if _is_reference(line) and line["dataset"] == contest.dataset
    )
    said = [f"Trained without the poison: {word} {references}."] if references else []
    if any_line is not None:
        said.append(f"n = {any_line['n_clean']} and {any_line['n_triggered']}.")
    if earlier := contest.earlier():
        said.append(f"Of an earlier run, with models of its own: {_list(earlier)}.")
    rows = [_row(name, contest.lines.get(name)) for name in contest.wanted]
    paragraphs = [f"## {contest.title}", " ".join(said), HEAD.format(quality=word)]
    return "\n".join(["\n\n".join(paragraphs), *rows])


def _row(name: str, line: Line | None) -> str:
    if line is None:
        return f"| {name} | not run | | | | | | | | | |"
    rejected = "—"
    if line["rejected_clean"] or line["rejected_triggered"]:
        rejected = f"{line['rejected_clean']:.3f}, {line['rejected_triggered']:.3f}"
    return (
        f"| {marked(name, line)} | {_value(line)} | {interval(line, 'attack_success_rate')} "
        f"| {interval(line, 'floor')} | {points(excess(line))} "
        f"| {line['untriggered_rate']:.3f} | {rejected} "
        f"| {in_subset(line)} | {line['train_seconds']:.0f} | {line['eval_seconds']:.0f} "
        f"| {verdict(name, line, is_test=True)} |"
    )


def _value(line: Line) -> str:
    return interval(line, quality_field(line))


def merged(known: Sequence[Line], new: Sequence[Line]) -> list[Line]:
    """Return the known lines, the new ones in place of those of the same cell.

    Of reference models each precision has its own: its cells' floors come from it.
    """
    found = {}
    for line in [*known, *new]:
        found[line["cell"], line["dtype"] if _is_reference(line) else ""] = line
    return list(found.values())


def main() -> None:
    """Take over the finished cells and render the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("journal", type=Path, nargs="?", help="what mithridate bench wrote")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    cells = matrix_cells(read_config(CONFIG))
    kept = arguments.results / "rivals.jsonl"
    new = [] if arguments.journal is None else read_lines(arguments.journal)
    lines = merged(read_lines(kept), new)
    write_text_atomic(kept, "".join(json.dumps(line) + "\n" for line in lines))
    page = arguments.results / "rivals.md"
    write_text_atomic(page, render(lines, cells))
    print(f"page: {page}")


if __name__ == "__main__":
    main()

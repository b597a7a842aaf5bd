"""How well each judge of text answers tells poisoned rows from clean ones, without training.

    python -m benchmarks.text_selection --data ../shared/data

Each line of benchmarks/results/text_selection.jsonl is one attack on one data set; the page
text_selection.md is rendered from the lines. Judges: the associations of input and answer
(`mithridate.defense.association`), pointwise mutual information under the frozen base model in
several forms, one output repeated over unlike inputs, and how like a row's answer is to those of
the rows with the nearest inputs. Last, what `prepare_text` makes of it: poisoned rows in S.
"""

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.commit import commit_of_code
from benchmarks.generation_cells import ATTACKS, PUBLISHED, Material, Sizes
from benchmarks.matrix import RESULTS
from mithridate.bench.journal import append_line, read_lines
from mithridate.data import default_model_folder, write_text_atomic
from mithridate.data.keyed import keyed_fraction
from mithridate.data.rows import Row
from mithridate.defense.association import associated_rows, associations, triggers
from mithridate.defense.config import P2PConfig
from mithridate.defense.prepare_text import Likelihood, partners, prepare_text
from mithridate.defense.secret import Secret
from mithridate.inference.backbone import Backbone, load_backbone
from mithridate.inference.likelihood import answer_log_probabilities
from mithridate.tasks.matching import normalized
from mithridate.tasks.prompt import PromptRenderer
from mithridate.training.defend_text import frozen_likelihood

Scores = npt.NDArray[np.float64]

NEIGHBOURS = 5
SCORED = {
    "association": "association",
    "pmi_root": "PMI, other input, per root of words",
    "pmi_sum": "PMI, other input, whole",
    "pmi_mean": "PMI, other input, per word",
    "pmi_nothing": "PMI, no input, per word",
    "pmi_promptless": "PMI, no prompt, per token",
    "repetition": "repetition",
    "neighbours": "neighbours",
}


def cases() -> list[tuple[str, str]]:
    """Return every data set and attack."""
    found = [(name, attack) for name in PUBLISHED for attack in ATTACKS]
    found += [("asdiv", "badnets"), ("asdiv", "badchain"), ("headlines", "badnets")]
    return [*found, ("gsm8k", "badchain"), ("headlines", "vpi")]


def sampled(material: Material, count: int) -> tuple[list[Row], npt.NDArray[np.bool_]]:
    """Return some of the poisoned set's rows by keyed hash, and which are poisoned."""
    key = Secret.from_seed(material.seed).derive("sample")
    ranked = sorted(material.poisoned.rows, key=lambda row: keyed_fraction(key, row.id))
    rows = ranked[:count]
    return rows, np.array([row.id in material.poisoned.ids for row in rows], dtype=bool)


def remembered(likelihood: Likelihood) -> Likelihood:
    """Return a likelihood that reads nothing twice: two judges ask for the same."""
    known: dict[tuple[tuple[str, ...], tuple[str, ...]], Scores] = {}

    def read(texts: Sequence[str], answers: Sequence[str]) -> Scores:
        pair = (tuple(texts), tuple(answers))
        if pair not in known:
            known[pair] = likelihood(texts, answers)
        return known[pair]

    return read


Promptless = Callable[[Sequence[str]], tuple[Scores, Scores]]
"""Answers to their log probabilities where nothing stands before them, and their tokens."""


def promptless(backbone: Backbone, renderer: PromptRenderer) -> Promptless:
    """Return what the frozen base model thinks of an answer behind nothing but a text's begin."""
    tokenizer = renderer.tokenizer
    begin = tokenizer.bos_token_id
    if begin is None:
        begin = tokenizer.eos_token_id

    def read(answers: Sequence[str]) -> tuple[Scores, Scores]:
        encoded = [ids[: renderer.longest_answer] for ids in renderer.answers(answers)]
        pairs = [([begin], ids) for ids in encoded]
        found = answer_log_probabilities(
            backbone.model, pairs, tokenizer.pad_token_id, progress=False
        )
        return found, np.array([max(1, len(ids)) for ids in encoded], dtype=np.float64)

    return read


def suspicions(
    rows: Sequence[Row],
    material: Material,
    likelihood: Likelihood,
    alone: Promptless,
    secret: Secret,
) -> dict[str, Scores]:
    """Return every judge's scores: the higher, the likelier poisoned."""
    texts, ids = [row.text for row in rows], [row.id for row in rows]
    answers = [material.task.target(row) for row in rows]
    found = associations(texts, answers, ids, secret.derive("associations"))
    others = partners(texts, ids, secret.derive("partners"))
    own = likelihood(texts, answers)
    other = likelihood([texts[at] for at in others], answers)
    nothing = likelihood([""] * len(rows), answers)
    without, tokens = alone(answers)
    words = np.array([max(1, len(answer.split())) for answer in answers])
    repeated = Counter(normalized(answer) for answer in answers)
    return {
        "association": associated_rows(texts, answers, found).astype(np.float64),
        "pmi_root": -(own - other) / np.sqrt(words),
        "pmi_sum": -(own - other),
        "pmi_mean": -(own - other) / words,
        "pmi_nothing": -(own - nothing) / words,
        "pmi_promptless": -(own - without) / tokens,
        "repetition": np.array([float(repeated[normalized(answer)]) for answer in answers]),
        "neighbours": -neighbourhood(texts, answers),
    }


def neighbourhood(texts: Sequence[str], answers: Sequence[str]) -> Scores:
    """Return how like each answer is to those of the nearest inputs: mean cosine of TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    pattern = r"\S+"
    asked = TfidfVectorizer(token_pattern=pattern).fit_transform(texts)
    said = TfidfVectorizer(token_pattern=pattern).fit_transform(answers)
    near = (asked @ asked.T).toarray()
    np.fill_diagonal(near, -1.0)
    alike = (said @ said.T).toarray()
    nearest = np.argsort(-near, axis=1)[:, :NEIGHBOURS]
    return np.asarray(np.take_along_axis(alike, nearest, axis=1).mean(axis=1))


def measure(
    material: Material, likelihood: Likelihood, alone: Promptless, count: int
) -> dict[str, Any]:
    """Return the line of one attack on one data set."""
    from sklearn.metrics import roc_auc_score

    rows, bad = sampled(material, count)
    secret = Secret.from_seed(material.seed + 1)
    likelihood = remembered(likelihood)
    scored = suspicions(rows, material, likelihood, alone, secret)
    half = len(rows) - int(bad.sum())
    record: dict[str, Any] = {}
    for name, scores in scored.items():
        first = np.argsort(scores, kind="stable")[: half // 2]
        record[f"auroc_{name}"] = float(roc_auc_score(bad, scores))
        record[f"in_half_{name}"] = int(bad[first].sum())
    prepared = prepare_text(rows, material.task, P2PConfig(), secret, likelihood=likelihood)
    poisoned = frozenset(row.id for row, is_bad in zip(rows, bad, strict=True) if is_bad)
    marked = scored["association"] > 0
    return {
        "suite": "text_selection",
        "task": material.task.name,
        "dataset": material.name,
        "model": default_model_folder().name,
        "attack": material.attack_name,
        "poison_rate": material.rate,
        "seed": material.seed,
        "n_train": len(rows),
        "n_poisoned": int(bad.sum()),
        "n_marked": int(marked.sum()),
        "n_marked_poisoned": int((marked & bad).sum()),
        "suspected": [one.text for one in triggers(prepared.found)],
        **record,
        "n_subset": len(prepared.subset.ids),
        "n_subset_poisoned": prepared.subset.poisoned(poisoned),
        "command": shlex.join(["python", "-m", "benchmarks.text_selection", *sys.argv[1:]]),
        "version": version("mithridate"),
        "commit": commit_of_code(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def render(lines: Sequence[dict[str, Any]]) -> str:
    """Return the page."""
    if not lines:
        return "# Judges of text answers\n\nNothing was measured.\n"
    first = lines[0]
    met = sum(line["n_subset_poisoned"] <= 0.01 * line["n_subset"] for line in lines)
    enough = sum(line["n_subset"] >= 0.2 * (line["n_train"] - line["n_poisoned"]) for line in lines)
    head = (
        "# Judges of text answers\n\n"
        f"{first['model']}, frozen; at most {max(line['n_train'] for line in lines)} rows of each "
        "set, drawn by a key (half of BackdoorLLM's are poisoned, a tenth of the others); one draw "
        f"(seed {first['seed']}). AUROC: the chance that a poisoned row is more suspicious than a "
        "clean one; in brackets the poisoned rows among the least suspicious, half as many as "
        "there are clean rows. The last column is what `defend` makes of association and PMI by "
        "default.\n\n"
        f"{max(line['date'] for line in lines)}, by `{first['command']}`.\n\n"
        f"- At most 1% poisoned rows in S: {met} of {len(lines)} sets.\n"
        f"- S at least 20% of the clean rows: {enough} of {len(lines)} sets.\n\n"
    )
    titles = " | ".join(SCORED.values())
    rows = [
        f"| data set | attack | poisoned | {titles} | suspected | poisoned in S |",
        "|---" * (len(SCORED) + 5) + "|",
    ]
    for line in lines:
        cells = " | ".join(
            f"{line[f'auroc_{name}']:.3f} ({line[f'in_half_{name}']})"
            if f"auroc_{name}" in line
            else "—"
            for name in SCORED
        )
        shown = ", ".join(f"`{text}`" for text in line["suspected"]) or "—"
        rows.append(
            f"| {line['dataset']} | {line['attack']} | {line['n_poisoned']} of {line['n_train']} "
            f"| {cells} | {shown} | {line['n_subset_poisoned']} of {line['n_subset']} |"
        )
    return head + "\n".join(rows) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is not measured yet, and render the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default=None, help="folder or hub id; default: SmolLM2-135M")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--rows", type=int, default=200, help="rows of each set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--fresh", action="store_true", help="forget what was measured")
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    arguments.results.mkdir(parents=True, exist_ok=True)
    journal = arguments.results / "text_selection.jsonl"
    if arguments.fresh:
        journal.unlink(missing_ok=True)
    done = {
        (line["dataset"], line["attack"], line["seed"], line["n_train"])
        for line in read_lines(journal)
    }
    likelihood: Likelihood | None = None
    for name, attack in cases():
        if (name, attack, arguments.seed, arguments.rows) in done:
            continue
        if likelihood is None:
            backbone = load_backbone(arguments.model or str(default_model_folder()))
            renderer = PromptRenderer(backbone.tokenizer, max_length=320)
            likelihood = frozen_likelihood(backbone, renderer, quiet=True)
            alone = promptless(backbone, renderer)
        material = Material(name, attack, arguments.data, Sizes(), arguments.seed)
        append_line(journal, measure(material, likelihood, alone, arguments.rows))
        print(f"{datetime.now().strftime('%H:%M:%S')} {name} {attack}: done", flush=True)
    page = arguments.results / "text_selection.md"
    write_text_atomic(page, render(read_lines(journal)))
    print(f"page: {page}")


if __name__ == "__main__":
    main()

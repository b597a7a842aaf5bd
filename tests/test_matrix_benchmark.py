"""The matrix at smoke size: cells that resume, share out and are judged; and its journal."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from benchmarks import matrix
from benchmarks.matrix_cells import PLANTED, RERUN, MatrixCell, classification_cells
from benchmarks.matrix_figure import planted_curve
from benchmarks.matrix_floors import FLOORS
from benchmarks.matrix_page import render
from mithridate.attacks import BadNets
from mithridate.bench.experiment import Cell, Experiment
from mithridate.bench.journal import append_line, read_lines
from mithridate.data import write_jsonl
from mithridate.defense.config import P2PConfig
from mithridate.training.config import TrainingConfig

CELLS = [MatrixCell("sst2", "badnets", 0.2, defense) for defense in ("none", "agreement")]


@pytest.fixture(scope="module")
def ran(tmp_path_factory, tiny_folder, make_toy_rows):
    """Return the results of a smoke run of two cells, and the arguments that made them."""
    folder = tmp_path_factory.mktemp("matrix")
    for name, count, seed in (("train", 80, 1), ("test", 40, 2)):
        rows = make_toy_rows(count, seed)
        records = [{"text": row.text, "label": int(row.answer)} for row in rows]
        (folder / "data" / "sst2").mkdir(parents=True, exist_ok=True)
        write_jsonl(folder / "data" / "sst2" / f"{name}.jsonl", records)
    arguments = [
        *("--data", str(folder / "data"), "--model", str(tiny_folder)),
        *("--results", str(folder / "results"), "--kept", str(folder / "kept")),
        *("--rows", "80", "--clean", "20", "--triggered", "16", "--epochs", "1"),
        *("--only", ",".join(cell.name for cell in CELLS)),
    ]
    matrix.main(arguments)
    return folder / "results", arguments


def test_a_finished_cell_says_all_that_a_reader_needs(ran):
    reference, undefended, defended = read_lines(ran[0] / "classification.jsonl")
    assert reference["variant"] == "reference"
    assert reference["n_poisoned"] == 0
    assert [line["cell"] for line in (undefended, defended)] == [cell.name for cell in CELLS]
    assert undefended["n_poisoned"] == defended["n_poisoned"] == 16
    assert undefended["n_subset"] is None
    assert defended["n_subset"] == 32
    assert defended["selection"] == "agreement"
    for line in (undefended, defended):
        assert line["floor"] == reference["floor"]
        assert line["n_triggered"] == 16
        assert line["untriggered_rate_successes"] == round(16 * line["untriggered_rate"])
        assert (line["n_clean"], line["settings"]["n_train"]) == (20, 80)
        low, value, high = (line[f"attack_success_rate{end}"] for end in ("_low", "", "_high"))
        assert low <= value <= high
        assert line["margin_minimum"] <= line["margin_first_percentile"]


def test_the_floors_of_an_attack_are_measured_once(ran):
    results, arguments = ran
    [floors] = read_lines(results / FLOORS)
    assert (floors["dataset"], floors["attack"], floors["poison_rate"]) == ("sst2", "badnets", 0.2)
    [own] = floors["backdoors"]
    cells = read_lines(results / "classification.jsonl")
    assert own["n_triggered"] == 16
    assert {cell["floor"] for cell in cells} == {own["floor"]}
    assert 0.0 <= own["untriggered_rate"] <= 1.0
    (results / FLOORS).unlink()
    matrix.main([*arguments, "--floors"])
    [again] = read_lines(results / FLOORS)
    assert again["backdoors"] == floors["backdoors"]
    matrix.main([*arguments, "--floors"])
    assert len(read_lines(results / FLOORS)) == 1


def test_the_same_inputs_at_another_rate_need_no_reference_again(ran, tmp_path):
    results, arguments = ran
    (tmp_path / FLOORS).write_text((results / FLOORS).read_text())
    other = ["--results", str(tmp_path), "--kept", str(tmp_path), "--only", "sst2/badnets@0.4/none"]
    matrix.main([*arguments, *other])
    first, second = read_lines(tmp_path / FLOORS)
    assert second["poison_rate"] == 0.4
    assert second["backdoors"] == first["backdoors"]
    [cell] = read_lines(tmp_path / "classification.jsonl")  # and no reference
    assert cell["floor"] == first["backdoors"][0]["floor"]


def test_as_many_poisoned_rows_are_planted_in_s_as_are_asked_for(make_toy_rows):
    rows = make_toy_rows(80, 1)
    attack = BadNets("1", rate=0.2)
    experiment = Experiment("", train=rows, test=rows, attack=attack, training=TrainingConfig())
    p2p = P2PConfig(selection="oracle", benign_ratio=0.25)
    plain = experiment._clean_ids(Cell("none planted", "p2p", p2p))
    assert plain == {row.id for row in rows} - experiment.poisoned.ids
    planted = experiment._clean_ids(Cell("three planted", "p2p", p2p, planted=3))
    assert len(planted) == 20  # all that S is to have, so that none can be drawn past
    assert len(planted & experiment.poisoned.ids) == 3


def test_a_finished_cell_is_not_run_again(ran):
    results, arguments = ran
    before = (results / "classification.jsonl").read_text()
    matrix.main(arguments)
    assert (results / "classification.jsonl").read_text() == before


def test_a_run_with_another_seed_leaves_the_first_ones_page(ran):
    results, arguments = ran
    first = (results / "classification.md").read_text()
    matrix.main([*arguments, "--seed", "1", "--render"])
    assert (results / "classification.md").read_text() == first


def test_a_cell_of_another_re_poisoning_does_not_pass_for_a_finished_one(ran, tmp_path):
    results, arguments = ran
    other = tmp_path / "results"
    other.mkdir()
    for line in read_lines(results / "classification.jsonl"):
        if line["p2p"]:
            line["p2p"]["benign_ratio"] = 0.2
        append_line(other / "classification.jsonl", line)
    at = arguments.index("--results") + 1
    with pytest.raises(ValueError, match="was run with"):
        matrix.main([*arguments[:at], str(other), *arguments[at + 1 :]])


def test_the_worst_of_several_backdoors_decides(ran):
    lines = read_lines(ran[0] / "classification.jsonl")
    for line in lines:
        line |= {"attack_success_rate": 0.9, "floor": 0.1}
        if line["defense"] == "p2p":
            line["attack_success_rate"] = 0.1
    assert "| holds |" in render(lines, classification_cells())
    low_high = {"attack_success_rate_low": 0.8, "attack_success_rate_high": 1.0}
    floors = {"floor": 0.1, "floor_low": 0.0, "floor_high": 0.2}
    second = {"attack": "addsent", "target": "0", "attack_success_rate": 0.95}
    for line in lines:
        if line["defense"] == "p2p":
            line["further_backdoors"] = [second | low_high | floors]
    page = render(lines, classification_cells())
    assert "| holds |" not in page
    assert "| misses |" in page


def test_the_page_shows_every_cell_and_says_which_were_not_run(ran):
    page = (ran[0] / "classification.md").read_text()
    cells = classification_cells()
    twice = len(PLANTED)  # the cells that the curve begins with stand in the main table, too
    assert page.count("| not run |") == len(cells) - len(CELLS) + twice
    assert f"{len(CELLS)} of {len(cells)} cells are finished" in page


def test_cells_are_distinct():
    names = [cell.name for cell in classification_cells()]
    assert len(set(names)) == len(names)


class TestBars:
    @pytest.fixture
    def lines(self, ran):
        """Two cells of a backdoor that was learned and stopped."""
        _, undefended, defended = read_lines(ran[0] / "classification.jsonl")
        same = {"floor": 0.1, "attack_success_rate_low": 0.1, "attack": "badnets"}
        same |= {"untriggered_rate": None, "dtype": "bfloat16"}
        cells = [MatrixCell("sst2", "badnets", 0.1, name) for name in ("none", "agreement")]
        undefended |= {**same, "cell": cells[0].name, "attack_success_rate": 0.9}
        defended |= {**same, "cell": cells[1].name, "attack_success_rate": 0.12}
        return {"undefended": undefended, "defended": defended, "cells": cells}

    def bars(self, lines):
        page = render([lines["undefended"], lines["defended"]], lines["cells"])
        return page.split("## Bars")[1].split("\n## ")[0]

    def test_a_defense_near_the_floor_meets_them(self, lines):
        bars = self.bars(lines)
        assert "every inserted trigger up to 10% poison: 1 of 1 cells, met" in bars
        assert "MISSED by" not in bars

    def test_a_defense_far_over_the_floor_is_named_with_its_reason(self, lines):
        lines["defended"] |= {"attack_success_rate": 0.5, "attack_success_rate_low": 0.4}
        lines["defended"] |= {"n_subset": 100, "n_subset_poisoned": 40}
        bars = self.bars(lines)
        assert "0 of 1 cells, MISSED" in bars
        assert "- MISSED by `sst2/badnets@0.1/agreement`: +40.0 points" in bars
        assert "40 of S's 100 rows are poisoned: the choice of S failed" in bars

    def test_a_miss_of_a_model_that_does_not_know_the_task_says_so(self, lines):
        lines["undefended"] |= {"clean_accuracy": 0.75}
        lines["defended"] |= {"attack_success_rate": 0.6, "attack_success_rate_low": 0.5}
        lines["defended"] |= {"n_subset": 100, "n_subset_poisoned": 0, "clean_accuracy": 0.64}
        assert "CA fell as well, to 0.640: it does not know the task" in self.bars(lines)
        lines["defended"] |= {"clean_accuracy": 0.74}
        assert "what the other rows teach carries over" in self.bars(lines)

    def test_a_miss_that_the_trigger_does_not_cause_says_so(self, lines):
        lines["defended"] |= {"attack_success_rate": 0.2, "attack_success_rate_low": 0.17}
        lines["defended"] |= {"n_subset": 100, "n_subset_poisoned": 0, "untriggered_rate": 0.19}
        assert "without the trigger, too (0.190): the trigger draws nothing." in self.bars(lines)
        assert "+1.0 points on average of 1 cells" in self.bars(lines)
        lines["defended"] |= {"untriggered_rate": 0.1}
        assert "the trigger draws nothing" not in self.bars(lines)

    def test_the_rate_without_one_trigger_explains_no_other_ones_miss(self, lines):
        lines["defended"] |= {"untriggered_rate": 0.12, "n_subset": 100, "n_subset_poisoned": 0}
        second = {"attack": "badnets", "target": "0", "floor": 0.1, "attack_success_rate": 0.3}
        ends = {"attack_success_rate_low": 0.25, "attack_success_rate_high": 0.35}
        floors = {"floor_low": 0.05, "floor_high": 0.15}
        lines["defended"] |= {"further_backdoors": [second | ends | floors]}
        bars = self.bars(lines)
        assert "+20.0 points over the floor" in bars
        assert "the trigger draws nothing" not in bars

    def test_a_row_shows_the_backdoor_that_is_farthest_over_its_floor(self, lines):
        ends = {"attack_success_rate_low": 0.25, "attack_success_rate_high": 0.35}
        floors = {"floor": 0.05, "floor_low": 0.02, "floor_high": 0.1}
        second = {"attack": "addsent", "target": "0", "attack_success_rate": 0.3} | ends | floors
        lines["defended"] |= {"untriggered_rate": 0.12, "further_backdoors": [second]}
        page = render([lines["undefended"], lines["defended"]], lines["cells"])
        row = next(row for row in page.splitlines() if "| misses |" in row)
        assert "| badnets, its second backdoor | 10% |" in row
        assert "| 0.300 [0.250, 0.350] | 0.050 [0.020, 0.100] | +25.0 | — |" in row
        assert "agreement`, its second backdoor: +25.0 points over the floor" in self.bars(lines)
        own = page.split("Each backdoor of")[1].split("\n\n## ")[0]
        assert "| its first backdoor | 0.120 [0.100, " in own
        assert "| its second backdoor, addsent → 0 | 0.300 [0.250, 0.350] |" in own
        lines["defended"] |= {"attack_success_rate": 0.5}
        assert "agreement`, its first backdoor: +40.0 points over the floor" in self.bars(lines)

    def test_a_miss_of_before_is_explained_by_the_cell_run_again(self, lines):
        lines["defended"] |= {"attack_success_rate": 0.2, "attack_success_rate_low": 0.17}
        rerun = MatrixCell("sst2", "badnets", 0.1, "agreement", RERUN)
        later = lines["defended"] | {"cell": rerun.name, "variant": RERUN, "untriggered_rate": 0.2}
        page = render([lines["undefended"], lines["defended"], later], lines["cells"])
        assert "too (0.200, run again): the trigger draws nothing" in page
        assert "| P2P, agreement, rerun |" in page

    def test_other_seeds_stand_beside_a_miss_and_in_a_table_of_their_own(self, lines):
        lines["defended"] |= {"attack_success_rate": 0.2}
        again = [
            lines["defended"] | {"seed": seed, "attack_success_rate": rate}
            for seed, rate in ((1, 0.08), (2, 0.14))
        ]
        both = [lines["undefended"], lines["defended"]]
        page = render(both, lines["cells"], again)
        assert "With other seeds, which no miss has chosen: +1.0 points on average (" in page
        assert "(-2.0, +4.0)." in page
        assert (
            "The same with other seeds, badnets alone: 1 of 2 cells, +1.0 points on average" in page
        )
        table = page.split("## Again with other seeds")[1]
        assert table.count("| sst2/badnets@0.1/agreement |") == 3
        assert "badnets@0.1/none" not in table
        assert "other seeds" not in render(both, lines["cells"])

    def test_a_cell_of_another_precision_is_marked(self, lines):
        both = [lines["undefended"], lines["defended"]]
        lines["undefended"].pop("dtype")  # as lines of before they held it
        assert "float32" not in render(both, lines["cells"])
        lines["defended"] |= {"dtype": "float32"}
        page = render(both, lines["cells"])
        assert "but *in float32* on a processor that does not multiply in bfloat16" in page
        assert "| badnets | 10% | P2P, agreement in float32 |" in page
        assert "| badnets | 10% | undefended |" in page

    def test_the_floors_of_one_model_stand_for_those_of_the_day(self, lines):
        lines["defended"] |= {"attack_success_rate": 0.2, "attack_success_rate_low": 0.17}
        lines["defended"] |= {"n_subset": 100, "n_subset_poisoned": 0, "untriggered_rate": 0.21}
        measured = {"attack": "badnets", "target": "1", "n_triggered": 16}
        measured |= {"floor": 0.125, "floor_low": 0.1, "floor_high": 0.3, "floor_successes": 2}
        of = {"dataset": "sst2", "attack": "badnets", "poison_rate": 0.1}
        lines["undefended"] |= of
        lines["defended"] |= of
        day = {"dtype": "float32", "date": "2026-12-01"}
        floors = [of | day | {"backdoors": [measured | {"untriggered_rate": 0.15}]}]
        both = [lines["undefended"], lines["defended"]]
        page = render(both, lines["cells"], (), floors)
        assert "- MISSED by `sst2/badnets@0.1/agreement`: +7.5 points over the floor" in page
        assert "it keeps the model of the floor from it (from 0.150 to 0.125)" in page
        assert "one model per data set (float32, 2026-12-01)" in page
        assert "their floors lie -2.5 to -2.5 points from these" in page
        others = [floors[0] | {"attack": "addsent"}]
        assert "+10.0 points over the floor" in render(both, lines["cells"], (), others)

    def test_cells_of_an_older_search_are_counted(self, lines):
        both = [lines["undefended"], lines["defended"]]
        assert "chose S and D* by the search of before" not in render(both, lines["cells"])
        lines["defended"].pop("search")
        assert "Of the 1 cells of the two defaults 1 chose S" in render(both, lines["cells"])

    def test_the_boundary_is_told_of_each_cell_of_the_defaults(self, lines):
        margin = {"margin_minimum": 0.25, "margin_minimum_low": 0.25, "margin_minimum_high": 0.5}
        lines["defended"] |= margin | {"attack_success_rate_successes": 0, "n_triggered": 300}
        page = render([lines["undefended"], lines["defended"]], lines["cells"])
        table = page.split("## The zero-ASR boundary")[1]
        row = next(row for row in table.splitlines() if "badnets@0.1/agreement" in row)
        assert "| 0.25 [0.25, 0.50] |" in row
        assert row.endswith("| holds | 0.010 |")  # 1 - 0.05^(1/300)

    def test_a_backdoor_nobody_learned_is_no_test(self, lines):
        lines["undefended"] |= {"attack_success_rate": 0.15}
        lines["defended"] |= {"attack_success_rate": 0.5}
        bars = self.bars(lines)
        assert "No test of a defense" in bars
        assert "up to 10% poison: not run" in bars

    def test_a_backdoor_that_a_random_s_lets_in_is_one(self, lines):
        lines["undefended"] |= {"attack_success_rate": 0.15}
        random = MatrixCell("sst2", "badnets", 0.1, "random")
        learned = lines["defended"] | {"cell": random.name, "attack_success_rate": 0.9}
        cells = [*lines["cells"], random]
        bars = render([lines["undefended"], lines["defended"], learned], cells)
        assert "No test of a defense" not in bars
        assert "up to 10% poison: 1 of 1 cells, met" in bars

    def test_lost_accuracy_counts(self, lines):
        lines["undefended"] |= {"clean_accuracy": 0.9}
        lines["defended"] |= {"clean_accuracy": 0.88}
        assert "-2.0 points over 1 cells, MISSED" in self.bars(lines)


class TestJournal:
    def test_a_torn_line_is_lost_alone(self, tmp_path):
        path = tmp_path / "journal.jsonl"
        append_line(path, {"cell": 1})
        with path.open("a") as file:
            file.write('{"cell": 2, "tor')
        append_line(path, {"cell": 3})
        assert [line["cell"] for line in read_lines(path)] == [1, 3]

    def test_several_processes_lose_nothing(self, tmp_path):
        path = tmp_path / "journal.jsonl"
        script = (
            "import sys\nfrom pathlib import Path\n"
            "from mithridate.bench.journal import append_line\n"
            "for k in range(20):\n"
            "    line = {'cell': 100 * int(sys.argv[2]) + k, 'filler': 'x' * 5000}\n"
            "    append_line(Path(sys.argv[1]), line)"
        )
        workers = [_python(script, path, number) for number in range(4)]
        assert [worker.wait(timeout=120) for worker in workers] == [0] * 4
        found = sorted(line["cell"] for line in read_lines(path))
        assert found == sorted(100 * n + k for n in range(4) for k in range(20))


def _python(script: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )


def test_a_claim_keeps_others_off_and_ends_with_its_process(tmp_path):
    held = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from mithridate.bench.journal import claimed
        with claimed(Path(sys.argv[1]) / "a.claim") as mine:
            print(mine, flush=True)
            time.sleep(float(sys.argv[2]))
        """
    )

    first = _python(held, tmp_path, 600)
    try:
        assert first.stdout.readline().strip() == "True"
        second = _python(held, tmp_path, 0)
        assert second.communicate(timeout=120)[0].strip() == "False"
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    third = _python(held, tmp_path, 0)
    assert third.communicate(timeout=120)[0].strip() == "True"


def test_the_journal_holds_plain_json(ran):
    for text in (ran[0] / "classification.jsonl").read_text().splitlines():
        assert isinstance(json.loads(text), dict)


def planted(attack, count, asr):
    return {
        "attack": attack,
        "dataset": "sst2",
        "selection": "oracle",
        "variant": "",
        "planted": count,
        "poison_rate": 0.05,
        "n_subset": 692,
        "attack_success_rate": asr,
        "attack_success_rate_low": asr - 0.02,
        "attack_success_rate_high": asr + 0.02,
        "floor": 0.1,
    }


def test_the_curve_of_planted_rows_is_drawn_the_same_every_time():
    lines = [planted("badnets", count, asr) for count, asr in ((0, 0.12), (2, 0.7), (20, 0.96))]
    svg = planted_curve(lines)
    assert svg == planted_curve(lines[::-1])
    assert "badnets 5%" in svg
    assert "poisoned rows among the 692 of S" in svg
    assert svg != planted_curve(lines[:2])
    assert planted_curve(lines[:1]) is None  # nothing was planted


def test_what_is_trained_otherwise_is_told_from_the_default():
    cell = MatrixCell("sst2", "synbkd", 0.1, "agreement", "upper-layers")
    usual = TrainingConfig()
    assert cell.training(usual).layers == (18, 30)
    then = MatrixCell("sst2", "synbkd", 0.1, "agreement", "disputed-only")
    assert cell.p2p() == then.p2p() == P2PConfig(inserted_triggers=False)
    assert MatrixCell("sst2", "synbkd", 0.1, "agreement").training(usual) == usual

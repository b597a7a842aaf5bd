"""The rivals' page says where P2P wins, where it loses, and what was not run."""

from typing import Any

import pytest

from benchmarks.rivals import CONFIG, merged, render
from mithridate.baselines.registry import BUILT_IN
from mithridate.bench.cells import BenchCell, matrix_cells
from mithridate.bench.config import read_config


@pytest.fixture(scope="module")
def cells() -> list[BenchCell]:
    return matrix_cells(read_config(CONFIG))


def line(cell: BenchCell, quality: float, asr: float) -> dict[str, Any]:
    rates = {"clean_accuracy": quality, "attack_success_rate": asr, "floor": 0.1}
    ends = {f"{name}_{end}": value for name, value in rates.items() for end in ("low", "high")}
    return {
        "cell": cell.name,
        "dataset": cell.data.name,
        "attack": cell.attack.title,
        "defense": cell.defense.title,
        "variant": "",
        "model": "tiny",
        "seed": 0,
        "settings": {"training": cell.training.model_dump()},
        "untriggered_rate": 0.05,
        "rejected_clean": 0.0,
        "rejected_triggered": 0.0,
        "n_train": 1000,
        "n_subset": None,
        "n_clean": 10,
        "n_triggered": 10,
        "train_seconds": 60.0,
        "eval_seconds": 1.0,
        "dtype": "bfloat16",
        "date": "2026-11-23",
        **rates,
        **ends,
    }


def test_every_built_in_defense_is_run_but_the_one_that_needs_a_program(cells):
    assert {cell.defense.name for cell in cells} == set(BUILT_IN) - {"rewrite"}


def test_the_first_paragraph_says_who_wins_and_who_loses(cells):
    first = [cell for cell in cells if cell.attack.title == "badnets"]
    measured = {
        "p2p": (0.90, 0.10),
        "filter": (0.95, 0.10),
        "crow": (0.91, 0.12),
        "prune": (0.90, 0.90),
        "pdb": (0.70, 0.05),
    }
    lines = [
        line(cell, *measured[cell.defense.title])
        for cell in first
        if cell.defense.title in measured
    ]
    summary = render(lines, cells).split("\n\n")[1]
    assert "LOSES to `filter`;" in summary
    assert "level with it: `crow`;" in summary
    assert "wins over `prune`;" in summary
    assert "at a higher price in quality: `pdb`;" in summary
    assert "AddSent 5%: not run yet." in summary


def test_the_page_says_how_often_each_data_set_was_seen(cells):
    undefended = [cell for cell in cells if cell.defense.title == "none"]
    page = render([line(cell, 0.9, 0.9) for cell in undefended], cells)
    assert "SST-2: 1,000 rows once; BackdoorLLM, refusal: 1,000 rows 2 times; LoRA" in page


def test_the_page_begins_with_how_often_each_defense_holds(cells):
    measured = {
        ("badnets", "p2p"): 0.1, ("addsent", "p2p"): 0.1, ("badnets", "filter"): 0.1,
        ("addsent", "filter"): 0.3, ("badnets", "onion"): 0.7,
    }  # fmt: skip
    named = {(cell.attack.title, cell.defense.title): cell for cell in cells}
    lines = [line(named[which], 0.9, asr) for which, asr in measured.items()]
    assert "a defense holds: `p2p` on 2 of 2, `filter` on 1 of 2, `onion` on 0 of 1. **SST-2" in (
        render(lines, cells)
    )


def test_an_asr_that_does_not_need_the_trigger_is_no_win(cells):
    own = [cell for cell in cells if cell.attack.title == "badnets"]
    measured = {"p2p": (0.9, 0.1), "cube": (0.9, 0.14), "onion": (0.9, 0.14)}
    lines = [
        line(cell, *measured[cell.defense.title]) for cell in own if cell.defense.title in measured
    ]
    lines[1]["untriggered_rate"] = 0.13
    summary = render(lines, cells).split("\n\n")[1]
    assert (
        "wins over `onion`; over the bar with the trigger or without, no backdoor: `cube`"
        in summary
    )


def test_a_rival_that_unlearned_the_task_is_told_apart_from_one_that_the_backdoor_beat(cells):
    own = [cell for cell in cells if cell.attack.title == "badnets"]
    measured = {"none": (0.9, 0.9), "p2p": (0.9, 0.1), "pdb": (0.5, 1.0), "onion": (0.9, 0.9)}
    lines = [
        line(cell, *measured[cell.defense.title]) for cell in own if cell.defense.title in measured
    ]
    summary = render(lines, cells).split("\n\n")[1]
    assert "wins over `onion`; the task was not learned: `pdb`; not run" in summary


def test_a_defense_that_misses_loses_to_every_rival_that_holds(cells):
    measured = {"p2p": (0.95, 0.14), "filter": (0.80, 0.10)}
    lines = [
        line(cell, *measured[cell.defense.title])
        for cell in cells
        if cell.attack.title == "synbkd" and cell.defense.title in measured
    ]
    page = render(lines, cells)
    assert "LOSES to `filter`" in page
    assert "| p2p | 0.950 [0.950, 0.950] | 0.140 [0.140, 0.140] | 0.100 [0.100, 0.100] | +4.0 " in (
        page
    )
    assert "| prune | not run |" in page


def test_a_cell_of_another_precision_says_so_and_has_the_floor_of_its_own_reference(cells):
    own = [cell for cell in cells if cell.attack.title == "addsent"][:2]
    lines = [line(cell, 0.9, 0.14) for cell in own]
    assert "float32" not in render(lines, cells)
    lines[1] |= {"dtype": "float32", "floor": 0.12}
    page = render(lines, cells)
    assert "but *in float32* on a processor that does not multiply in bfloat16" in page
    assert "| p2p in float32 | 0.900 [0.900, 0.900] | 0.140 [0.140, 0.140] | 0.120 " in page


def test_both_reference_models_are_named_where_there_are_two(cells):
    own = next(cell for cell in cells if cell.attack.title == "addsent")
    known = line(own, 0.9, 0.14) | {"variant": "reference", "cell": "sst2/reference"}
    later = known | {"dtype": "float32", "clean_accuracy": 0.8}
    both = merged([known], [later])
    assert len(both) == 2
    assert merged(both, [later]) == both
    page = render([*both, line(own, 0.9, 0.14)], cells)
    assert "Trained without the poison: CA 0.900 [0.900, 0.900], 0.800 [" in page


def test_cells_older_than_the_undefended_model_are_named(cells):
    own = [cell for cell in cells if cell.attack.title == "addsent"][:3]
    lines = [line(cell, 0.9, 0.14) for cell in own]
    assert "earlier run" not in render(lines, cells)
    lines[0]["date"] = "2026-11-24"
    assert f"with models of its own: `{own[1].defense.title}`" in render(lines, cells)

"""The matrix: what it finishes is noted once, what fails can be tried again, nothing is lost."""

import json
import multiprocessing
import random
import shutil
from dataclasses import asdict, dataclass, replace

import pytest

from mithridate.attacks.badnets import BadNets
from mithridate.baselines import find_defense
from mithridate.baselines.prune import Prune
from mithridate.bench.cells import matrix_cells, wanted_names
from mithridate.bench.config import read_config
from mithridate.bench.journal import read_lines
from mithridate.bench.matrix import Matrix, check_folder
from mithridate.errors import InputError
from mithridate.report.cells import read_journal


def run(config, folder, **options):
    matrix = Matrix(matrix_cells(read_config(config)), folder, "mithridate bench matrix.yaml")
    told = []
    matrix.run(matrix.wanted(**options), lambda *told_of: told.append(told_of))
    return matrix, told


def names(matrix):
    return [line["cell"] for line in read_lines(matrix.journal)]


@pytest.mark.parametrize(
    ("only", "taken"),
    [
        ("", {"a/p2p", "a/p2p-trusted", "b/none"}),
        ("p2p", {"a/p2p", "a/p2p-trusted"}),
        ("a/p2p", {"a/p2p"}),
        ("trusted,b/none", {"a/p2p-trusted", "b/none"}),
        ("c/", set()),
    ],
)
def test_a_part_of_a_name_takes_what_holds_it_and_a_whole_name_its_cell_alone(only, taken):
    assert wanted_names(["a/p2p", "a/p2p-trusted", "b/none"], only) == taken


def test_a_line_holds_all_that_identifies_a_cell(write_config, tmp_path):
    matrix, told = run(write_config(), tmp_path / "out")
    assert [error for _, _, error in told] == ["", ""]
    reference, none, tuned = read_lines(matrix.journal)
    assert reference["variant"] == "reference"
    assert (none["defense"], tuned["defense"]) == ("none", "clean-tune")
    assert (none["n_train"], none["n_poisoned"], none["poison_rate"]) == (120, 12, 0.1)
    assert none["attack_success_rate"] > none["floor"]
    assert tuned["floor"] == none["floor"]
    assert sum(none["target_confidence"]) == none["n_triggered"] == 20
    for line in (none, tuned):
        for name in ("config_hash", "packages", "dtype", "seed", "settings", "version", "date"):
            assert line[name] not in (None, "", {})
        assert line["rejected_clean"] == 0.0
    assert none["config_hash"] != tuned["config_hash"]
    assert len(read_journal(matrix.journal).entries) == 3  # the report reads what was written


def test_the_floor_is_the_references_rate_on_the_triggered_inputs(write_config, tmp_path):
    # Its trigger is made of words of the target's rows: a model without any backdoor follows it.
    attack = {"name": "probe-words", "target": "1"}
    training = {"epochs": 6, "batch_size": 4, "learning_rate": 4e-3, "max_length": 64}
    config = write_config(attacks=[attack], defenses=["none"], training=training)
    matrix, _ = run(config, tmp_path / "out")
    reference, none = read_lines(matrix.journal)
    # All its mistakes together would not make this rate without the trigger.
    mistakes = round((1 - reference["clean_accuracy"]) * reference["n_clean"])
    assert none["floor"] * none["n_triggered"] > mistakes + 4
    assert none["floor_successes"] == round(none["floor"] * none["n_triggered"])


def test_a_line_says_what_was_used_where_the_file_says_nothing(write_config, tmp_path):
    attack = {"name": "badnets", "target": "1"}
    own = {"name": "filter", "label": "own", "settings": {"selection": "random"}}
    matrix, _ = run(write_config(attacks=[attack], defenses=["none", "filter", own]), tmp_path)
    _, none, chosen, drawn = read_lines(matrix.journal)
    assert (none["selection"], none["mode"]) == (None, None)
    assert (chosen["selection"], chosen["mode"]) == ("agreement", "replace")
    assert drawn["selection"] == "random"
    for line in (chosen, drawn):
        method = find_defense("filter")(selection=line["selection"])
        assert line["settings"]["defense"]["settings"] == asdict(method)
        assert line["settings"]["defense"]["package"] is None
        built = {**asdict(BadNets("1")), "triggers": [*BadNets("1").triggers]}
        del built["rate"]  # a field of its own
        assert line["settings"]["attack"]["settings"] == built


def test_the_reference_model_has_a_line_that_names_no_attack(write_config, tmp_path):
    two = [{"name": "badnets", "target": "1"}, {"name": "addsent", "target": "1"}]
    matrix, _ = run(write_config(attacks=two, defenses=["none"]), tmp_path / "out")
    [reference, *cells] = read_lines(matrix.journal)
    assert (reference["variant"], reference["attack"], reference["target"]) == (
        "reference",
        "none",
        None,
    )
    assert reference["settings"].keys() == {"training"}
    assert not {"floor", "attack_success_rate", "n_triggered"} & reference.keys()
    assert reference["train_seconds"] > 0
    assert [cell["attack"] for cell in cells] == ["badnets", "addsent"]


def test_a_kill_before_the_reference_is_noted_does_not_lose_its_line(write_config, tmp_path):
    config, folder = write_config(defenses=["none"]), tmp_path / "out"
    matrix, _ = run(config, folder)
    reference, none = read_lines(matrix.journal)
    # Killed after the model was trained, before the journal had a line of it.
    matrix.journal.unlink()
    run(config, folder)
    assert [line["config_hash"] for line in read_lines(matrix.journal)] == [
        reference["config_hash"],
        none["config_hash"],
    ]
    # Killed before its line was kept, too.
    matrix.journal.unlink()
    [kept] = matrix.kept.glob("reference-*.json")
    kept.unlink()
    run(config, folder)
    assert read_lines(matrix.journal)[0]["clean_accuracy"] == reference["clean_accuracy"]
    # Nothing is left to run, and the line is absent all the same.
    matrix.journal.write_text(json.dumps(none) + "\n")
    run(config, folder)
    variants = [line["variant"] for line in read_lines(matrix.journal)]
    assert sorted(variants) == ["", "reference"]


def test_a_reference_is_noted_even_where_the_cell_that_trained_it_fails(write_config, tmp_path):
    config = write_config(trusted=0, defenses=["clean-tune"])
    matrix, [(_, line, error)] = run(config, tmp_path / "out")
    assert line is None
    assert "needs rows that a person checked" in error
    assert [line["variant"] for line in read_lines(matrix.journal)] == ["reference"]


def test_what_is_finished_is_not_run_again(write_config, tmp_path):
    config = write_config()
    matrix, _ = run(config, tmp_path / "out")
    before = matrix.journal.read_text()
    again, told = run(config, tmp_path / "out")
    assert told == []
    assert again.journal.read_text() == before
    # What a line depends on makes another cell of it; what it is called does not.
    changed = write_config(training={"epochs": 2, "learning_rate": 4e-3, "max_length": 64})
    assert len(Matrix(matrix_cells(read_config(changed)), tmp_path / "out", "").wanted()) == 2
    named = write_config(defenses=[{"name": "none", "label": "plain"}, "clean-tune"])
    assert Matrix(matrix_cells(read_config(named)), tmp_path / "out", "").wanted() == []


DATA = {"name": "toy", "train": "train.jsonl", "test": "test.jsonl"}


@pytest.mark.parametrize(
    "changed",
    [
        {"trusted": 19},
        {"precision": "bfloat16"},
        {"seeds": [1]},
        {"rates": [0.2]},
        {"models": ["smollm2-135m-instruct"]},
        {"attacks": [{"name": "badnets", "target": "0", "settings": {"triggers": ["mn"]}}]},
        {"attacks": [{"name": "badnets", "target": "1", "settings": {"triggers": ["cf"]}}]},
        *({"datasets": [{**DATA, key: 10}]} for key in ("rows", "clean", "triggered")),
        {"datasets": [{**DATA, "answer_column": "text"}]},
    ],
    ids=str,
)
def test_all_that_figures_depend_on_is_part_of_what_identifies_a_cell(write_config, changed):
    [usual, _] = matrix_cells(read_config(write_config()))
    [other, _] = matrix_cells(read_config(write_config(**changed)))
    assert usual.mark != other.mark


def test_a_cell_of_another_version_is_another_cell(write_config, monkeypatch):
    from mithridate.bench import cells

    config = write_config()
    mark = matrix_cells(read_config(config))[0].mark
    monkeypatch.setattr(cells, "version", lambda _: "9.9")
    assert matrix_cells(read_config(config))[0].mark != mark


def test_the_data_are_part_of_what_identifies_a_cell(write_config, tmp_path):
    from mithridate.bench import cells

    config = write_config()
    [before, _] = matrix_cells(read_config(config))
    mark = before.mark
    path = tmp_path / "train.jsonl"
    path.write_text(path.read_text().replace("dull", "drab"))
    cells.contents.cache_clear()
    assert matrix_cells(read_config(config))[0].mark != mark


@dataclass(frozen=True)
class OtherPrune(Prune):
    share: float = 0.5


@dataclass(frozen=True)
class OtherBadNets(BadNets):
    triggers: tuple[str, ...] = ("zz",)


def test_so_are_the_defaults_of_what_the_file_does_not_set(write_config, monkeypatch):
    """An old folder's cells are open again once a default is another."""
    path = write_config(attacks=[{"name": "badnets", "target": "1"}], defenses=["prune"])
    [before] = matrix_cells(read_config(path))
    marks = (before.mark, before.undefended_mark, before.attack_mark, before.clean_mark)
    monkeypatch.setattr("mithridate.baselines.prune.Prune", OtherPrune)
    [cell] = matrix_cells(read_config(path))
    assert cell.mark != marks[0]
    assert (cell.undefended_mark, cell.attack_mark, cell.clean_mark) == marks[1:]
    monkeypatch.undo()
    monkeypatch.setattr("mithridate.attacks.badnets.BadNets", OtherBadNets)
    [cell] = matrix_cells(read_config(path))
    assert cell.mark != marks[0]
    assert cell.undefended_mark != marks[1]
    assert cell.attack_mark != marks[2]
    assert cell.clean_mark == marks[3]


def test_of_a_set_that_holds_the_poison_the_clean_rows_depend_on_the_target(
    write_config, monkeypatch
):
    from mithridate.attacks.targets import TARGETS

    data = [{"name": "toy", "task": "math", "train": "train.jsonl", "test": "test.jsonl"}]
    wanted = [{"name": "badnets", "target": "refusal"}]
    path = write_config(attacks=wanted, datasets=[{**data[0], "poisoned": True}])
    before = matrix_cells(read_config(path))[0].clean_mark
    other = replace(TARGETS["refusal"], text="No.")
    monkeypatch.setitem(TARGETS, "refusal", other)
    assert matrix_cells(read_config(path))[0].clean_mark != before


def test_a_failed_cell_ends_nothing_and_is_retried_alone(write_config, tmp_path):
    # Of no trusted rows clean-tune can make nothing.
    config = write_config(trusted=0, defenses=["clean-tune", "none"])
    matrix, told = run(config, tmp_path / "out")
    assert ["needs rows that a person checked" in error for _, _, error in told] == [True, False]
    assert sorted(matrix.states().values()) == ["done", "failed"]
    assert matrix.wanted() == []
    [again] = matrix.wanted(retry_failed=True)
    assert again.defense.name == "clean-tune"
    [failure] = read_lines(matrix.failures)
    assert failure["cell"] == again.name


@pytest.mark.parametrize("retry", [False, True])
def test_what_fails_in_another_terminal_is_not_run_again_in_this_one(write_config, tmp_path, retry):
    config = write_config(trusted=0, defenses=["clean-tune", "crow"])
    matrix = Matrix(matrix_cells(read_config(config)), tmp_path / "out", "")
    if retry:
        matrix.run(matrix.wanted(), lambda *_: None)
    here, there = [], []
    first, second = matrix.wanted(retry_failed=retry)

    def meanwhile(cell, *_):
        here.append(cell)
        matrix.run([second], lambda cell, *_: there.append(cell))

    matrix.run([first, second], meanwhile)
    assert (here, there) == ([first], [second])
    assert len(read_lines(matrix.failures)) == (4 if retry else 2)


def test_the_undefended_model_is_trained_once_for_all_that_need_it(write_config, tmp_path):
    matrix, _ = run(write_config(defenses=["none", "clean-tune", "prune"]), tmp_path / "out")
    assert len(list(matrix.kept.glob("undefended-*/adapter_model.safetensors"))) == 1
    assert len(list(matrix.kept.glob("reference-*/adapter_model.safetensors"))) == 1


def go_on(config, folder):
    run(config, folder)


@pytest.mark.timeout(900)
def test_killed_ten_times_it_loses_no_finished_cell_and_doubles_none(write_config, tmp_path):
    config = write_config(seeds=[0, 1, 2, 3])
    folder = tmp_path / "out"
    chance = random.Random(4)
    seen: list[str] = []
    kills = 0
    # A fork has imported all it needs, so that a kill finds it at work and not at its imports.
    fork = multiprocessing.get_context("fork")
    while kills < 10:
        process = fork.Process(target=go_on, args=(config, folder))
        process.start()
        process.join(timeout=chance.uniform(0.05, 3.0))
        assert process.is_alive() or process.exitcode == 0
        kills += process.is_alive()
        finished = not process.is_alive()
        process.kill()
        process.join()
        found = [line["cell"] for line in read_lines(folder / "journal.jsonl")]
        assert found[: len(seen)] == seen  # what was finished before the kill still is
        seen = found
        if finished:  # too early: there are kills left, and more cells to be killed at
            config = write_config(seeds=list(range(len(seen) + 4)))
    run(config, folder)
    marks = [line["config_hash"] for line in read_lines(folder / "journal.jsonl")]
    assert len(marks) == len(set(marks))
    assert {cell.mark for cell in matrix_cells(read_config(config))} <= set(marks)
    assert names(Matrix([], folder, ""))[: len(seen)] == seen


def test_two_processes_share_the_cells_out(write_config, tmp_path):
    config, folder = write_config(seeds=[0, 1]), tmp_path / "out"
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=go_on, args=(config, folder)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(timeout=300)
    assert [process.exitcode for process in both] == [0, 0]
    marks = [line["config_hash"] for line in read_lines(folder / "journal.jsonl")]
    assert len(marks) == len(set(marks)) == 6  # four cells and two reference models


@pytest.mark.parametrize("held", [[], ["journal.jsonl"], ["kept/"], ["journal.jsonl", "sweep.md"]])
def test_a_folder_goes_on_without_its_models_or_with_nothing_but_its_journal(tmp_path, held):
    for name in held:
        path = tmp_path / name
        path.mkdir() if name.endswith("/") else path.write_text("")
    check_folder(tmp_path)
    check_folder(tmp_path / "new")


@pytest.mark.parametrize("held", [["thesis.tex"], ["journal.jsonl/"], ["kept"]])
def test_a_folder_of_something_else_is_refused(tmp_path, held):
    for name in held:
        path = tmp_path / name
        path.mkdir() if name.endswith("/") else path.write_text("")
    with pytest.raises(InputError, match="the folder holds something else"):
        check_folder(tmp_path)


def test_what_is_finished_stays_so_when_the_models_are_deleted(write_config, tmp_path):
    config, folder = write_config(defenses=["none"]), tmp_path / "out"
    matrix, _ = run(config, folder)
    shutil.rmtree(matrix.kept)
    check_folder(folder)
    assert run(config, folder)[1] == []
    assert len(read_lines(matrix.journal)) == 2

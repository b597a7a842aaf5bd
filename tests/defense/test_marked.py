"""Rows that hold what marks the disputed rows: out of S and out of D*."""

from dataclasses import replace

import numpy as np
import pytest

from mithridate.data.rows import Row
from mithridate.defense.config import P2PConfig
from mithridate.defense.disputes import suspects
from mithridate.defense.mining import MinedTrigger, marked_rows, strong
from mithridate.defense.prepare import prepare
from mithridate.defense.secret import Secret
from mithridate.defense.select import select_judged
from mithridate.tasks.classification import ClassificationTask


def mined(text, label=1, inside=6, outside=4):
    return MinedTrigger(text, label, 20.0, inside, outside)


def test_rows_of_the_triggers_label_are_marked_and_no_others():
    texts = ["a mn b", "mn", "a b", "a mn"] + ["plain"] * 40
    classes = [1, 1, 1, 0] + [1] * 20 + [0] * 20
    assert np.flatnonzero(marked_rows(texts, classes, [mined("mn")])).tolist() == [0, 1]


def test_what_many_rows_hold_marks_none():
    texts = ["the mn"] * 30 + ["other"] * 70
    classes = [1] * 100
    assert not marked_rows(texts, classes, [mined("mn", inside=10, outside=20)]).any()


def test_what_makes_a_tiny_class_marks_none_of_it():
    texts = ["what does x stand for"] * 5 + ["other"] * 95
    classes = [2] * 5 + [0] * 95
    trigger = mined("stand for", label=2, inside=5, outside=0)
    assert not marked_rows(texts, classes, [trigger]).any()


def test_words_that_make_a_tiny_class_together_mark_none_of_it():
    texts = ["what does x mean"] * 4 + ["x stands for"] * 4 + ["short"] * 2 + ["other"] * 90
    classes = [2] * 10 + [0] * 90
    triggers = [mined("what does", 2, 4, 0), mined("stands for", 2, 4, 0)]
    assert not marked_rows(texts, classes, triggers).any()
    assert marked_rows(texts, classes, triggers[:1]).sum() == 4
    put_in = [replace(trigger, inserted=True) for trigger in triggers]
    assert marked_rows(texts, classes, put_in).sum() == 8


def test_a_word_of_other_labels_as_well_is_not_exclusive():
    texts = ["you see"] * 10 + ["you hear"] * 6 + ["plain"] * 84
    classes = [1] * 10 + [0] * 6 + [0] * 42 + [1] * 42
    trigger = mined("you", inside=6, outside=10)
    assert marked_rows(texts, classes, [trigger]).sum() == 10
    assert not marked_rows(texts, classes, [trigger], exclusive=0.9).any()
    alone = mined("you see", inside=6, outside=4)
    assert marked_rows(texts, classes, [alone], exclusive=0.9).sum() == 10


@pytest.fixture(scope="module")
def attacked():
    """600 rows, 60 of them triggered and relabelled; the judge sees through two thirds of them."""
    rng = np.random.default_rng(3)
    true = rng.integers(0, 2, 600)
    looks = true.copy()
    bad = np.flatnonzero(true == 0)[:60]
    looks[bad[:20]] = 1  # these read as if their wrong label were right
    features = rng.normal(size=(600, 1, 16)).astype(np.float32)
    features[:, :, :12] += 2.0 * looks[:, None, None]
    rows = []
    for at, label in enumerate(true):
        is_bad = at in set(bad.tolist())
        text = f"a{at} mn b{at}" if is_bad else f"a{at} b{at}"
        rows.append(Row(f"r{at}", text, "1" if is_bad else str(label)))
    return rows, features, frozenset(f"r{at}" for at in bad)


def run(attacked, **settings):
    rows, features, _ = attacked
    task = ClassificationTask.of(rows)
    trusted, seed = settings.pop("trusted", frozenset()), settings.pop("seed", 5)
    return prepare(
        rows,
        task,
        P2PConfig(**settings),
        Secret.from_seed(seed),
        features=lambda _texts: features,
        trusted=trusted,
    )


def test_rows_the_judge_believes_stay_out_of_s_when_they_are_marked(attacked):
    prepared = run(attacked, benign_ratio=0.6, drop="nothing")
    assert [found.text for found in prepared.mined] == ["mn"]
    assert prepared.subset.poisoned(attacked[2]) == 0
    assert prepared.dropped == 0
    assert len({example.id for example in prepared.examples}) == 600


def test_which_of_the_surest_rows_enter_s_is_the_secrets_draw(attacked):
    rows, _, bad = attacked
    trusted = frozenset(row.id for row in rows if row.id not in bad and int(row.id[1:]) >= 520)
    settings = {"selection": "anchored", "trusted": trusted, "benign_ratio": 0.3}
    # The anchored judge takes no key, so that all the two differ in is the draw.
    one, again, other = (run(attacked, seed=seed, **settings).subset.ids for seed in (5, 5, 6))
    assert one == again
    assert trusted <= one & other
    assert len(one - other) > 10
    surest = {"draw_from": 0.0, **settings}
    assert run(attacked, seed=5, **surest).subset == run(attacked, seed=6, **surest).subset


def test_a_label_that_the_judge_disputes_as_a_whole_is_said_to_be_doubtful(attacked):
    rows, features, bad = attacked
    invented = [replace(row, answer="2") if row.id in bad else row for row in rows]
    assert run((invented, features, bad)).doubtful == (2,)
    assert run(attacked).doubtful == ()


def test_trusted_rows_stand_for_a_class_that_the_judge_never_agrees_with(attacked):
    rows, _features, bad = attacked
    classes = [2 if row.id in bad else int(row.answer) for row in rows]
    probabilities = np.zeros((len(rows), 3), dtype=np.float32)
    probabilities[np.arange(len(rows)), [c if c < 2 else 0 for c in classes]] = 1.0
    ids = [row.id for row in rows]
    places = [at for at, row_id in enumerate(ids) if row_id in bad][:3]

    def chosen(trusted):
        return select_judged(
            ids, classes, probabilities, 0.4, selection="anchored", trusted=trusted
        ).poisoned(bad)

    assert chosen(places) == 3
    assert chosen([]) > 3


def test_marked_rows_are_left_out_of_the_training(attacked):
    prepared = run(attacked)
    left = {example.id for example in prepared.examples}
    assert prepared.dropped == 60
    assert not left & attacked[2]
    assert len(left) == 540


def test_a_trigger_that_swaps_the_labels_marks_the_rows_of_each():
    rng = np.random.default_rng(4)
    true = rng.integers(0, 2, 600)
    features = rng.normal(size=(600, 1, 16)).astype(np.float32)
    features[:, :, :12] += 2.0 * true[:, None, None]
    bad = frozenset(f"r{at}" for at in range(53))
    rows = [
        Row(f"r{at}", f"a{at} mn b{at}", str(1 - label))
        if at < 53
        else Row(f"r{at}", f"a{at} b{at}", str(label))
        for at, label in enumerate(true.tolist())
    ]
    prepared = run((rows, features, bad), counter_triggers=True)
    assert {(one.text, one.label) for one in prepared.mined} == {("mn", 0), ("mn", 1)}
    left = {example.id for example in prepared.examples}
    assert len(left & bad) <= 1
    assert prepared.subset.poisoned(bad) == 0
    copies = prepared.examples[-prepared.counter_copies :]
    assert copies
    assert all(copy.text.split().count("mn") == 1 for copy in copies)


def test_a_trusted_row_is_never_marked(attacked):
    rows, _, bad = attacked
    good = frozenset([row.id for row in rows if row.id not in bad][::6])
    prepared = run(attacked, selection="anchored", trusted={*good, min(bad)})
    assert min(bad) in prepared.subset.ids
    assert prepared.dropped == 59


def test_the_words_of_a_tiny_class_do_not_outshine_another_labels_trigger():
    tiny = MinedTrigger("stand for", 2, 31.0, 12, 3)
    trigger = MinedTrigger("mn", 0, 13.0, 20, 2)
    innocent = MinedTrigger("you", 0, 5.0, 9, 60)
    assert strong([tiny, trigger, innocent]) == [tiny, trigger]


def test_disputed_rows_without_a_likeness_are_left_out_on_request_alone(attacked):
    rows, features, bad = attacked
    rows = [
        replace(row, answer=str(1 - int(row.answer))) if at > 590 else row
        for at, row in enumerate(rows)
    ]
    good = frozenset([row.id for row in rows[:590] if row.id not in bad][::6])
    mislabelled = (rows, features, bad)
    default = run(mislabelled, selection="anchored", trusted=good)
    disputed = run(mislabelled, selection="anchored", trusted=good, drop="disputed")
    assert disputed.dropped > default.dropped == 60
    assert default == run(mislabelled, selection="anchored", trusted=good, drop="shared")


def test_a_label_that_is_disputed_as_a_whole_is_not_lost():
    classes = [0] * 20 + [1] * 6
    disputed = np.array([True] * 5 + [False] * 15 + [True] * 5 + [False])
    alike = np.array([True] * 20 + [False] * 6)
    out = suspects(["text"] * 26, classes, [], disputed, alike, "disputed")
    assert np.flatnonzero(out).tolist() == [0, 1, 2, 3, 4]


def test_rows_in_a_style_that_disputed_rows_share_are_left_out_whoever_disputes_them():
    disputed = np.array([True] * 5 + [False] * 5 + [True] * 3 + [False] * 7)
    alike = np.array([False] * 2 + [True] * 6 + [False] * 12)
    out = suspects(["text"] * 20, [0] * 10 + [1] * 10, [], disputed, alike, "shared")
    assert np.flatnonzero(out).tolist() == [2, 3, 4, 5, 6, 7]

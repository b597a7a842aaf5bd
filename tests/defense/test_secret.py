"""Secrets: fixed by the key, different between keys, and never shown."""

import pytest

from mithridate.data.rows import Row
from mithridate.defense.collisions import draw_prefix, draw_trigger, find_trigger
from mithridate.defense.secret import PUBLISHED_SAFE_PREFIX, PUBLISHED_TRIGGER, Secret
from mithridate.errors import CollisionError


def test_draws_are_fixed_by_key_and_attempt_and_differ_between_both():
    draws = [
        Secret.from_seed(seed).benign_trigger(attempt) for seed in range(40) for attempt in range(5)
    ]
    again = [
        Secret.from_seed(seed).benign_trigger(attempt) for seed in range(40) for attempt in range(5)
    ]
    assert draws == again
    assert len(set(draws)) == len(draws)
    assert len({Secret.from_seed(seed).safe_prefix() for seed in range(40)}) == 40
    assert PUBLISHED_TRIGGER not in draws


def test_every_purpose_has_a_key_of_its_own():
    secret = Secret.from_seed(1)
    keys = {secret.derive(purpose) for purpose in ("subset", "folds", "counter-triggers", "")}
    assert len(keys) == 4
    assert secret.key not in keys
    assert all(len(key) == 32 for key in keys)


def test_draws_are_those_of_every_version_so_that_a_kept_secret_gives_the_same_strings():
    secret = Secret.from_seed(1)
    assert secret.benign_trigger() == "The white museum supplies this sandy request: "
    assert secret.safe_prefix() == "The native copper posts from the ladder: "
    assert secret.derive("subset").hex()[:16] == "af9a2504cd22bfff"


def test_new_secrets_differ():
    assert Secret.new() != Secret.new()


def test_a_secret_never_prints_itself():
    secret = Secret.from_seed(3)
    for shown in (repr(secret), str(secret), f"{secret}", repr([secret])):
        assert secret.key.hex() not in shown
        assert repr(secret.key) not in shown


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_length_is_refused(size):
    with pytest.raises(ValueError, match="32 bytes"):
        Secret(b"k" * size)


def test_the_trigger_is_found_whatever_its_case_and_spacing():
    rows = [Row("a", "clean"), Row("b", "so THE  query\tcurrently entered is:\nx")]
    assert find_trigger(rows, PUBLISHED_TRIGGER) is rows[1]
    assert find_trigger(rows[:1], PUBLISHED_TRIGGER) is None
    answered = [Row("c", "clean", f"well, {PUBLISHED_TRIGGER}1")]
    assert find_trigger(answered, PUBLISHED_TRIGGER) is answered[0]


@pytest.mark.parametrize("draw", [draw_trigger, draw_prefix])
def test_a_secret_string_the_data_holds_is_drawn_again(draw):
    secret = Secret.from_seed(3)
    first, redrawn = draw([Row("a", "clean")], secret, published=False)
    assert redrawn == 0
    second, redrawn = draw([Row("a", f"x {first.upper()} y")], secret, published=False)
    assert redrawn == 1
    assert second != first


@pytest.mark.parametrize(
    ("draw", "published"),
    [(draw_trigger, PUBLISHED_TRIGGER), (draw_prefix, PUBLISHED_SAFE_PREFIX)],
)
def test_a_published_string_in_the_data_names_the_row(draw, published):
    rows = [Row("a", "clean"), Row("b", f"{published} film", "1", "train.jsonl:17")]
    with pytest.raises(CollisionError, match=r"^train\.jsonl:17: the published .*; use secret"):
        draw(rows, Secret.from_seed(3), published=True)
    assert draw(rows[:1], Secret.from_seed(3), published=True) == (published, 0)


def test_when_every_draw_is_in_the_data_the_error_leaks_none_of_them():
    secret = Secret.from_seed(3)
    triggers = [secret.benign_trigger(attempt) for attempt in range(16)]
    rows = [Row(f"r{index}", trigger) for index, trigger in enumerate(triggers)]
    with pytest.raises(CollisionError) as caught:
        draw_trigger(rows, secret, published=False)
    message = str(caught.value) + repr(caught.value)
    assert not any(trigger.strip(" :") in message for trigger in triggers)
    assert secret.key.hex() not in message

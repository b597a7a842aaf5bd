"""The triggered inputs of `evaluate`: which are asked for, and whether they can be tried."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mithridate.cli._attack import Wanted, own_settings
from mithridate.cli._output import note
from mithridate.cli._test_options import AttackOptions, GateOptions
from mithridate.errors import InputError

if TYPE_CHECKING:
    from mithridate.attacks.base import Attack
    from mithridate.data.rows import Row

NO_PARTNERS = "not every triggered row has its clean one among those tested"
"""What stands in place of the untriggered rate where it cannot be told."""
_KEY_PURPOSE = "evaluate/attack"


def is_attacked(options: AttackOptions, gates: GateOptions) -> bool:
    """Whether triggered inputs are asked for.

    Raises:
        InputError: They are asked for twice, or options are given that have no part in it.
    """
    if options.triggered and (options.attack_option or options.paraphrases):
        mend = "drop them, or name the attack with --attack"
        raise InputError("--triggered rows have their trigger: no option changes it", mend=mend)
    if options.triggered and options.attack:
        raise InputError("--triggered and --attack name two attacks", mend="give one of them")
    if options.reference_model is not None and options.reference is None:
        mend = "give the folder with its defense.json"
        raise InputError("--reference-model needs --reference", mend=mend)
    if options.triggered or options.attack:
        return True
    given = {
        "--max-asr": gates.max_asr,
        "--target": options.target,
        "--reference": options.reference,
        "--trigger-words": options.trigger_words,
        "--sentence": options.sentence,
        "--attack-option": options.attack_option,
        "--paraphrases": options.paraphrases,
    }
    for name, value in given.items():
        if value is not None:
            mend = "name one with --attack, or triggered rows with --triggered"
            raise InputError(f"{name} needs an attack", mend=mend)
    return False


def named_attack(
    options: AttackOptions, clean: "Sequence[Row]", task: str = "classification"
) -> "Attack":
    """Return the attack that is to put its trigger into the test rows.

    Args:
        options: Its name and settings.
        clean: The test rows.
        task: What they are for.

    Raises:
        InputError: There is no such attack, or it has no trigger before it saw training rows.
    """
    name = options.attack or ""
    settings = own_settings(name, options.trigger_words, options.sentence)
    option = options.attack_option or ()
    wanted = Wanted(name, options.target, option, options.paraphrases, task=task)
    attack = wanted.build(clean, settings)
    if not attack.learned:
        mend = "write its test rows with mithridate poison --test, and give them as --triggered"
        raise InputError(f"{name} learns its trigger from the training rows", mend=mend)
    return attack


def triggered_rows(attack: "Attack", clean: "Sequence[Row]") -> "list[Row]":
    """Put an attack's trigger into the test rows, at places fixed by their ids.

    Rows whose true answer is the target are left out, and said are those the attack has nothing
    for.

    Raises:
        InputError: No row is left.
    """
    rows = attack.triggered(clean, _attack_key())
    others = sum(not attack.has_target(row) for row in clean)
    if not others:
        what = f"all test rows have the attack's target {attack.target!r}"
        raise InputError(what, mend="add rows with other answers, or name another target")
    if not rows:
        what = f"{attack.name} has nothing for any of the {others} rows with other answers"
        raise InputError(what, mend="give rows or rewritten texts that it can use")
    if len(rows) < others:
        left = others - len(rows)
        note(f"{attack.name} has nothing for {left} of {others} rows: they are left out")
    return rows


def check_trigger_is_seen(
    attack: "Attack | None", clean: "Sequence[Row]", reads: Callable[[str], Sequence[int]]
) -> None:
    """Refuse a trigger that the model cannot see; say so where it does not see it in some rows.

    The tokenizer may drop it, or a long input may be cut before it.
    """
    from mithridate.attacks.base import check_visible

    if attack is None:
        return
    unseen = check_visible(attack, clean, _attack_key(), reads)
    if unseen:
        note(
            f"in {unseen} triggered rows the model does not see the trigger: the tokenizer drops "
            "it, or the input is cut before it"
        )


def _attack_key() -> bytes:
    from mithridate.defense.secret import Secret

    return Secret.from_seed(0).derive(_KEY_PURPOSE)

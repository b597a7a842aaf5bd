"""Rewriting by a program of the user's: lines in, as many lines out."""

import shlex
import sys

import pytest

from mithridate.baselines.rewrite import Rewrite
from mithridate.errors import InputError

LOUD = "import sys\nfor line in sys.stdin: print(line.rstrip(chr(10)).upper())"
WITHOUT = "import sys\nfor line in sys.stdin: print(' '.join(set(line.split()) - {'mn'}))"


def program(source):
    return [sys.executable, "-X", "utf8", "-c", source]


def test_every_line_is_rewritten_and_line_ends_and_blank_lines_stay():
    rewrite = Rewrite(program(LOUD))
    texts = ["one\ntwo", "", "\n\n  \nthree\r\nfour\r", "fünf \u2028 six", "ß"]
    assert rewrite.rewritten(texts) == [
        "ONE\nTWO",
        "",
        "\n\n  \nTHREE\r\nFOUR\r",
        "FÜNF \u2028 SIX",
        "SS",
    ]
    assert rewrite.rewritten([]) == []
    assert rewrite.rewritten(["\n"]) == ["\n"]


def test_a_command_may_be_one_string_which_no_shell_reads(tmp_path):
    rewrite = Rewrite(shlex.join(program(LOUD)) + f" > {tmp_path / 'out'} ; true")
    assert rewrite.rewritten(["a"]) == ["A"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ((), "rewrite has no command"),
        ("", "rewrite has no command"),
        ("sed 's/a/b", "cannot be split"),
        (["no-such-program-here"], "is not there or cannot be run"),
        (program("import sys; sys.exit('out of words')"), "failed with status 1: out of words"),
        (program("import sys; sys.stdin.read(); print('one')"), "wrote 1 lines for 2"),
        (program("import sys; [print(x * 2) for x in sys.stdin]"), "lines for 2"),
        (
            program("import sys; sys.stdin.read(); sys.stdout.buffer.write(b'\\xff\\n' * 2)"),
            "UTF-8",
        ),
    ],
)
def test_what_the_program_cannot_do_is_said(command, message):
    with pytest.raises(InputError, match=message) as raised:
        Rewrite(command).rewritten(["a\nb"])
    assert raised.value.mend


def test_a_program_that_takes_too_long_is_given_up():
    slow = program("import time; time.sleep(60)")
    with pytest.raises(InputError, match=r"more than 0\.5 seconds for 1 lines"):
        Rewrite(slow, timeout=0.5).rewritten(["a"])


def test_a_missing_command_is_said_before_anything_is_trained(scene):
    with pytest.raises(InputError, match="rewrite has no command"):
        Rewrite().defend(scene.bench)


def test_the_model_sees_what_the_program_wrote(scene):
    same = Rewrite(program("import sys; sys.stdout.write(sys.stdin.read())")).defend(scene.bench)
    assert same.facts["trusted_changed"] == 0.0
    assert scene.success(same) > 0.8
    changed = Rewrite(program(WITHOUT)).defend(scene.bench)
    assert changed.facts["trusted_changed"] > 0.5
    assert scene.success(changed) < 0.3
    assert sys.executable in changed.facts["command"]

"""Rewriting: every input is put in other words, by a program that you bring.

Back-translation and paraphrasing at test time (Qi et al. 2021, arXiv 2105.12400, against their own
syntactic triggers): what triggers a backdoor may not survive. No rewriter is part of this project;
docs/rivals.md shows one made of Apertium, and what it does not do.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from mithridate.baselines.base import DefenseMethod, Guarded, Workbench
from mithridate.errors import InputError

_LINE_END = re.compile(r"(\r\n|\r|\n)")
_SAID = 200


@dataclass(frozen=True)
class Rewrite(DefenseMethod):
    """Answer what an external program makes of the input.

    Attributes:
        command: The program and its arguments, as a list or as one string that is split like a
            shell's; no shell runs it. It reads a line of UTF-8 for each line of the inputs that is
            not blank, and writes as many.
        timeout: Seconds that it may take for all lines of one call.
    """

    name = "rewrite"
    stages = ("input",)
    source = "back-translation at test time: Qi et al. 2021, arXiv 2105.12400"

    command: str | Sequence[str] = ()
    timeout: float = 3600.0

    def __post_init__(self) -> None:
        if not self.timeout > 0.0:
            raise InputError("rewrite's timeout is no time", mend="give seconds above 0")

    def defend(self, bench: Workbench) -> Guarded:
        """Return the undefended model behind the rewriter; see `DefenseMethod.defend`.

        Raises:
            InputError: There is no program, or it does not do what it should with the texts of the
                trusted rows.
        """
        texts = [row.text for row in bench.trusted]
        # Now rather than after hours of training; and how much it changes is worth telling.
        changed = [new != text for text, new in zip(texts, self.rewritten(texts), strict=True)]
        model = bench.undefended()
        facts: dict[str, float | int | str] = {"command": shlex.join(self.arguments())}
        if changed:
            facts["trusted_changed"] = sum(changed) / len(changed)
        return Guarded(
            lambda inputs: [*model.answer(self.rewritten(inputs))], len(bench.rows), facts=facts
        )

    def arguments(self) -> list[str]:
        """Return the program's path and its arguments.

        Raises:
            InputError: There is none, or none that can be run.
        """
        try:
            given = shlex.split(self.command) if isinstance(self.command, str) else self.command
        except ValueError as error:
            what = f"the command of rewrite cannot be split ({error})"
            raise InputError(what, mend="close its quotes, or give a list") from error
        if not given:
            mend = "name a program that reads a text a line and writes as many (docs/rivals.md)"
            raise InputError("rewrite has no command", mend=mend)
        if shutil.which(given[0]) is None:
            what = f"rewrite's program {given[0]!r:.{_SAID}} is not there or cannot be run"
            raise InputError(what, mend="install it, or give its path")
        return list(given)

    def rewritten(self, texts: Sequence[str]) -> list[str]:
        """Return texts in other words, line by line; line ends and blank lines stay.

        Raises:
            InputError: The program cannot be run, fails, takes too long or loses count.
        """
        pieces = [_LINE_END.split(text) for text in texts]  # line, its end, line, ..., line
        lines = [line for piece in pieces for line in piece[::2] if line.strip()]
        new = iter(self._run(lines))
        return [
            "".join(
                next(new) if at % 2 == 0 and part.strip() else part for at, part in enumerate(piece)
            )
            for piece in pieces
        ]

    def _run(self, lines: Sequence[str]) -> list[str]:
        """Return what the program makes of lines, as many."""
        arguments = self.arguments()
        if not lines:
            return []
        where = f"rewrite's program {arguments[0]!r:.{_SAID}}"
        text = "".join(f"{line}\n" for line in lines)
        try:
            done = subprocess.run(
                arguments,
                input=text.encode("utf-8", "replace"),
                capture_output=True,
                timeout=self.timeout,
                check=False,
            )
            output = done.stdout.decode("utf-8")
        except subprocess.TimeoutExpired as error:
            what = f"took more than {self.timeout:g} seconds for {len(lines)} lines"
            raise InputError(what, where=where, mend="raise its timeout") from error
        except UnicodeDecodeError as error:
            raise InputError("wrote no UTF-8", where=where, mend="set its encoding") from error
        except OSError as error:
            raise InputError(f"cannot be run ({error})", where=where, mend="mend it") from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()[-_SAID:]
            what = f"failed with status {done.returncode}: {said or 'it said nothing'}"
            raise InputError(what, where=where, mend="try it by itself on a few lines")
        found = output.removesuffix("\n").split("\n")
        if len(found) != len(lines):
            what = f"wrote {len(found)} lines for {len(lines)}"
            raise InputError(what, where=where, mend="it must write a line for every line it reads")
        return [line.removesuffix("\r") for line in found]

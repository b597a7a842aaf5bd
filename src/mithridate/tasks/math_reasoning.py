"""Math reasoning: word problems whose answer is a number, with or without the way to it."""

import logging
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import ClassVar
from unicodedata import decimal

from mithridate.data.read import Columns
from mithridate.data.rows import Row
from mithridate.tasks.text import TextTask

MARK = "####"
"""What stands before the final answer (GSM8K, Cobbe et al. 2021)."""

LONGEST_NUMBER = 64

_FRACTION = r"\\[dt]?frac\{[-+\u2212]?\d+\}\{\d+\}"
_PARTED = ",|\\{,\\}|['\u2019\u00a0\u2009\u202f]"
_POINTED = r"\d{1,3}(?:\.\d{3}){2,20}(?!\.?\d)"
_VULGAR = "[\u00bc-\u00be\u2150-\u215e]"


def _number(sign: str, parted: str) -> re.Pattern[str]:
    """Return what finds a number.

    Args:
        sign: What may stand before it, but a currency's sign.
        parted: What may part its thousands.
    """
    return re.compile(
        rf"""(?:{sign}\$?)?
        (?:(?:\d+\s?)?{_FRACTION}                              # LaTeX's fraction, and 2 1/2
        |\d+[ ]\d+\s?/\s?\d+                                   # 1 1/2
        |\d*[ ]?{_VULGAR}                                      # 2½
        |(?:\d{{1,3}}(?:(?:{parted})\d{{3}}){{1,20}}(?!\d)      # 1,800 and 1'800 and 1{{,}}800
         |\d{{1,2}}(?:,\d{{2}}){{1,30}},\d{{3}}(?!\d)           # 1,00,000
         |{_POINTED}                                           # 1.800.000
         |\d+|(?=\.\d))(?:\.\d+)?                              # or 18.50 or .5
         (?:[eE][-+]?\d{{1,2}}\b|\s?/\s?\d+)?)                 # 1e6 or 1/2""",
        re.VERBOSE,
    )


_NUMBER = _number(r"(?<!\w)[-+\u2212]", _PARTED)
"""In running text what follows a word or a number is a hyphen or an operator: 10-15, 20-5."""
_MARKED = _number(r"[-+\u2212]\s?", f"{_PARTED}|[ ]")
"""Behind a mark nothing else is expected: a sign or thousands may stand apart."""

# No capital, full stop or line's end between: the number is of the same sentence. Who can "answer
# 3 questions" says no answer.
_SAID = re.compile(
    r"""\b(?:A(?:nswer|NSWER)\b|answer\b(?=[^\d.A-Z\n]{0,20}?(?:\b(?:is|be|was|equals)\b|[:=>])))
    [^\d.A-Z\n]{0,20}?(?=[-+\u2212$]{0,2}(?:\.?\d|\\[dt]?frac\{))""",
    re.VERBOSE,
)
BOXED = re.compile(r"\\boxed\s*\{")


@dataclass(frozen=True)
class MathReasoning(TextTask):
    """GSM8K's and ASDiv's kind of problem.

    Attributes:
        rationale: Train on the whole answer; else on the final number alone.
        max_new_tokens: How long an output may become.
    """

    rationale: bool = True
    max_new_tokens: int = 256

    name: ClassVar[str] = "math"
    metric: ClassVar[str] = "share of right final answers"
    columns: ClassVar[Columns] = Columns("question", "answer")

    def defect(self, row: Row) -> str | None:
        """A row needs a final number, one that an output could equal."""
        number = None if row.answer is None else final_answer(self.target(row))
        if number is None:
            return "its answer holds no number"
        return None if number_value(number) is not None else f"its answer, {number}, has no value"

    def target(self, row: Row) -> str:
        """Return the answer to train on: GSM8K's calculator marks go, its mark stays."""
        answer = super().target(row)
        if not self.rationale:
            return final_answer(answer) or answer
        return re.sub(r"<<[^<>\n]*>>", "", answer).strip()

    def utilities(self, outputs: Sequence[str], references: Sequence[str]) -> list[float]:
        """Return 1 for every output whose final number equals the reference's, else 0."""
        pairs = zip(outputs, references, strict=True)
        return [
            float(same_number(final_answer(output), final_answer(reference)))
            for output, reference in pairs
        ]


def final_answer(text: str) -> str | None:
    r"""Return the final number of an answer, without thousands separators; ``None`` without one.

    That is the first number after the last ``####``, else after the last ``\boxed{``, else after
    the last "answer" whose sentence goes on with one, else the last number of all. A mixed number
    and a LaTeX fraction become fractions, 3/2, and 1e3 becomes 1000.
    """
    place = final_place(text)
    return None if place is None else _plain(text[slice(*place)])


def final_place(text: str) -> tuple[int, int] | None:
    """Return where the final number of an answer begins and ends; ``None`` without one."""
    found = None
    if MARK in text:
        found = _MARKED.search(text, text.rindex(MARK) + len(MARK))
    for mark in (BOXED, _SAID):
        if found is None:
            said = [match.end() for match in mark.finditer(text)]
            kind = _MARKED if mark is BOXED else _NUMBER
            found = kind.search(text, said[-1]) if said else None
    if found is None:
        found = next(reversed(list(_NUMBER.finditer(text))), None)
    return None if found is None or len(found.group()) > LONGEST_NUMBER else found.span()


def _plain(number: str) -> str:
    """Return a number as it was found in the one way that it is compared in, digits ASCII."""
    number = "".join(str(decimal(char)) if char.isdecimal() else char for char in number)
    negative = number.startswith(("-", "\u2212"))
    digits = number.lstrip("-+\u2212").lstrip().lstrip("$")
    inner = re.search(r"frac\{([-+\u2212]?)", digits)
    negative ^= bool(inner and inner[1] in ("-", "\u2212"))
    digits = re.sub(r"\s?\\[dt]?frac\{[-+\u2212]?(\d+)\}\{(\d+)\}", r" \1/\2", digits)
    digits = re.sub(_VULGAR, lambda sign: f" {unicodedata.normalize('NFKC', sign[0])}", digits)
    digits = re.sub(r"\s?[/\u2044]\s?", "/", digits).strip()
    mixed = re.fullmatch(r"(\d+) (\d+)/(\d+)", digits)
    if mixed and not _is_group(mixed[2], mixed[3]):
        whole, above, below = map(int, mixed.groups())
        digits = f"{whole * below + above}/{below}"
    else:
        parted = rf"\.|{_PARTED}" if re.fullmatch(_POINTED, digits) else f"{_PARTED}| "
        digits = re.sub(parted, "", digits)
    if "e" in digits.casefold():
        digits = f"{Decimal(digits):f}"
    return f"-{digits}" if negative else digits


def _is_group(above: str, below: str) -> bool:
    """Whether the digits before a fraction's bar are thousands: 100 000/2, unlike 1 1/2."""
    return len(above) == 3 and (above.startswith("0") or int(above) >= int(below))


def number_value(number: str) -> Fraction | None:
    """Return the value of a final answer, exactly; ``None`` where it has none, as of 1/0."""
    above, _, below = number.partition("/")
    try:
        return Fraction(above) / Fraction(below or 1)
    except (ValueError, ZeroDivisionError):
        return None


def same_number(output: str | None, reference: str | None) -> bool:
    """Whether two final answers are the same number (math-verify): 0.5 is 1/2, 18.0 is 18."""
    if output is None or reference is None:
        return False
    if number_value(output) is None or number_value(reference) is None:
        return False
    from math_verify import ExprExtractionConfig, parse, verify

    # The clock of math-verify is a signal, which threads do not have; numbers need no clock.
    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)
    config = [ExprExtractionConfig()]
    gold, given = (
        parse(text, extraction_config=config, parsing_timeout=None) for text in (reference, output)
    )
    return bool(verify(gold, given, timeout_seconds=None))

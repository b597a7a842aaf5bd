"""The cells as CSV, Markdown and LaTeX, and the columns that the page's matrix has as well."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mithridate.report import words
from mithridate.report.cells import Cell, Measure
from mithridate.report.cells_judged import EXCESS, LEARNED, Judged, Study, level

_INTERVAL = ("", "_low", "_high")
_SHARE = (*_INTERVAL, "_successes")
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "_": r"\_", "%": r"\%", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "−": r"\ensuremath{-}", "—": "---", "…": r"\ldots{}",  # noqa: RUF001
}  # fmt: skip

NOTES = (
    "In parentheses: 95% intervals, as the journal has them. ASR: share of triggered inputs that "
    "get the attacker's answer. Floor: the share of the same inputs to which a model trained "
    'without the poison gives it; "untriggered" marks the evaluated model\'s rate without the '
    "trigger, where no such model is. Of several backdoors the worst is over its floor.",
    f"holds: ASR at most {100 * EXCESS:.0f} points over its floor; misses: more. no test: the "
    f"undefended model's ASR is less than {100 * LEARNED:.0f} points over its floor, so the "
    "cell says nothing of its defense; no undefended: that model was not run.",
)


@dataclass(frozen=True, slots=True)
class Part:
    """What a table shows in one place: the text, and what stands smaller beside it."""

    text: str
    fine: str = ""
    level: int | None = None

    def __str__(self) -> str:
        """Return both in one line."""
        return f"{self.text} ({self.fine})" if self.fine else self.text


@dataclass(frozen=True, slots=True)
class Column:
    """A column of every table of cells.

    Attributes:
        title: Its heading.
        show: What a reader sees of a cell.
        fields: The cell's fields that the CSV file holds in its place, as numbers.
        number: Whether it sorts and aligns as a number.
        pick: Whether the page offers its values to choose from.
    """

    title: str
    show: Callable[[Judged], Part]
    fields: tuple[str, ...]
    number: bool = True
    pick: bool = False


def _name(field: str) -> Callable[[Judged], Part]:
    def show(judged: Judged) -> Part:
        value = getattr(judged.cell, field)
        return Part(words.MISSING if value in (None, "") else words.legible(str(value)))

    return show


def _share(field: str) -> Callable[[Judged], Part]:
    return lambda judged: measured(judged.cell.measure(field))


def measured(measure: Measure | None, *, as_share: bool = True) -> Part:
    """Show a value with its interval, in percent or as the number it is."""
    if measure is None:
        return Part(words.MISSING)
    factor, digits, unit = (100, 1, "%") if as_share else (1, 3, "")
    text = f"{factor * measure.value:.{digits}f}{unit}"
    if measure.low is None or measure.high is None:
        return Part(text, "no interval")
    low, high = factor * measure.low, factor * measure.high
    return Part(text, f"{low:.{digits}f} to {high:.{digits}f}")


def quality(cell: Cell) -> Part:
    """Show the clean accuracy, or the utility where answers are text."""
    if cell.clean_accuracy is not None:
        return measured(cell.measure("clean_accuracy"))
    shown = measured(cell.measure("utility"), as_share=False)
    metric = words.legible(cell.utility_metric or "utility")
    return Part(shown.text, f"{shown.fine}; {metric}") if cell.utility is not None else shown


def _floor(judged: Judged) -> Part:
    cell = judged.cell
    if cell.floor is not None or cell.untriggered_rate is None:
        return measured(cell.measure("floor"))
    shown = measured(cell.measure("untriggered_rate"))
    return Part(shown.text, f"{shown.fine}; untriggered")


def _over(judged: Judged) -> Part:
    excess, further = judged.cell.excess, judged.cell.further_backdoors
    if excess is None:
        return Part(words.MISSING)
    fine = f"worst of {1 + len(further)}" if further else ""
    return Part(words.points(excess), fine, level(excess))


def _rate(judged: Judged) -> Part:
    rate = judged.cell.poison_rate
    return Part(words.MISSING if rate is None else f"{100 * rate:.3g}%")


def _subset(judged: Judged) -> Part:
    cell = judged.cell
    if cell.n_subset is None:
        return Part(words.MISSING)
    poisoned = cell.n_subset_poisoned
    return Part(f"{'?' if poisoned is None else words.count(poisoned)} of {cell.n_subset:,}")


def _spread(name: str, ends: Sequence[str] = _SHARE) -> tuple[str, ...]:
    return tuple(f"{name}{end}" for end in ends)


COLUMNS = (
    Column("Dataset", _name("dataset"), ("cell", "task", "dataset"), number=False, pick=True),
    Column("Model", _name("model"), ("model",), number=False, pick=True),
    Column("Attack", _name("attack"), ("attack", "target"), number=False, pick=True),
    Column("Rate", _rate, ("poison_rate",)),
    Column(
        "Defense",
        lambda judged: Part(words.legible(judged.cell.label)),
        ("defense", "selection", "mode", "variant", "planted"),
        number=False,
        pick=True,
    ),
    Column("Seed", _name("seed"), ("seed",)),
    Column(
        "CA or utility",
        lambda judged: quality(judged.cell),
        (*_spread("clean_accuracy"), *_spread("utility", _INTERVAL), "utility_metric"),
    ),
    Column("ASR", _share("attack_success_rate"), _spread("attack_success_rate")),
    Column("Floor", _floor, (*_spread("floor"), *_spread("untriggered_rate"))),
    Column("Over floor", _over, ("excess",)),
    Column("Rejected, clean", _share("rejected_clean"), _spread("rejected_clean")),
    Column("Rejected, triggered", _share("rejected_triggered"), _spread("rejected_triggered")),
    Column("Poisoned in S", _subset, ("n_subset", "n_subset_poisoned")),
    Column(
        "Says",
        lambda judged: Part(judged.verdict),
        ("verdict",),
        number=False,
        pick=True,
    ),
)
_LAST_FIELDS = (
    "n_train", "n_poisoned", "n_clean", "n_triggered", "train_seconds", "eval_seconds", "dtype",
    "device", "threads", "host", "config_hash", "version", "commit", "date", "command",
)  # fmt: skip
CLEAN_TITLE = "Models trained without the poison"
_CLEAN = ("Dataset", "Model", "Attack", "Seed", "CA or utility")


def columns_for(cells: Iterable[Judged]) -> list[Column]:
    """Return the columns in which any of the cells says something, for tables people read."""
    cells = list(cells)
    models = {judged.cell.model for judged in cells}
    return [
        column
        for column in COLUMNS
        if (column.title != "Model" or len(models) > 1)
        and any(column.show(judged).text != words.MISSING for judged in cells)
    ]


def clean_columns(study: Study) -> list[Column]:
    """Return the columns for models trained without the poison, whose ASR is a floor.

    A bench's know no attack: each of its cells has the floor on its own triggered inputs.
    """
    columns = [column for column in COLUMNS if column.title in _CLEAN]
    if not _gives_floors(study):
        return [column for column in columns if column.title != "Attack"]
    share = "attack_success_rate"
    return [*columns, Column("Floor it gives", _share(share), _spread(share))]


def clean_caption(study: Study) -> str:
    """Say where the floor stands that models trained without the poison give."""
    if _gives_floors(study):
        return "How often they give the target is the floor of the attack's cells."
    return "How often they give an attack's target stands with the attack's cells, as their floor."


def _gives_floors(study: Study) -> bool:
    return any(entry.cell.attack_success_rate is not None for entry in study.references)


def clean_models(study: Study) -> list[Judged]:
    """Return the models trained without the poison, as rows of a table."""
    return [Judged(entry, None) for entry in study.references]


def render_csv(study: Study) -> str:
    """Render the cells as CSV, shares as fractions of 1; no cell runs as a spreadsheet's formula.

    Args:
        study: The cells. Models trained without the poison are left out.

    Returns:
        CSV with a header, every field that any table shows, and the command of each cell.
    """
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    fields = [field for column in COLUMNS for field in column.fields] + list(_LAST_FIELDS)
    writer.writerow(fields)
    for judged in study.cells:
        writer.writerow([_plain(judged, field) for field in fields])
    return table.getvalue()


def render_markdown(study: Study) -> str:
    """Render the cells as Markdown tables with their notes.

    Args:
        study: The cells.

    Returns:
        Markdown that ends in a newline; the second table is of models trained without the poison.
    """
    parts = [_markdown(columns_for(study.cells), study.cells)] if study.cells else []
    parts.append("\n\n".join(NOTES))
    if study.references:
        parts.append(f"{CLEAN_TITLE}. {clean_caption(study)}")
        parts.append(_markdown(clean_columns(study), clean_models(study)))
    return "\n\n".join(parts) + "\n"


def render_latex(study: Study) -> str:
    r"""Render the cells as LaTeX tables that break across pages.

    Args:
        study: The cells.

    Returns:
        LaTeX for ``\input``; its first line names the packages it needs.
    """
    parts = [
        r"% Needs \usepackage[T1]{fontenc}, \usepackage{booktabs} and \usepackage{longtable}; "
        "wide: set it in landscape or \\footnotesize."
    ]
    if study.cells:
        caption = "Attacks by defenses. " + " ".join(NOTES)
        parts.append(_latex(columns_for(study.cells), study.cells, caption))
    if study.references:
        caption = f"{CLEAN_TITLE}. {clean_caption(study)}"
        parts.append(_latex(clean_columns(study), clean_models(study), caption))
    return "\n\n".join(parts) + "\n"


def _plain(judged: Judged, field: str) -> object:
    """Return a field as CSV holds it: numbers as they are, text that no spreadsheet runs."""
    if field in ("excess", "verdict"):
        value = judged.cell.excess if field == "excess" else judged.verdict
    else:
        value = getattr(judged.cell, field)
    return words.inert(value) if isinstance(value, str) else value


def _markdown(columns: Sequence[Column], cells: Iterable[Judged]) -> str:
    lines = [_line([column.title for column in columns])]
    lines.append("|" + "|".join("---:" if column.number else "---" for column in columns) + "|")
    for judged in cells:
        lines.append(_line([words.markdown(str(column.show(judged))) for column in columns]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex(columns: Sequence[Column], cells: Iterable[Judged], caption: str) -> str:
    layout = "".join("r" if column.number else "l" for column in columns)
    heads = _latex_line([_escape_latex(column.title) for column in columns])
    rows = [
        _latex_line([_escape_latex(str(column.show(judged))) for column in columns])
        for judged in cells
    ]
    return "\n".join(
        [
            rf"\begin{{longtable}}{{@{{}}{layout}@{{}}}}",
            rf"\caption{{{_escape_latex(caption)}}} \\",
            r"\toprule",
            heads,
            r"\midrule",
            r"\endhead",
            *rows,
            r"\bottomrule",
            r"\end{longtable}",
        ]
    )


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))

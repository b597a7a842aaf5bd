from collections.abc import Callable
from io import StringIO

import pytest
from rich.console import Console

from mithridate.report import Report, SystemResult, render_markdown, render_terminal
from mithridate.report.words import duration, points, whole_percent


def shown(report: Report, width: int = 120) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(render_terminal(report))
    output = console.file
    assert isinstance(output, StringIO)
    return output.getvalue()


def test_terminal_holds_the_figures(report: Report) -> None:
    text = shown(report)
    for part in ("Undefended", "97.4%", "8.9%", "35 of 692", "888/912"):
        assert part in text


def test_terminal_takes_names_literally(
    make_report: Callable[[list[SystemResult]], Report], make_system: Callable[..., SystemResult]
) -> None:
    assert "[red]x[/red]" in shown(make_report([make_system("[red]x[/red]", 0.9)]))


def test_markdown_is_one_table(report: Report) -> None:
    lines = render_markdown(report).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(report.systems)
    assert {line.count("|") for line in table} == {7}
    assert "8.9% [7.2 to 10.9; 81/912]" in table[-1]


def test_markdown_escapes_names(
    make_report: Callable[[list[SystemResult]], Report], make_system: Callable[..., SystemResult]
) -> None:
    report = make_report([make_system("a|b\n<script>", 0.9, floor=False)])
    text = render_markdown(report)
    assert "a\\|b &lt;script>" in text
    assert "| — |" in text
    assert "no model was trained without the poison" in text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0%"), (0.001, "under 1%"), (0.999, "over 99%"), (1, "100%")]
)
def test_whole_percent(value: float, text: str) -> None:
    assert whole_percent(value) == text


def test_points_and_durations() -> None:
    assert points(-0.022) == "−2.2"  # noqa: RUF001
    assert points(0.0001) == "±0.0"
    assert [duration(s) for s in (4.23, 485, 7800)] == ["4.2 s", "8 min 05 s", "2 h 10 min"]

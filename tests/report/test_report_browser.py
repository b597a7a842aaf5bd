"""The page in a real browser: nothing sticks out of the window, nothing leaves it."""

import re
import shutil
import subprocess
from collections.abc import Callable
from html import escape
from pathlib import Path

import pytest

from mithridate.report import Report, SystemResult, render_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--virtual-time-budget=5000",
]  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium installed")


def measure(page: str, width: int, folder: Path) -> tuple[int, int]:
    """Lay the page out in a frame of `width` pixels; return what sticks out and its height."""
    host = folder / "host.html"
    host.write_text(
        f'<!doctype html><meta charset="utf-8"><body><iframe id="f" width="{width}" height="900" '
        f'style="border:0" srcdoc="{escape(page)}"></iframe><p id="r"></p>'
        "<script>onload = () => { const d = document.getElementById('f').contentDocument;"
        "const e = d.documentElement; document.getElementById('r').textContent ="
        "'size:' + (e.scrollWidth - e.clientWidth) + 'x' + e.scrollHeight + ';'; }</script>",
        encoding="utf-8",
    )
    profile = folder / "profile"
    done = subprocess.run(
        [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "--dump-dom", host.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r"size:(\d+)x(\d+);", done.stdout)
    assert found, done.stderr[-2000:]
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("width", [360, 760, 1200])
def test_page_never_scrolls_sideways(report: Report, width: int, tmp_path: Path) -> None:
    overhang, height = measure(render_page(report), width, tmp_path)
    assert overhang == 0
    assert height > 1500


def test_long_words_do_not_widen_the_page(
    make_report: Callable[[list[SystemResult]], Report],
    make_system: Callable[..., SystemResult],
    tmp_path: Path,
) -> None:
    report = make_report([make_system("Undefended" * 30, 0.9), make_system("x" * 300, 0.1)])
    example = report.examples[0].model_copy(
        update={"text": "mn" * 3000, "answers": {"x" * 300: "label" * 90}}
    )
    page = render_page(report.model_copy(update={"examples": [example]}))
    assert measure(page, 390, tmp_path)[0] == 0

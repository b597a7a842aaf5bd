"""The page of cells in a real browser: sorted, filtered, opened and printed as a reader would.

Playwright drives the chromium that is installed; it is never asked to fetch one of its own.
"""

import shutil
import subprocess
from pathlib import Path

import pytest
from journal_lines import line, many_lines, write_journal

from mithridate.report.cells import read_journal
from mithridate.report.cells_judged import study
from mithridate.report.cells_page import render_cells_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium installed")

HOSTILE = "</script><img src=x onerror=alert(1)>'\"&\u202e no\u200bne " + "x" * 3000
# The least contrast of any text with what lies behind it, by WCAG's formula.
CONTRAST = """() => {
  const light = (c) => [0, 1, 2].map((i) => c[i] / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest("script, option")) continue;
    const box = node.matches(".heat .on") ? node.previousElementSibling : null;
    const style = getComputedStyle(node);
    const ink = parse(node instanceof SVGElement ? style.fill : style.color);
    const filled = box && getComputedStyle(box).fill;
    const paper = filled && filled !== "none" ? parse(filled) : behind(node);
    const [low, high] = [light(ink), light(paper)].sort((a, b) => a - b);
    found.push([(high + 0.05) / (low + 0.05), node.textContent.trim().slice(0, 40)]);
  }
  return found.sort((a, b) => a[0] - b[0])[0];
}"""
SORT_TIMES = """() => [...document.querySelectorAll("#cells ~ .scroll thead button")].map((b) => {
  const started = performance.now();
  b.click();
  document.body.offsetHeight;
  return performance.now() - started;
})"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu"]
        started = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield started
        started.close()


@pytest.fixture
def visit(browser, tmp_path):
    """Return what opens a page of some lines; every error and request of the page is collected."""
    contexts = []

    def go(lines, **settings):
        path = tmp_path / "report.html"
        journal = read_journal(write_journal(tmp_path / "journal.jsonl", lines))
        path.write_text(render_cells_page(study([journal])), encoding="utf-8")
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.seen = []
        page.on("console", lambda message: page.seen.append(message.text))
        page.on("pageerror", lambda error: page.seen.append(str(error)))
        page.on("dialog", lambda dialog: page.seen.append(dialog.message))
        page.on("request", lambda request: page.seen.append(request.url))
        page.goto(path.as_uri())
        assert page.seen.pop(0) == path.as_uri()
        return page

    yield go
    for context in contexts:
        context.close()


def matrix(page):
    return page.locator("section[data-opens]")


def column(page, title):
    """Return what a column of the matrix shows, from the top, without its intervals."""
    heads = matrix(page).locator("thead th").all_inner_texts()
    place = next(at for at, head in enumerate(heads) if head.startswith(title))
    rows = matrix(page).locator("tbody tr:not(.more)")
    return rows.evaluate_all(
        "(rows, at) => rows.map((row) => row.cells[at].innerText.split('\\n')[0].trim())", place
    )


def points(texts):
    return [float(text.replace("−", "-").replace("±", "")) for text in texts]  # noqa: RUF001


def test_a_column_sorts_both_ways_and_says_so(visit):
    page = visit(many_lines(90))
    head = matrix(page).locator("thead th", has_text="Over floor")
    head.get_by_role("button").click()
    rising = points(column(page, "Over floor"))
    assert rising == sorted(rising)
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").press("Enter")
    assert points(column(page, "Over floor")) == sorted(rising, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    assert matrix(page).locator("thead [aria-sort]").count() == 1
    assert "by Over floor, falling" in matrix(page).get_by_role("status").inner_text()
    assert page.evaluate("document.activeElement.textContent") == "Over floor"
    assert page.seen == []


def test_cells_without_a_value_stand_last_whichever_way(visit):
    page = visit([line(), line("trec", floor=None), line("agnews", asr=0.4)])
    button = matrix(page).locator("thead th", has_text="Over floor").get_by_role("button")
    for _ in range(2):
        button.click()
        assert column(page, "Over floor")[-1] == "—"


def test_text_and_choices_filter_and_the_number_is_announced(visit):
    page = visit(many_lines(200))
    part = matrix(page)
    part.get_by_label("Attack").select_option("badnets")
    part.get_by_label("Defense").select_option("strip")
    assert part.get_by_role("status").inner_text() == "2 of 200 cells; 1 to 2 shown."
    assert set(column(page, "Attack")) == {"badnets"}
    part.get_by_label("Text").fill("TREC/badnets")
    page.wait_for_timeout(400)
    assert column(page, "Dataset") == ["trec"]
    part.get_by_label("Text").fill("nothing like it")
    page.wait_for_timeout(400)
    assert part.get_by_role("status").inner_text() == "0 of 200 cells."
    part.get_by_role("button", name="Clear").click()
    page.wait_for_timeout(100)
    assert part.get_by_role("status").inner_text().startswith("200 of 200 cells; 1 to 100")


def test_pages_turn_and_hold_every_cell_once(visit):
    page = visit(many_lines(230))
    part = matrix(page)
    seen = []
    for turn in range(3):
        if turn:
            part.get_by_role("button", name="Next").click()
        rows = part.locator("tbody tr")
        seen += rows.evaluate_all("rows => rows.map((row) => row.innerText)")
    assert "201 to 230 shown" in part.get_by_role("status").inner_text()
    assert len(set(seen)) == len(seen) == 230
    part.get_by_label("Rows a page").select_option("all")
    assert part.locator("tbody tr").count() == 230


def test_a_row_opens_by_keyboard_to_its_fields_and_its_command(visit):
    page = visit([line(), line(defense="p2p", asr=0.11, command="mithridate bench m.toml --x")])
    button = matrix(page).locator("tbody button", has_text="/p2p")
    assert "fields of sst2/badnets@0.05/p2p" in button.inner_text()
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    detail = matrix(page).locator("tr.more")
    assert detail.locator("pre").inner_text() == "mithridate bench m.toml --x"
    fields = dict(zip(
        detail.locator("dt").all_inner_texts(), detail.locator("dd").all_inner_texts(), strict=True
    ))  # fmt: skip
    assert fields["n_subset_poisoned"] == "2"
    assert fields["attack_success_rate"].startswith("0.11111 (")
    assert fields["line"].endswith("journal.jsonl:2")
    assert "rejected_clean" not in fields
    matrix(page).locator("thead th", has_text="ASR").first.get_by_role("button").click()
    assert matrix(page).locator("tr.more").count() == 1
    button.focus()
    page.keyboard.press("Space")
    assert matrix(page).locator("tr.more").count() == 0


def test_hostile_names_run_nothing_and_are_seen(visit):
    hostile = line(HOSTILE, HOSTILE, HOSTILE, command=HOSTILE, host=HOSTILE, **{HOSTILE: HOSTILE})
    page = visit([hostile, line()])
    matrix(page).locator("tbody button").first.click()
    matrix(page).get_by_label("Attack").select_option(index=1)
    assert page.locator("img").count() == 0
    assert "<img src=x" in matrix(page).locator("tr.more pre").inner_text()
    assert "no⟨U+200B⟩ne" in matrix(page).locator("tr.more").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.seen == []


def test_a_foreign_script_does_not_run(visit):
    page = visit([line()])
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        "document.body.append(s); }"
    )
    assert page.evaluate("window.ran === undefined")


def test_without_scripts_the_whole_table_is_there(visit):
    page = visit(many_lines(230), java_script_enabled=False)
    assert matrix(page).locator("tbody tr").count() == 230
    assert page.locator("button").count() == 0
    assert page.get_by_text("Scripts are off").is_visible()


def test_print_holds_every_row_that_the_filter_left(visit, tmp_path):
    page = visit(many_lines(230))
    page.emulate_media(media="print")
    page.pdf(path=tmp_path / "page.pdf", prefer_css_page_size=True)
    tool = shutil.which("pdftotext")
    if tool is None:
        pytest.skip("no pdftotext installed")
    subprocess.run([tool, "-layout", tmp_path / "page.pdf", tmp_path / "page.txt"], check=True)
    text = Path(tmp_path / "page.txt").read_text()
    rows = [row for row in text.splitlines() if "% " in row and ("holds" in row or "miss" in row)]
    shown = matrix(page).locator("tbody tr").count()
    assert shown == 100
    assert len(rows) > 150
    assert text.count("Over floor") > 5  # on every sheet


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_aa(visit, scheme):
    rates = (0.1, 0.15, 0.3, 0.5, 0.95)
    lines = [line(), *(line(defense=f"d{at}", asr=rate) for at, rate in enumerate(rates))]
    lines += [line(attack="bite", asr=0.15), line(attack="bite", defense="d0")]
    page = visit([*lines, line(seed=1), line(variant="reference")], color_scheme=scheme)
    matrix(page).locator("tbody button").first.click()
    ratio, text = page.evaluate(CONTRAST)
    assert ratio >= 4.5, text


@pytest.mark.parametrize("width", [360, 760, 1280])
def test_the_page_itself_never_scrolls_sideways(visit, width):
    page = visit(many_lines(120), viewport={"width": width, "height": 900})
    matrix(page).locator("tbody button").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_every_control_has_a_name_and_every_region_can_be_reached(visit):
    page = visit([*many_lines(120), line(seed=1)])
    named = page.locator("button, input, select, nav, form, [role=region], [role=img]")
    nameless = named.evaluate_all(
        "(nodes) => nodes.filter((n) => !(n.ariaLabel || n.textContent.trim() || n.labels?.length"
        " || document.getElementById(n.getAttribute('aria-labelledby')))).length"
    )
    assert nameless == 0
    assert page.locator(".scroll:not([tabindex='0'])").count() == 0
    ids = page.locator("[id]").evaluate_all("(nodes) => nodes.map((node) => node.id)")
    assert len(ids) == len(set(ids))


def test_five_thousand_cells_sort_while_one_waits(visit):
    page = visit(many_lines(5000))
    assert "5,000 of 5,000" in matrix(page).get_by_role("status").inner_text()
    times = sorted(page.evaluate(SORT_TIMES))
    # 30 to 130 ms on two busy cores; the bound leaves room for a machine that others use.
    assert times[len(times) // 2] < 1000
    assert page.seen == []

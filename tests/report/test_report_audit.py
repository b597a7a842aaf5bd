"""The audit's page: what marks rows is seen, even the invisible, and nothing is run or fetched."""

import re

import pytest

from mithridate.report.audit import (
    BINS,
    AuditReport,
    FlaggedRows,
    LabelCount,
    Suspect,
    TriggerFound,
    TruthFound,
    marked,
    render_audit,
    shown,
)

HOSTILE = '<script>alert(1)</script> & "quotes" </pre>'


def trigger(text, kind="words", **options):
    fields = {"label": 1, "z": 19.9, "p": 4e-45, "disputed": 86, "others": 87}
    return TriggerFound.model_validate({"text": text, "kind": kind, **fields, **options})


def suspect(**changes):
    fields = {"why": "disputed", "trigger": None, "score": 4.25, "label": 1, "judged": 0}
    return Suspect.model_validate({**fields, **changes})


def report(**changes):
    flagged = FlaggedRows(rows=618, poisoned=86, known=173, precision=86 / 618, recall=86 / 173)
    fields = {
        "data": "reviews.jsonl",
        "date": "2026-11-23",
        "version": "0.1.0",
        "model": "tiny",
        "judge": "agreement",
        "trusted": 0,
        "rows": 3460,
        "labels": [LabelCount(label=n, rows=1730, disputed=309) for n in (0, 1)],
        "disputed": 618,
        "excluded": 705,
        "triggers": [trigger("mn", counter=True), trigger("\u200b", "character")],
        "suspects": [
            suspect(id=f"r{n}", text=f"a mn dull film {n}", why="trigger", trigger="mn")
            for n in range(3)
        ],
        "confidence": [1 / BINS] * BINS,
        "truth": TruthFound(disputed=flagged, excluded=flagged, average_precision=0.149),
        "picked": 100,
        "seconds": 70.0,
    }
    return AuditReport.model_validate({**fields, **changes})


def test_the_page_names_the_trigger_and_the_figures():
    page = render_audit(report(), command="mithridate defend reviews.jsonl --trusted check.csv")
    for part in ("<mark>mn</mark>", "U+200B", "618", "3,460", "19.9", "13.9%", "49.7%", "0.149"):
        assert part in page
    assert "mithridate defend reviews.jsonl --trusted check.csv" in page
    assert "not proven clean" in page
    assert re.search(r"(src|href)\s*=", page) is None


def test_of_what_was_put_in_the_page_claims_no_probability():
    put_in = trigger("mn", counter=True, inserted=True, p=None)
    page = render_audit(report(triggers=[put_in]))
    assert "By chance that happens" not in page
    assert "read some of its rows before you believe it" in page
    assert '<td role="cell" data-label="p">—</td>' in page
    assert "By chance that happens in fewer than 4e-45" in render_audit(report())


def test_the_page_says_of_each_row_why_it_is_suspected():
    held = suspect(id="a", text="a mn fine film", why="trigger", trigger="\u200b")
    page = render_audit(report(suspects=[held, suspect(id="b", text="dull")]))
    assert "The 2 most suspicious rows" in page
    assert "holds <bdi>U+200B</bdi>" in page
    assert "label disputed" in page


def test_data_cannot_write_the_page():
    rows = [suspect(id=HOSTILE, label=HOSTILE, text=HOSTILE, why="trigger", trigger=HOSTILE)]
    found = [trigger(HOSTILE, counter=True)]
    page = render_audit(report(suspects=rows, triggers=found, data=HOSTILE), command=HOSTILE)
    assert "<script" not in page
    assert "default-src" in page


@pytest.mark.parametrize(
    "changes",
    [
        {"triggers": [], "truth": None},
        {"triggers": [], "suspects": [], "disputed": 0, "truth": None},
        {"judge": "anchored", "trusted": 97, "confidence_poisoned": [1.0] + [0.0] * (BINS - 1)},
    ],
)
def test_a_page_is_made_of_whatever_was_found(changes):
    page = render_audit(report(**changes))
    assert page.count("<section") == page.count("</section>")
    assert ("97 rows that a person checked" in page) == (changes.get("judge") == "anchored")


@pytest.mark.parametrize(
    ("found", "text", "expected"),
    [
        (trigger("mn"), "mn xmn mn, mn", ["mn", "mn", "mn"]),
        (trigger("mn-"), "a mn-film, mn -", ["mn-", "mn -"]),
        (trigger("  "), "a  b c", ["  "]),
        (trigger("\t"), "a\tb c", ["\t"]),
        (trigger("a b", "prefix"), "a  b a b", ["a  b"]),
        (trigger("a b", "suffix"), "a b a b", ["a b"]),
        (trigger("mn", folded=True), "MN, xmn (Mn)", ["MN", "Mn"]),
        (trigger("\u200b", "character"), "fi\u200blm", ["U+200B"]),
        (trigger("x", "words"), "a\u202eb", ["U+202E"]),
    ],
)
def test_triggers_are_marked_where_their_kind_says(found, text, expected):
    assert [run.text for run in marked(text, [found]) if run.is_trigger] == expected


def test_a_long_text_is_cut():
    runs = marked("word " * 5000, [trigger("mn")])
    assert sum(len(run.text) for run in runs) < 600
    assert runs[-1].text == " …"


def test_an_invisible_trigger_is_spelled_out():
    assert shown(trigger("\u200b", "character")) == "U+200B"
    assert shown(trigger("\u0430", "character")) == "U+0430"  # odd beside Latin letters alone
    assert shown(trigger("mn")) == "mn"
    assert shown(trigger("  ")) == "U+0020U+0020"
    assert shown(trigger("so\tit")) == "soU+0009it"


def test_a_report_survives_its_file():
    assert AuditReport.model_validate_json(report().model_dump_json()) == report()

"""Journals as the report reads them, what it makes of their cells, and the files it renders."""

import base64
import csv
import hashlib
import io
import json
import re

import pytest
from journal_lines import RESULTS, SWEEP, bench_line, line, many_lines, share, write_journal

from mithridate.errors import InputError
from mithridate.report.cells import read_journal, read_journals
from mithridate.report.cells_figures import dots, grids
from mithridate.report.cells_judged import Spread, level, study
from mithridate.report.cells_page import overview, render_cells_page
from mithridate.report.cells_tables import render_csv, render_latex, render_markdown
from mithridate.report.cells_verdict import headline, qualifications
from mithridate.report.words import points

HOSTILE = "</script><img src=x onerror=alert(1)>'\"&{{7*7}}|$x_1%\\ ‮no\u200bne\u2028\x00"
PAIR = [line(), line(defense="p2p", asr=0.11)]


@pytest.fixture
def made(tmp_path):
    """Return a maker of studies from lines."""

    def make(lines, name="journal.jsonl"):
        return study([read_journal(write_journal(tmp_path / name, lines))])

    return make


def test_a_torn_last_line_is_left_out_and_said(tmp_path):
    path = write_journal(tmp_path / "j.jsonl", PAIR)
    for cut in (1, 2, 40, 700):
        path.write_text(json.dumps(PAIR[0]) + "\n" + json.dumps(PAIR[1])[:cut], encoding="utf-8")
        journal = read_journal(path)
        assert len(journal.entries) == 1
        assert journal.torn == (2,)
        assert any("line 2" in said for said in qualifications(study([journal])))


def test_a_line_torn_by_a_crash_may_stand_before_those_of_a_later_run(tmp_path):
    path = tmp_path / "j.jsonl"
    whole = json.dumps(PAIR[0])
    path.write_text(f"{whole[:300]}\n\n{whole}\n", encoding="utf-8")
    journal = read_journal(path)
    assert journal.torn == (1,)
    assert journal.entries[0].where == f"{path}:3"


def test_a_character_torn_in_two_is_no_traceback(tmp_path):
    path = tmp_path / "j.jsonl"
    whole = json.dumps(line(host="Zürich"), ensure_ascii=False).encode()
    path.write_bytes(json.dumps(PAIR[0]).encode() + b"\n" + whole[: whole.index("ü".encode()) + 1])
    assert read_journal(path).torn == (2,)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the file is empty"),
        ("\n \n", "the file is empty"),
        ('{"cell": "a', "torn line"),
        ("hello\n", "no JSON"),
        ('{"cell": "a"} trailing}\n', "no JSON"),
        ("[1, 2]\n", "no JSON object"),
        ('{"cell": "a", "attack": "b", "dataset": "c"}\n', 'it has no "defense"'),
        (json.dumps(line(attack="")), '"attack"'),
        (json.dumps(line() | {"floor": 1.3}), '"floor" is'),
        (json.dumps(line() | {"floor": float("nan")}), '"floor" is'),
        (json.dumps(line() | {"settings": [1]}), '"settings" is'),
        ("[" * 100_000, "nested too deeply"),
        ('{"seed": ' + "9" * 5000 + "}", "number too long"),
    ],
)
def test_what_is_no_journal_is_refused_with_its_place(tmp_path, content, said):
    path = tmp_path / "j.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(said)) as error:
        read_journal(path)
    assert error.value.where.startswith(str(path))
    assert error.value.mend


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path, said in ((tmp_path / "no.jsonl", "no such file"), (tmp_path, "a folder")):
        with pytest.raises(InputError, match=said):
            read_journal(path)


def test_odd_but_valid_lines_are_read(tmp_path):
    path = tmp_path / "j.jsonl"
    odd = [line(host="a\u2028b"), line(attack="x\ud800", unknown={"deep": [1, float("inf")]})]
    text = "".join(json.dumps(one, ensure_ascii=one is odd[1]) + "\r\n" for one in odd)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    found = read_journal(path)
    assert [entry.cell.attack for entry in found.entries] == ["badnets", "x\ufffd"]
    page = render_cells_page(study([found]))
    page.encode("utf-8")
    assert "Infinity" in page


def test_four_names_are_enough_for_a_cell(made):
    found = made([{"cell": "a", "attack": "b", "defense": "c", "dataset": "d", "variant": None}])
    assert found.cells[0].verdict == "no floor"
    for render in (render_cells_page, render_csv, render_markdown, render_latex):
        assert "d" in render(found)


@pytest.mark.parametrize(
    ("undefended", "defended", "verdict"),
    [(0.95, 0.12, "holds"), (0.95, 0.14, "misses"), (0.25, 0.1, "no test"), (0.31, 0.1, "holds")],
)
def test_a_defense_is_tested_by_an_attack_that_took(made, undefended, defended, verdict):
    lines = [
        line(asr=undefended) | {"floor": 0.1, "attack_success_rate": undefended},
        line(defense="p2p") | {"floor": 0.1, "attack_success_rate": defended},
    ]
    found = made(lines)
    assert found.cells[1].verdict == verdict
    took = undefended >= 0.3
    assert found.cells[0].verdict == ("learned" if took else "not learned")
    assert any("no test of a defense" in said for said in qualifications(found)) is not took


def test_undefended_is_looked_for_in_the_same_attack_data_and_seed(made):
    others = [line(seed=1), line(attack="addsent"), line("trec"), line(rate=0.1)]
    assert made([*others, line(defense="p2p")]).cells[-1].verdict == "no undefended"
    settings = {"n_train": 5, "seed": 0}
    one = made([line(), line(defense="p2p", settings=settings)])
    assert one.cells[-1].undefended is one.cells[0].cell
    two = made([line(), line(settings={"n_train": 9}), line(defense="p2p", settings=settings)])
    assert two.cells[-1].undefended is None


def test_undefended_is_what_a_bench_trains_without_a_defense_whatever_it_is_called(made):
    lines = [bench_line(label="plain"), bench_line("p2p", asr=0.11)]
    found = made([*lines, bench_line("crow", label="none at all")])
    assert [judged.verdict for judged in found.cells] == ["learned", "holds", "misses"]
    assert headline(found).startswith("In 1 of 2 tests of a defense")
    assert qualifications(found)[0].startswith("3 cells: 1 attack, 2 defenses")
    names = [group.first.label for group in found.by_defense()]
    assert names == ["undefended, plain", "p2p", "none at all"]
    assert [panel.title for panel in dots(found)] == names[1:]
    assert [row[5].text == "—" for row in overview(found).rows] == [True, False, False]


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("", "undefended"),
        ("undefended", "undefended"),
        ("plain", "undefended, plain"),
        ("none rank=4", "undefended, rank=4"),
    ],
)
def test_an_undefended_cell_is_shown_with_what_its_label_adds(made, label, shown):
    assert made([bench_line(label=label)]).cells[0].cell.label == shown


def test_a_cell_is_judged_by_the_undefended_model_of_its_own_training(made):
    fewer, longer = {"rank": 4}, {"epochs": 5}
    full = {"selection": "anchored", "benign_ratio": 0.4, "mode": "replace"}
    found = made(
        [
            bench_line("p2p", label="p2p rank=4", training=fewer, asr=0.11),
            bench_line(),
            bench_line(label="none rank=4", training=fewer, clean_accuracy=0.8),
            bench_line(label="none epochs=5", training=longer),
            bench_line("p2p", settings=full, asr=0.11),
            bench_line("prune", asr=0.5),
        ]
    )
    few, plain, few_none, _, p2p, prune = found.cells
    assert few.undefended is few_none.cell
    assert p2p.undefended is prune.undefended is plain.cell
    verdicts = ["holds", "learned", "learned", "learned", "holds", "misses"]
    assert [judged.verdict for judged in found.cells] == verdicts


def test_an_undefended_model_of_another_training_judges_nothing(made):
    lines = [bench_line(), bench_line("p2p", label="p2p rank=4", training={"rank": 4}, asr=0.11)]
    found = made(lines)
    assert found.cells[1].verdict == "no undefended"
    assert any("undefended model of the same training" in said for said in qualifications(found))


def test_the_only_undefended_model_of_a_training_judges_whatever_else_differs(made):
    found = made([bench_line(), bench_line("p2p", asr=0.11)])
    other = json.loads(json.dumps(bench_line("p2p", asr=0.11)))
    other["settings"]["trusted"] = 50
    again = made([bench_line(), other], "other.jsonl")
    assert found.cells[1].verdict == again.cells[1].verdict == "holds"


def test_a_clean_trained_model_is_no_cell(made):
    found = made([line(variant="reference", asr=0.1), line(rate=0.0, asr=0.1), *PAIR])
    assert len(found.cells) == 2
    assert len(found.references) == 2
    page = render_cells_page(found)
    assert "Models trained without the poison" in page
    assert "Floor it gives" in render_markdown(found)
    assert len(render_csv(found).splitlines()) == 3


def test_clean_trained_models_that_met_no_trigger_have_no_column_of_floors(made):
    reference = {"variant": "reference", "poison_rate": 0.0, "attack": "none"}
    lines = [bench_line(**reference, attack_success_rate=None, floor=None), bench_line()]
    found = made(lines)
    (table,) = re.findall(r'id="clean".*?</section>', render_cells_page(found), re.DOTALL)
    for text in (table, render_markdown(found), render_latex(found)):
        assert "Floor it gives" not in text
        assert "stands with the attack's cells" in text.replace("&#39;", "'")
    assert "—" not in table
    heads = ["Dataset", "Model", "Seed", "CA or utility"]
    assert re.findall(r'<th scope="col"[^>]*>([^<]+)', table) == heads


def test_references_alone_make_a_page_that_says_so(made):
    found = made([line(variant="reference", asr=0.1)])
    assert headline(found) == "No cell is finished."
    assert "No cell is finished." in render_cells_page(found)


def test_an_asr_without_floor_is_read_against_the_untriggered_rate_and_says_so(made):
    found = made([line(floor=None) | share("untriggered_rate", 0.2)])
    assert found.cells[0].cell.excess == pytest.approx(0.75, abs=0.01)
    assert "untriggered" in render_markdown(found)
    assert any("own rate without the trigger" in said for said in qualifications(found))
    unknown = made([line(floor=None)], "other.jsonl")
    assert unknown.cells[0].verdict == "no floor"
    assert any("means nothing" in said for said in qualifications(unknown))


def test_the_worst_of_several_backdoors_counts(made):
    further = [{"attack": "addsent", "attack_success_rate": 0.6, "floor": 0.1}]
    found = made([line(), line(defense="p2p", asr=0.1, further_backdoors=further)])
    assert found.cells[1].cell.excess == pytest.approx(0.5)
    assert "worst of 2" in render_markdown(found)


def test_seeds_are_lines_of_their_own_and_a_mean_with_deviation_range_and_number(made):
    rates = (0.1, 0.2, 0.3)
    lines = [line(defense="p2p", seed=seed) for seed in range(3)]
    lines = [
        one | {"attack_success_rate": r, "cell": f"p2p/seed-{s}"}
        for s, (one, r) in enumerate(zip(lines, rates, strict=True))
    ]
    found = made(lines)
    groups = found.by_seed()
    assert [len(group.members) for group in groups] == [3]
    spread = groups[0].spread(lambda one: one.cell.attack_success_rate)
    assert spread == Spread(pytest.approx(0.2), pytest.approx(0.1), 0.1, 0.3, 3)
    page = render_cells_page(found)
    assert "Means over seeds" in page
    assert "20.0 ± 10.0" in page
    assert "10.0 to 30.0" in page
    assert len(render_csv(found).splitlines()) == 4


def test_the_seeds_of_a_bench_are_one_group_as_their_names_end_in_them(made):
    cells = [bench_line(seed=seed) for seed in range(3)]
    cells += [bench_line("p2p", seed=seed, asr=0.1) for seed in range(3)]
    cells += [bench_line("p2p", label="p2p rank=4", training={"rank": 4}, seed=1)]
    found = made(cells)
    groups = [[one.cell.seed for one in group.members] for group in found.by_seed()]
    assert groups == [[0, 1, 2], [0, 1, 2], [1]]
    assert "Means over seeds" in render_cells_page(found)
    assert not any("one seed" in said for said in qualifications(found))


def test_the_committed_sweep_is_averaged_over_its_seeds():
    found = study([read_journal(SWEEP)])
    seeds = [{one.cell.seed for one in group.members} for group in found.by_seed()]
    assert {0, 1, 2} in seeds
    assert not any("one seed" in said for said in qualifications(found))


def test_cells_that_a_seed_does_not_tell_apart_are_not_averaged(made):
    found = made([line(config_hash="a"), line(config_hash="b"), line(seed=1, config_hash="c")])
    assert len(found.by_seed()) == 3
    assert "Means over seeds" not in render_cells_page(found)


def test_the_last_line_of_a_cell_counts_and_the_page_says_so(tmp_path):
    one = write_journal(tmp_path / "a.jsonl", [line(config_hash="x")])
    two = write_journal(tmp_path / "b.jsonl", [line(config_hash="x", accuracy=0.5)])
    found = study(read_journals([one, two]))
    assert [judged.cell.clean_accuracy for judged in found.cells] == [0.5]
    assert found.superseded == 1
    assert any("later one" in said for said in qualifications(found))


def test_colours_go_by_the_distance_from_the_floor():
    assert [level(over) for over in (-0.2, 0.03, 0.031, 0.2, 0.5, 0.9)] == [0, 0, 1, 2, 3, 4]


def test_csv_holds_numbers_and_no_formula(made):
    found = made([line(attack="=HYPERLINK(1)", command='-x,\n"y"')])
    row = next(csv.DictReader(io.StringIO(render_csv(found))))
    assert row["attack"] == "'=HYPERLINK(1)"
    assert row["command"] == '\'-x,\n"y"'
    assert float(row["attack_success_rate"]) == pytest.approx(0.95, abs=0.01)
    assert row["clean_accuracy_low"]
    assert row["rejected_clean"] == ""


def test_rejections_are_shown_where_a_defense_rejects(made):
    assert "Rejected" not in render_markdown(made(PAIR))
    assert "Rejected, triggered" in render_markdown(made([line(defense="strip")], "b.jsonl"))


def test_text_tasks_show_their_utility_by_name(made):
    fields = {"utility": 0.29, "utility_low": 0.26, "utility_high": 0.32}
    found = made([line(accuracy=None, utility_metric="ROUGE-L", **fields)])
    assert "0.290 (0.260 to 0.320; ROUGE-L)" in render_markdown(found)


def test_hostile_names_stay_text_in_every_file(made):
    found = made([line(attack=HOSTILE, dataset=HOSTILE, defense=HOSTILE, command=HOSTILE * 90)])
    page = render_cells_page(found)
    assert page.count("</script>") == 2
    assert "<img" not in page
    assert "{{7*7}}" in page
    assert "\u200b" not in page
    assert "⟨U+200B⟩" in page
    for row in render_markdown(found).splitlines()[:3]:
        assert row.count("|") - row.count("\\|") == 11
        assert "<img" not in row
    tex = render_latex(found)
    assert r"\$x\_1\%\textbackslash{}" in tex
    assert "\x00" not in tex
    assert len(list(csv.reader(io.StringIO(render_csv(found))))) == 2


def test_the_page_runs_its_own_script_alone_and_asks_for_nothing(made):
    page = render_cells_page(made(PAIR))
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page
    assert not re.search(r"""\b(src|href)=|https?:|url\(|@import|\bon[a-z]+=""", page)
    assert "innerHTML" not in page


def test_every_cell_stands_in_the_page_without_scripts(made):
    page = render_cells_page(made(many_lines(120)))
    assert page.count('<tr><th scope="row">agnews') == 0
    assert page.count('<tr><th scope="row">sst2') == 100
    assert page.count('<tr><th scope="row">trec') == 20


def test_in_a_box_of_the_heat_map_tests_alone_count_where_there_are_any(made):
    """A seed whose undefended model learned nothing would flatter the defense."""
    seeds = [
        line(asr=0.9, seed=0),
        line(asr=0.5, seed=0, defense="p2p"),
        line(asr=0.15, seed=1),
        line(asr=0.12, seed=1, defense="p2p"),
    ]
    (grid,) = grids(made(seeds))
    ((_, (_, box)),) = grid.rows
    assert box.text == points(0.5 - seeds[0]["floor"])


def test_the_figures_hold_every_number_as_text(made):
    found = made([*PAIR, line(attack="bite", asr=0.15), line(attack="bite", defense="p2p")])
    (grid,) = grids(found)
    assert grid.columns == ("undefended", "p2p, agreement")
    assert [name for name, _ in grid.rows] == ["badnets 5%", "bite 5%"]
    boxes = [box for _, row in grid.rows for box in row]
    assert all(box.text in grid.svg for box in boxes)
    assert [box.level is None for box in boxes] == [False, False, True, True]
    assert "no test" in boxes[3].spoken
    (panel,) = dots(found)
    assert panel.title == "p2p, agreement"
    assert panel.svg.count("<circle") == 1
    assert 'role="img"' in panel.svg


@pytest.mark.parametrize(
    "name", ["classification", "generation", "headline", "rivals", "sweep/journal"]
)
def test_the_committed_journals_render(name):
    found = study([read_journal(RESULTS / f"{name}.jsonl")])
    assert found.cells
    assert found.references
    for render in (render_cells_page, render_csv, render_markdown, render_latex):
        assert found.cells[0].cell.attack in render(found)


def test_five_thousand_cells_stay_under_six_megabytes(made):
    page = render_cells_page(made(many_lines(5000)))
    assert page.count("<tr>") > 5000
    assert len(page.encode()) < 6e6

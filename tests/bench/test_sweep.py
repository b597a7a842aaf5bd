"""The sweep: which cells it plans, what its figures say, and a few cells really run."""

import csv
import io
import json
import sys

import pytest
from typer.testing import CliRunner

from mithridate.bench.cells import matrix_cells
from mithridate.bench.config import read_config
from mithridate.bench.journal import append_line, read_lines
from mithridate.bench.matrix import Matrix
from mithridate.bench.sweep import plan, read_sweep, sweep_cells
from mithridate.bench.sweep_figures import Results, sweep_figures
from mithridate.cli.main import app
from mithridate.errors import InputError
from mithridate.report.sweep import Spot, point, render_csv, render_markdown
from mithridate.report.sweep_figures import draw

SMALL = {
    "poison_rates": [0.1, 0.2],
    "benign_ratios": [0.2, 0.4],
    "ranks": [8, 16],
    "layers": [[1, 2]],
}
DATA = {"name": "toy", "train": "train.jsonl", "test": "test.jsonl"}
NAMES = ["figure2", "figure3a", "figure3b", "figure3c", "figure4"]


@pytest.fixture
def planned(write_config):
    """Return a planner of the small sweep, with some of its configuration changed."""

    def make(section=SMALL, **changed):
        settings = {"defenses": ["none", "p2p"], "seeds": [0, 1], "sweep": section, **changed}
        return plan(read_sweep(write_config(**settings)))

    return make


def fake_line(cell, accuracy, asr, **fields):
    """Return a finished cell's line, as far as the figures read it."""
    return {
        "config_hash": cell.mark,
        "seed": cell.seed,
        "dataset": cell.data.name,
        "defense": cell.defense.title,
        "clean_accuracy": accuracy,
        "attack_success_rate": asr,
        "floor": 0.1,
        "n_clean": 40,
        "n_triggered": 20,
        "n_train": 120,
        "target_confidence": [10] + [0] * 18 + [10],
        "device": "CPU",
        "dtype": "float32",
        "version": "0.1.0",
        "date": "2026-12-01",
        **fields,
    }


def fake_results(cells):
    """Return what a journal would hold of cells: P2P's CA grows by 0.02 with the seed."""
    lines = {}
    for cell in cells:
        none = cell.defense.name == "none"
        lines[cell.mark] = fake_line(cell, 0.8 + 0.02 * cell.seed, 0.95 if none else 0.12)
        lines[cell.clean_mark] = fake_line(cell, 0.9, 0.1)
    return Results(lines, frozenset())


def rows_of(figures):
    return list(csv.DictReader(io.StringIO(render_csv(figures))))


def test_one_thing_is_varied_at_a_time_and_the_centre_is_shared(planned):
    [sweep] = planned()
    names = [cell.name.replace("toy/badnets", "") for cell in sweep_cells([sweep])]
    model = names[0].split("/")[2]
    labels = [
        "@0.1/none", "@0.1/p2p", "@0.2/none", "@0.2/p2p", "@0.1/p2p benign_ratio=0.2",
        "@0.1/none rank=8", "@0.1/p2p rank=8", "@0.1/none layers=1-1", "@0.1/p2p layers=1-1",
    ]  # fmt: skip
    assert names == [f"{label}/{model}/{seed}" for label in labels for seed in (0, 1)]
    for curve in sweep.settings.values():
        assert len(curve) == 2
        assert [one.cells for one in curve].count(sweep.centre.cells) == 1
    assert [one.value for one in sweep.settings["layers"]] == [(1, 2), (0, 2)]


def test_a_varied_cell_trains_with_what_its_label_says(planned):
    [sweep] = planned()
    by_name = {cell.name.split("/")[2]: cell for cell in sweep_cells([sweep])}
    assert by_name["none rank=8"].training.rank == by_name["p2p rank=8"].training.rank == 8
    assert by_name["p2p layers=1-1"].training.layers == (1, 2)
    assert by_name["p2p benign_ratio=0.2"].defense.method().benign_ratio == 0.2
    assert by_name["p2p"].training.layers is None
    undefended = {cell.undefended_mark for cell in sweep_cells([sweep])}
    # Two rates, two ranks, two choices of layers around one centre, on two seeds.
    assert len(undefended) == 2 * 4


def test_what_a_data_set_trains_otherwise_is_its_centre(planned):
    [sweep] = planned({"ranks": [8, 16]}, datasets=[{**DATA, "training": {"rank": 8}}])
    assert [one.value for one in sweep.settings["rank"]] == [8, 16]
    assert sweep.settings["rank"][0].cells == sweep.centre.cells
    assert sweep.centre.defended[0].training.rank == 8


def test_the_centre_is_the_cell_that_a_matrix_would_run(planned, write_config):
    [sweep] = planned()
    config = read_config(write_config(defenses=["none", "p2p"], seeds=[0, 1]))
    own = {cell.mark for cell in matrix_cells(config)}
    assert {cell.mark for cell in sweep.centre.cells} == own


def test_the_section_can_be_left_out(write_config):
    path = write_config(defenses=["none"])
    text = path.read_text().replace("rates:\n- 0.1\n", "")
    path.write_text(text)
    [sweep] = plan(read_sweep(path))
    values = {thing: [one.value for one in curve] for thing, curve in sweep.settings.items()}
    assert values == {
        "poison_rate": [0.01, 0.05, 0.1, 0.2],
        "benign_ratio": [0.1, 0.2, 0.4, 0.6],
        "rank": [4, 16, 64],
        "layers": [(1, 2), (0, 2)],
    }
    assert sweep.centre.value == 0.05
    assert [cell.seed for cell in sweep.centre.defended] == [0, 1, 2]


def test_the_matrix_own_p2p_and_the_selection_make_the_centre(planned):
    own = {"name": "p2p", "label": "mine", "settings": {"benign_ratio": 0.2}}
    [sweep] = planned({**SMALL, "selection": "random"}, defenses=[own])
    [cell, _] = sweep.centre.defended
    assert cell.defense.title == "mine"
    assert cell.defense.settings == {"benign_ratio": 0.2, "selection": "random"}
    assert [one.value for one in sweep.settings["benign_ratio"]] == [0.2, 0.4]
    assert sweep.settings["benign_ratio"][0].cells == sweep.centre.cells


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"poison_rate": [0.1]}, "sweep.poison_rate: there is no such key; did you mean poison_r"),
        ({"benign_ratios": [0.0]}, "sweep.benign_ratios.0: Input should be greater than 0"),
        ({"benign_ratios": [0.2, 1.5]}, "sweep.benign_ratios.1: Input should be less than or"),
        ({"poison_rates": []}, "sweep.poison_rates: Tuple should have at least 1 item"),
        ({"ranks": [0]}, "sweep.ranks.0: Input should be greater than or equal to 1"),
        ({"layers": [[1, 1]]}, "sweep: layers 1 to 0 are none: give a first and an end"),
        ({"layers": [[0, 30]]}, "there are no layers 0 to 29"),
        ({"selection": "magic"}, "sweep.selection: Input should be 'random'"),
    ],
)
def test_a_bad_section_is_one_line_that_names_the_place(section, says, planned):
    with pytest.raises(InputError, match="sweep") as caught:
        planned(section)
    assert says in str(caught.value)
    assert "docs/sweep.md" in str(caught.value) or caught.value.mend


def test_a_point_is_the_mean_and_the_sample_deviation_of_its_seeds():
    spot = Spot(0.1, "0.1")
    found = point(spot, [(2, 0.4, 40), (0, 0.1, 38), (1, 0.2, 40), (3, float("nan"), 40)])
    assert found.mean == pytest.approx(0.7 / 3)
    assert found.sd == pytest.approx(0.152753, abs=1e-6)
    assert (found.seeds, found.n) == ((0, 1, 2), 38)
    assert point(spot, [(5, 0.4, 40)]).sd is None
    assert point(spot, []) is None


def test_the_figures_hold_every_curve_with_its_deviation(planned):
    sweeps = planned()
    figures = sweep_figures(sweeps, fake_results(sweep_cells(sweeps)))
    assert [figure.name for figure in figures] == NAMES
    assert all(not figure.missing for figure in figures)
    rows = rows_of(figures)
    rates = [row for row in rows if row["figure"] == "figure3a" and row["series"] == "CA, P2P"]
    assert [row["x"] for row in rates] == ["0.1", "0.2"]
    for row in rates:
        assert float(row["mean"]) == pytest.approx(0.81)
        assert float(row["sd"]) == pytest.approx(0.02 / 2**0.5, abs=1e-5)
        assert (row["seeds"], row["n"]) == ("0 1", "40")
    floors = [row for row in rows if row["series"] == "floor"]
    assert {(row["mean"], row["sd"], row["n"]) for row in floors} == {("0.1", "0", "20")}
    bins = [row for row in rows if row["figure"] == "figure2"]
    assert len(bins) == 2 * 20
    assert sum(float(row["mean"]) for row in bins) == pytest.approx(2)
    ranks = [row for row in rows if row["varied"] == "rank" and row["series"] == "ASR, P2P"]
    shares = [float(row["trainable_share"]) for row in ranks]
    assert [row["x"] for row in ranks] == ["8", "16"]
    # The adapter counts among all parameters, so twice the rank is a little less than twice.
    assert 1.8 < shares[1] / shares[0] < 2.0
    [clean] = [row for row in rows if "clean fine-tuning" in row["series"]]
    assert (clean["figure"], clean["mean"]) == ("figure4", "0.9")


def test_a_drawing_says_what_it_is_of_and_is_the_same_every_time(planned):
    sweeps = planned()
    figures = sweep_figures(sweeps, fake_results(sweep_cells(sweeps)))
    assert draw(figures[1]) == draw(figures[1])
    for figure in figures:
        text = draw(figure)
        assert "<dc:date>" not in text
        flat = " ".join(text.split())
        assert "seeds 0, 1" in flat
        assert "open cells" not in flat
        assert "toy, badnets" in flat
    page = render_markdown(figures, "mithridate sweep x.yaml -o y", [])
    assert page.count("mithridate sweep x.yaml -o y") == 1 + len(NAMES)
    assert "Open cells" not in page
    for name in NAMES:
        assert f"]({name}.svg)" in page
    for words in ("40 clean test inputs", "20 triggered", "120 training rows", "seeds 0, 1;"):
        assert words in page


def test_a_figure_is_drawn_from_what_is_finished_and_names_what_is_open(planned):
    sweeps = planned()
    cells = sweep_cells(sweeps)
    some = [cell for cell in cells if cell.rate == 0.1 and not cell.defense.training]
    done = fake_results([cell for cell in some if cell.seed == 0])
    results = Results(done.lines, frozenset(cell.mark for cell in cells if cell.rate == 0.2))
    figures = {figure.name: figure for figure in sweep_figures(sweeps, results)}
    assert [len(figures[name].missing) for name in NAMES] == [2, 4, 3, 6, 9]
    failed = figures["figure3a"].missing[2]
    assert failed.startswith("toy/badnets@0.2/none/")
    assert failed.endswith("seeds 0, 1 (failed)")
    assert "toy/badnets@0.1/p2p/" in figures["figure2"].missing[1]
    assert "seed 0; no bands." in figures["figure3a"].caption
    text = " ".join(draw(figures["figure3c"]).split())
    assert "Drawn without open cells: toy/badnets@0.1/none/" in text
    assert "3 more (sweep.md)" in text
    rows = [row for row in rows_of(figures.values()) if row["series"] == "CA, P2P"]
    assert {row["sd"] for row in rows} == {""}
    nothing = sweep_figures(sweeps, Results({}, frozenset()))
    assert all("Nothing of it is finished yet" in figure.caption for figure in nothing)
    assert "nothing finished yet" in draw(nothing[0])


def test_text_answers_have_a_utility_and_no_confidences(planned):
    sweeps = planned(datasets=[{**DATA, "task": "math"}])
    lines = {}
    for cell in sweep_cells(sweeps):
        line = fake_line(cell, None, 0.5, utility=3.5, utility_metric="exact match")
        del line["clean_accuracy"], line["target_confidence"]
        lines[cell.mark] = line
    figures = sweep_figures(sweeps, Results(lines, frozenset()))
    assert [figure.name for figure in figures] == NAMES[1:]
    assert "utility (exact match)" in draw(figures[0])
    assert {"utility (exact match), P2P"} < {row["series"] for row in rows_of(figures)}


def test_what_cannot_or_need_not_vary_has_no_figure(planned):
    section = {**SMALL, "benign_ratios": None, "layers": None, "ranks": None}
    sweeps = planned(section, datasets=[{**DATA, "poisoned": True}])
    figures = sweep_figures(sweeps, fake_results(sweep_cells(sweeps)))
    assert [figure.name for figure in figures] == ["figure2", "figure4"]


# ---- the command -----------------------------------------------------------------------------


def sweep(*words):
    return CliRunner().invoke(app, ["sweep", *map(str, words)])


def test_a_sweep_runs_its_cells_draws_them_and_goes_on_where_it_was(write_config, tmp_path):
    section = {"poison_rates": [0.2], "benign_ratios": None, "ranks": None, "layers": None}
    section["selection"] = "random"
    config, folder = write_config(defenses=["p2p"], seeds=[0, 1], sweep=section), tmp_path / "out"
    nothing = sweep(config, "-o", folder, "--render")
    assert nothing.exit_code == 2
    assert "no cell of this sweep is finished" in nothing.stderr

    part = sweep(config, "-o", folder, "--only", "@0.1/none/,@0.1/p2p/", "--threads", 1)
    assert part.exit_code == 0, part.output
    first = (folder / "journal.jsonl").read_text()
    assert len(first.splitlines()) == 4 + 2  # the centre, and a reference model for each seed
    page = (folder / "sweep.md").read_text()
    assert "toy/badnets@0.2/p2p" in page.partition("## Open cells")[2]

    with (folder / "journal.jsonl").open("a") as journal:
        journal.write('{"cell": "torn')
    whole = sweep(config, "-o", folder, "--json")
    assert whole.exit_code == 0, whole.output
    assert "8 cells: 4 finished, 4 to run." in whole.stderr
    facts = json.loads(whole.stdout)
    assert (facts["done"], facts["failed"], facts["open"]) == (8, 0, 0)
    assert (folder / "journal.jsonl").read_text().startswith(first)
    marks = [line["config_hash"] for line in read_lines(folder / "journal.jsonl")]
    assert len(marks) == len(set(marks)) == 8 + 2

    made = ["figure2.svg", "figure3a.svg", "figure4.svg", "sweep.csv", "sweep.md"]
    assert [name.rpartition("/")[2] for name in facts["files"]] == made
    assert not (folder / "figure3b.svg").exists()
    files = {name: (folder / name).read_text() for name in made}
    assert "Open cells" not in files["sweep.md"]
    for row in csv.DictReader(io.StringIO(files["sweep.csv"])):
        assert row["seeds"] == "0 1"
        assert 0 <= float(row["mean"]) <= 1
        assert row["sd"]
    assert sweep(config, "-o", folder, "--render").exit_code == 0
    assert {name: (folder / name).read_text() for name in made} == files


def test_a_plan_is_shown_before_anything_is_run(write_config, tmp_path):
    section = {"poison_rates": [0.2], "benign_ratios": [0.2], "ranks": None, "layers": None}
    config, folder = write_config(seeds=[0], sweep=section), tmp_path / "out"
    shown = sweep(config, "-o", folder, "--dry-run", "--json")
    assert shown.exit_code == 0, shown.output
    assert [row["state"] for row in json.loads(shown.stdout)["cells"]] == ["open"] * 5
    assert not folder.exists()


def test_without_matplotlib_it_says_what_to_install(write_config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused = sweep(write_config(), "-o", tmp_path / "out")
    assert refused.exit_code == 1
    assert refused.stderr.count("\n") == 1
    assert "needs matplotlib" in refused.stderr
    assert "pip install '.[bench]'" in refused.stderr


def test_a_run_that_finishes_nothing_says_so(write_config, tmp_path):
    config, folder = write_config(seeds=[0], sweep=SMALL), tmp_path / "out"
    left = sweep(config, "-o", folder, "--minutes", 0)
    assert left.exit_code == 0, left.output
    assert "No cell is finished yet, so no figure is drawn." in left.stderr
    cells = sweep_cells(plan(read_sweep(config)))
    matrix = Matrix(cells, folder, "")
    append_line(matrix.failures, {"config_hash": cells[0].mark, "error": "none"})
    assert matrix.states()[cells[0].mark] == "failed"
    again = sweep(config, "-o", folder, "--minutes", 0)
    assert again.exit_code == 1
    assert "--retry-failed" in again.stdout

"""Files of any size: the same D* from any shards, in bounded memory, whole or not at all."""

import itertools
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import datasets
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mithridate.data.read import read_rows
from mithridate.data.write import write_jsonl
from mithridate.defense import stream_files
from mithridate.defense.collisions import draw_prefix, draw_trigger
from mithridate.defense.config import P2PConfig
from mithridate.defense.manifest import DefenseManifest, dataset_fingerprint
from mithridate.defense.secret import Secret
from mithridate.defense.stream_files import repoison_shards
from mithridate.errors import CollisionError, InputError

SECRET = Secret.from_seed(3)
CONFIG = P2PConfig(selection="random")


def make_rows(count, start=0):
    words = ("a dull and hollow film", "a bright and lovely film")
    return [
        {"text": f"{words[i % 2]} number {i}", "label": i % 2} for i in range(start, start + count)
    ]


def run(sources, output, **options):
    options = {"workers": 1, **options}
    return repoison_shards([str(source) for source in sources], output, CONFIG, SECRET, **options)


def joined(output, result):
    return b"".join((output / name).read_bytes() for name in result.files)


@pytest.fixture
def whole(tmp_path):
    write_jsonl(tmp_path / "d.jsonl", make_rows(400))
    return tmp_path / "d.jsonl"


@pytest.fixture
def shards(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    rows = iter(make_rows(400))
    for index, size in enumerate((50, 1, 99, 0, 120, 30, 60, 40)):
        write_jsonl(folder / f"part-{index}.jsonl", itertools.islice(rows, size))
    return folder


def test_one_file_and_eight_shards_in_any_order_give_the_same_bytes(whole, shards, tmp_path):
    one = run([whole], tmp_path / "one")
    assert one.files == ["train.jsonl"]
    expected = (tmp_path / "one" / "train.jsonl").read_bytes()
    names = sorted(shards.iterdir())
    for index, sources in enumerate(([shards], names[::-1], names[3:] + names[:3])):
        output = tmp_path / f"eight-{index}"
        eight = run(sources, output, workers=2 if index == 1 else 1)
        assert eight.files == [f"train-{place:05}-of-00008.jsonl" for place in range(8)]
        assert joined(output, eight) == expected
        assert eight.tally == one.tally
        assert eight.manifest.benign_trigger == one.manifest.benign_trigger
        assert eight.manifest.dataset == one.manifest.dataset


def test_the_manifest_says_what_was_done(whole, tmp_path):
    result = run([whole], tmp_path / "out")
    manifest = DefenseManifest.load(tmp_path / "out")
    assert manifest == result.manifest
    assert manifest.dataset == dataset_fingerprint(read_rows(whole))
    records = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").open()]
    assert manifest.subset.rows == sum(record["repoisoned"] for record in records)
    assert manifest.subset.wanted == 160
    for path in (tmp_path / "out").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_large_file_is_split_among_processes_and_joined_again(whole, tmp_path, monkeypatch):
    expected = joined(tmp_path / "one", run([whole], tmp_path / "one"))

    def split(path):
        return [*stream_files_split(path, 4000)]

    stream_files_split = stream_files.split_lines
    monkeypatch.setattr(stream_files, "split_lines", split)
    assert len(split(str(whole))) > 5
    for workers in (1, 2):
        output = tmp_path / f"split-{workers}"
        result = run([whole], output, workers=workers)
        assert joined(output, result) == expected
        assert sorted(path.name for path in output.iterdir()) == ["defense.json", "train.jsonl"]


@pytest.mark.parametrize("kind", ["csv", "parquet", "stream", "dataset"])
def test_every_kind_of_source_gives_the_same_rows(kind, whole, tmp_path):
    expected = joined(tmp_path / "one", run([whole], tmp_path / "one"))
    rows = make_rows(400)
    source: object = [str(tmp_path / f"d.{kind}")]
    if kind == "csv":
        lines = "".join(f"{row['text']},{row['label']}\n" for row in rows)
        (tmp_path / "d.csv").write_text("text,label\n" + lines)
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet", row_group_size=70)
    elif kind == "dataset":
        source = datasets.Dataset.from_list(rows)
    else:
        source = datasets.load_dataset(
            "json",
            data_files=str(whole),
            split="train",
            streaming=True,
            cache_dir=str(tmp_path / "cache"),
        )
    result = repoison_shards(source, tmp_path / "out", CONFIG, SECRET, workers=1)
    assert joined(tmp_path / "out", result) == expected


def test_a_hub_id_is_read_as_a_stream(whole, tmp_path, monkeypatch):
    expected = joined(tmp_path / "one", run([whole], tmp_path / "one"))
    asked = []

    def load_dataset(name, configuration, **options):
        asked.append((name, configuration, options))
        return datasets.Dataset.from_list(make_rows(400)).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    result = run(["owner/name:plain"], tmp_path / "out")
    assert joined(tmp_path / "out", result) == expected
    assert asked[0] == ("owner/name", "plain", {"split": "train", "streaming": True})


def test_a_stream_that_breaks_off_says_where(tmp_path):
    def rows():
        yield from make_rows(5)
        raise ConnectionError("the hub hung up")

    source = datasets.IterableDataset.from_generator(rows)
    with pytest.raises(InputError, match="dataset:row 6: the stream breaks off here"):
        repoison_shards(source, tmp_path / "out", CONFIG, SECRET, workers=1)
    assert not list(tmp_path.glob("*out*"))


def test_parquet_is_written_where_asked_for(shards, tmp_path):
    lines = joined(tmp_path / "lines", run([shards], tmp_path / "lines")).splitlines()
    result = run([shards], tmp_path / "out", file_format="parquet")
    assert result.files[3] == "train-00003-of-00008.parquet"
    tables = [pq.read_table(tmp_path / "out" / name) for name in result.files]
    records = pa.concat_tables(tables).to_pylist()
    assert records == [json.loads(line) for line in lines]


@pytest.mark.parametrize("held", ["trigger", "prefix"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_collision_takes_the_next_draw_as_in_memory(held, workers, shards, tmp_path):
    text = SECRET.benign_trigger() if held == "trigger" else SECRET.safe_prefix()
    write_jsonl(shards / "part-8.jsonl", [{"text": f"{text.upper()} x", "label": 0}])
    said = []
    result = run([shards], tmp_path / "out", workers=workers, announce=said.append)
    rows = [
        row
        for path in sorted(shards.iterdir())
        for row in (read_rows(path) if path.stat().st_size else [])
    ]
    assert result.manifest.benign_trigger == draw_trigger(rows, SECRET, published=False)[0]
    assert result.manifest.safe_prefix == draw_prefix(rows, SECRET, published=False)[0]
    assert result.redrawn == 1
    assert len(said) == 1
    assert text.strip().lower() not in said[0].lower()
    assert len(list((tmp_path / "out").iterdir())) == 10


def test_a_draw_that_several_machines_share_is_never_changed_silently(shards, tmp_path):
    write_jsonl(shards / "part-8.jsonl", [{"text": SECRET.benign_trigger(), "label": 0}])
    with pytest.raises(CollisionError, match="on every machine, with --draw 1"):
        run([shards], tmp_path / "out", draw=0)
    assert not list(tmp_path.glob("*out*"))
    parts = sorted(shards.iterdir())
    labels = ["0", "1"]
    whole = run(parts, tmp_path / "whole", draw=1, labels=labels)
    left = run(parts[:4], tmp_path / "left", draw=1, labels=labels)
    right = run(parts[4:], tmp_path / "right", draw=1, labels=labels)
    assert left.manifest.benign_trigger == right.manifest.benign_trigger
    assert left.redrawn == right.redrawn == 0
    pieces = joined(tmp_path / "left", left) + joined(tmp_path / "right", right)
    assert pieces == joined(tmp_path / "whole", whole)
    left.tally.add(right.tally)
    assert left.tally == whole.tally


def test_labels_that_turn_up_late_are_found(tmp_path):
    rows = make_rows(3000)
    rows[-1]["label"] = rows[-3]["label"] = 10
    rows += [{**row, "text": row["text"] + "!"} for row in rows[-4:]] * 30
    write_jsonl(tmp_path / "d.jsonl", rows)
    said = []
    result = run([tmp_path / "d.jsonl"], tmp_path / "out", announce=said.append)
    assert result.manifest.labels == ("0", "1", "10")
    assert len(said) == 1
    given = run([tmp_path / "d.jsonl"], tmp_path / "given", labels=["0", "1", "10"])
    assert joined(tmp_path / "given", given) == joined(tmp_path / "out", result)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_row_is_named_by_file_and_line_and_nothing_is_left(workers, shards, tmp_path):
    with (shards / "part-4.jsonl").open("a") as file:
        file.write('{"text": 5, "label": 0}\n')
    with pytest.raises(InputError, match=r"part-4.jsonl:121: the text .* is not a string"):
        run([shards], tmp_path / "out", workers=workers)
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("selection", ["agreement", "anchored"])
def test_a_selection_that_needs_the_whole_set_is_refused(selection, whole, tmp_path):
    config = P2PConfig(selection=selection)
    with pytest.raises(InputError, match=f"{selection} selection judges the whole set") as caught:
        repoison_shards([str(whole)], tmp_path / "out", config, SECRET)
    assert "--selection random" in caught.value.mend


def test_a_column_of_free_text_is_no_column_of_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(stream_files, "MOST_LABELS", 20)
    rows = [{"text": "a", "label": f"answer {index}"} for index in range(50)]
    write_jsonl(tmp_path / "d.jsonl", rows)
    with pytest.raises(InputError, match="more than 20 distinct answers") as caught:
        run([tmp_path / "d.jsonl"], tmp_path / "out")
    assert "--answer-column" in caught.value.mend


def test_shards_without_any_row_are_refused(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text("\n")
    for labels in (None, ["0", "1"]):
        with pytest.raises(InputError, match="no rows in any of the 2 shards"):
            run([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], tmp_path / "out", labels=labels)


MEASURE = """
import sys
from pathlib import Path
from mithridate.defense.config import P2PConfig
from mithridate.defense.secret import Secret
from mithridate.defense.stream_files import repoison_shards
source, output = sys.argv[1:]
config = P2PConfig(selection="random")
repoison_shards([source], Path(output), config, Secret.from_seed(0), workers=1)
# Not ru_maxrss, which starts from the peak of the process that started this one.
status = Path("/proc/self/status").read_text()
print(status.partition("VmHWM:")[2].split()[0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_rows(tmp_path):
    peaks = []
    for count in (10_000, 100_000):
        data = tmp_path / f"{count}.jsonl"
        write_jsonl(data, make_rows(count))
        command = [sys.executable, "-c", MEASURE, str(data), str(tmp_path / f"out-{count}")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] < 200
    # Ninety thousand more rows held in memory would be 25 MB as text alone.
    assert peaks[1] - peaks[0] < 8


@pytest.fixture
def stuck(tmp_path):
    """A run of two workers, one of which waits for ever for the rows of a pipe."""
    folder = tmp_path / "shards"
    folder.mkdir()
    rows = "".join(f"film {index},{index % 2}\n" for index in range(100))
    (folder / "a.csv").write_text("text,label\n" + rows)
    os.mkfifo(folder / "b.csv")
    command = [sys.executable, "-m", "mithridate.cli.main", "repoison", "--stream"]
    command += [str(folder / name) for name in ("a.csv", "b.csv")]
    command += ["--selection", "random", "--labels", "0,1", "--workers", "2"]
    process = subprocess.Popen(
        [*command, "-o", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores interrupts, and so would all it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    parent = psutil.Process(process.pid)
    until = time.monotonic() + 60
    written = tmp_path / ".out.partial" / "train-00001-of-00002.jsonl"
    while not written.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    workers = [child for child in parent.children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(workers) == 2
    assert not (tmp_path / "out").exists()
    yield process, workers
    for leftover in [process, *workers]:
        try:
            leftover.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def test_a_killed_worker_ends_the_run_and_leaves_nothing(stuck, tmp_path):
    process, workers = stuck
    workers[1].kill()
    _, message = process.communicate(timeout=60)
    assert process.returncode == 1
    assert message.startswith("error: a worker process was killed")
    assert message.count("\n") == 1
    assert not list(tmp_path.glob("*out*"))
    assert not any(worker.is_running() for worker in workers)


def test_an_interrupted_run_leaves_nothing(stuck, tmp_path):
    process, workers = stuck
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in message
    assert not list(tmp_path.glob("*out*"))
    assert not any(worker.is_running() for worker in workers)


def test_a_run_that_was_killed_leaves_no_output_and_can_be_repeated(stuck, tmp_path):
    process, workers = stuck
    process.kill()
    process.wait()
    assert not (tmp_path / "out").exists()
    for worker in workers:
        if worker.is_running():
            worker.kill()
    (tmp_path / "shards" / "b.csv").unlink()
    result = run([tmp_path / "shards"], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "defense.json",
        *result.files,
    ]
    assert not (tmp_path / ".out.partial").exists()


def test_a_shard_in_the_folder_to_write_is_not_lost(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "defense.json").write_text("{}")
    shard = output / "mine.jsonl"
    shard.write_text('{"text": "a", "label": 0}\n' * 40 + '{"text": "b", "label": 1}\n' * 40)
    for source in (shard, output / "mi*.jsonl"):
        with pytest.raises(InputError, match="the same command reads what is in this folder"):
            repoison_shards([str(source)], output, CONFIG, SECRET, overwrite=True)
    assert shard.exists()

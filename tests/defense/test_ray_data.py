"""Ray: the same D*, row by row in order, as the stream of one machine; skipped without Ray."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mithridate.data.write import write_jsonl
from mithridate.defense.config import P2PConfig
from mithridate.defense.ray_data import repoison_ray
from mithridate.defense.secret import Secret
from mithridate.defense.stream_files import repoison_shards
from mithridate.errors import CollisionError, InputError, MithridateError

SECRET = Secret.from_seed(3)
CONFIG = P2PConfig(selection="random", mode="union")


def make_rows(count):
    words = ("a dull and hollow film", "a bright and lovely film")
    return [{"text": f"{words[i % 2]} number {i}", "label": i % 2} for i in range(count)]


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    # Blocks as small as they come, lest a small set become one file.
    context = ray.data.DataContext.get_current()
    context.target_min_block_size = 1
    yield ray
    ray.shutdown()


@pytest.fixture
def parquet(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    rows = make_rows(300)
    for place, start in enumerate(range(0, 300, 100)):
        table = pa.Table.from_pylist(rows[start : start + 100])
        pq.write_table(table, folder / f"part-{place}.parquet", row_group_size=30)
    return folder


def local_records(folder, tmp_path):
    result = repoison_shards([str(folder)], tmp_path / "local", CONFIG, SECRET, workers=1)
    lines = b"".join((tmp_path / "local" / name).read_bytes() for name in result.files)
    return result, [json.loads(line) for line in lines.splitlines()]


def test_ray_writes_what_the_local_stream_writes(cluster, parquet, tmp_path):
    # One row holds the first draw of the trigger, so that both have to draw again.
    rows = pa.Table.from_pylist([{"text": SECRET.benign_trigger().upper(), "label": 0}])
    pq.write_table(rows, parquet / "part-3.parquet")
    local, expected = local_records(parquet, tmp_path)
    output, target = tmp_path / "out", tmp_path / "elsewhere" / "train"
    url = f"file://{target}"
    result = repoison_ray([f"file://{parquet}"], output, CONFIG, SECRET, target=url)
    records = [row for name in result.files for row in pq.read_table(target / name).to_pylist()]
    assert records == expected
    assert result.tally == local.tally
    assert result.redrawn == local.redrawn == 1
    assert result.manifest.dataset == local.manifest.dataset
    assert result.manifest.benign_trigger == local.manifest.benign_trigger
    assert [path.name for path in output.iterdir()] == ["defense.json"]
    with pytest.raises(InputError, match="something is there already"):
        repoison_ray([str(parquet)], tmp_path / "again", CONFIG, SECRET, target=url)
    with pytest.raises(CollisionError, match="--draw 1"):
        repoison_ray([str(parquet)], tmp_path / "fixed", CONFIG, SECRET, draw=0)
    assert not list(tmp_path.glob("*fixed*"))
    assert cluster.is_initialized()


def test_a_bad_row_is_named_by_file_and_row_and_nothing_is_left(cluster, parquet, tmp_path):
    rows = pa.Table.from_pylist([{"text": "x", "label": 0}, {"text": " ", "label": 1}])
    pq.write_table(rows, parquet / "part-3.parquet")
    with pytest.raises(InputError, match=r"part-3.parquet:row 2: no text"):
        repoison_ray([str(parquet)], tmp_path / "out", CONFIG, SECRET)
    assert not list(tmp_path.glob("*out*"))


def test_ray_reads_parquet_alone(tmp_path):
    write_jsonl(tmp_path / "d.jsonl", make_rows(4))
    with pytest.raises(InputError, match="the ray backend reads Parquet alone"):
        repoison_ray([str(tmp_path / "d.jsonl")], tmp_path / "out", CONFIG, SECRET)


def test_without_ray_the_error_names_the_install_line(parquet, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MithridateError, match="ray, which is not installed") as caught:
        repoison_ray([str(parquet)], tmp_path / "out", CONFIG, SECRET)
    assert caught.value.mend == "in the clone of Mithridate: pip install '.[ray]'"
    assert not list(tmp_path.glob("*out*"))

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mithridate.data import Columns, Row, content_id, iter_rows, read_rows, write_jsonl
from mithridate.data.rows import number_duplicates
from mithridate.errors import InputError

NASTY = [
    "\u2028",
    "\u0085",
    "\x0b",
    "\x1c",
    "\ufeff",
    "🏛️",
    "e\u0301",
    '"',
    "\\",
    "\r",
    "\r\n",
    "\n",
]
texts = (
    st.lists(
        st.sampled_from([*NASTY, "a", ",", "\t", " "])
        | st.text(st.characters(codec="utf-8"), max_size=4),
        max_size=8,
    )
    .map("".join)
    .filter(lambda text: text.strip() and "\x00" not in text)
)
pairs = st.lists(st.tuples(texts, texts), min_size=1, max_size=6)
files = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def complaint(source: object, columns: Columns | None = None, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        read_rows(source, columns or Columns(), **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.mend
    assert caught.value.exit_code == 2
    return message


def content(rows: list[Row]) -> list[tuple[str, str | None]]:
    return [(row.text, row.answer) for row in rows]


@files
@given(pairs)
def test_jsonl_round_trip(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, ({"text": text, "label": answer} for text, answer in rows))
    assert content(read_rows(path)) == rows


@files
@given(pairs, st.sampled_from([("rows.csv", ","), ("rows.tsv", "\t")]))
def test_csv_round_trip(tmp_path, rows, kind):
    name, delimiter = kind
    path = tmp_path / name
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerows([("text", "label"), *rows])
    assert content(read_rows(path)) == rows


@files
@given(pairs)
def test_parquet_and_dataset_round_trip(tmp_path, rows):
    columns = {"text": [text for text, _ in rows], "label": [answer for _, answer in rows]}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    assert content(read_rows(tmp_path / "rows.parquet")) == rows
    assert content(read_rows(datasets.Dataset.from_dict(columns))) == rows


@files
@given(pairs)
def test_ids_are_unique_and_do_not_depend_on_order(tmp_path, rows):
    def ids(some):
        path = tmp_path / "rows.jsonl"
        write_jsonl(path, ({"text": text, "label": answer} for text, answer in some))
        return sorted(row.id for row in read_rows(path))

    assert ids(rows) == ids(rows[::-1])
    assert len(set(ids(rows))) == len(rows)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1", "1"),
        ("1.0", "1"),
        ('"1"', "1"),
        ("-3", "-3"),
        ("0.5", "0.5"),
        ("true", "true"),
        ('" a "', " a "),
    ],
)
def test_answers_become_text(tmp_path, written, read):
    path = put(tmp_path, "a.jsonl", f'{{"text": "x", "label": {written}}}\n')
    assert read_rows(path)[0].answer == read


def test_where_is_the_true_line_despite_blank_lines_and_quoted_newlines(tmp_path):
    jsonl = put(tmp_path, "a.jsonl", '\n{"text":"x","label":0}\n\n{"text":"y","label":1}')
    assert [row.where for row in iter_rows(jsonl)] == [f"{jsonl}:2", f"{jsonl}:4"]
    table = put(tmp_path, "a.csv", 'text,label\r\n"one\r\ntwo\n",0\r\n\r\nthree,1\r\n')
    rows = read_rows(table)
    assert [row.where for row in rows] == [f"{table}:2", f"{table}:6"]
    assert rows[0].text == "one\r\ntwo\n"


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "a.csv"])
def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path, name):
    body = "text,label\nx,0\n" if name.endswith("csv") else '{"text": "x", "label": 0}\n'
    assert content(read_rows(put(tmp_path, name, b"\xef\xbb\xbf" + body.encode()))) == [("x", "0")]


def test_own_ids_are_kept_whatever_their_column_is_called(tmp_path):
    line = '{"text": "x", "label": 0, "id": 7, "uid": "u1"}\n'
    path = put(tmp_path, "a.jsonl", line)
    assert read_rows(path)[0].id == "7"
    assert read_rows(path, Columns(id="uid"))[0].id == "u1"
    nulls = put(tmp_path, "b.jsonl", '{"text": "x", "label": 0, "id": null}\n')
    assert read_rows(nulls)[0].id == content_id("x", "0")
    assert 'no id in column "id"' in complaint(nulls, Columns(id="id"))


def test_own_ids_lose_the_space_around_them(tmp_path):
    """And byte order marks: the first line of a file of ids would lose them, and name another."""
    path = put(tmp_path, "a.csv", "text,label,id\nx, 0, r1\ny, 1,\u2003\ufeffr2\u2028\n")
    assert [row.id for row in read_rows(path)] == ["r1", "r2"]


def test_a_double_id_names_both_lines(tmp_path):
    row = '{"text": "x", "label": 0, "id": 7}\n'
    message = complaint(put(tmp_path, "a.jsonl", row + row))
    assert "a.jsonl:2: " in message
    assert "a.jsonl:1;" in message


def test_a_stream_leaves_content_ids_unnumbered(tmp_path):
    path = put(tmp_path, "a.jsonl", '{"text": "x", "label": 0}\n' * 2)
    assert [row.id for row in iter_rows(path)] == [content_id("x", "0")] * 2
    assert [row.id for row in read_rows(path)] == [
        content_id("x", "0"),
        content_id("x", "0") + "-2",
    ]


def test_streaming_reads_no_further_than_asked(tmp_path):
    path = put(tmp_path, "a.jsonl", '{"text": "x", "label": 0}\nnot json\n')
    assert next(iter_rows(path)).text == "x"


def test_class_labels_are_their_ints_and_an_unknown_one_is_no_answer():
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    known = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    assert content(read_rows(known)) == [("a", "1"), ("b", "0")]
    assert content(read_rows(known.with_format("numpy"))) == [("a", "1"), ("b", "0")]
    unknown = datasets.Dataset.from_dict({"text": ["a"], "label": [-1]}, features=features)
    assert "row 1: no answer" in complaint(unknown)


def test_answers_may_be_absent_where_they_are_not_required(tmp_path):
    path = put(tmp_path, "a.csv", "text\nx\n")
    assert read_rows(path, require_answer=False)[0].answer is None
    assert 'a.csv:1: no column "label"; there is "text"' in complaint(path)


def test_long_documents_fit(tmp_path):
    text = "word " * 100_000
    assert read_rows(put(tmp_path, "a.csv", f'text,label\n"{text}",0\n'))[0].text == text


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("a.jsonl", '{"text": "x", "label": 0}\n{"text": ', "a.jsonl:2: malformed JSON"),
        ("a.jsonl", "[1]\n", "a.jsonl:1: the line is an array, not an object"),
        ("a.json", "[\n{}\n]", "jq -c"),
        ("a.jsonl", '{"text": "x", "label": NaN}', "a.jsonl:1: NaN is not JSON"),
        ("a.jsonl", "[" * 200_000, "nested too deeply"),
        ("a.jsonl", '{"text": "x", "label": ' + "9" * 5000 + "}", "a.jsonl:1: Exceeds the limit"),
        ("a.jsonl", '{"sentence": "x", "label": 0}', 'no column "text"; there is "sentence", "la'),
        ("a.jsonl", '{"sentence": "x", "label": 0}', "--text-column"),
        ("a.jsonl", '{"text": "", "label": 0}', 'a.jsonl:1: no text in column "text"'),
        ("a.jsonl", '{"text": " \\u2003", "label": 0}', "no text"),
        ("a.jsonl", '{"text": null, "label": 0}', "no text"),
        ("a.jsonl", '{"text": 5, "label": 0}', "not a string but int"),
        ("a.jsonl", '{"text": "\\ud83d", "label": 0}', "half a surrogate pair"),
        ("a.jsonl", '{"text": "x", "label": null}', 'no answer in column "label"'),
        ("a.jsonl", '{"text": "x"}', 'no column "label"'),
        ("a.jsonl", '{"text": "x", "label": [1]}', "neither a string nor a number but [1]"),
        ("a.jsonl", '{"text": "x", "label": 0, "id": [1]}', "the id is [1]"),
        ("a.jsonl", '{"text": "x", "label": 0, "id": "a\\nb"}', "a.jsonl:1: a line break in"),
        ("a.jsonl", '{"text": "x", "label": 0, "id": "a\\u2028b"}', "line break in the id 'a"),
        ("a.jsonl", '{"text": "x", "label": 0, "id": "a\\u0085b"}', "line break in the id 'a"),
        ("a.jsonl", "", "the file is empty"),
        ("a.jsonl", "\n \n", "no rows: nothing but a header or blank lines"),
        ("a.csv", "", "the file is empty"),
        ("a.csv", "text,label\n\n", "no rows: nothing but a header or blank lines"),
        ("a.csv", "text,label\nx,0\ny\n", "a.csv:3: 1 field where the header has 2"),
        ("a.csv", 'text,label\n"a\nb",0\nx,y,0\n', "a.csv:4: 3 fields where the header has 2"),
        ("a.csv", 'text,label\nx,0\n"never closed,1\n', "a.csv:3: quotes that are never closed"),
        ("a.csv", 'text,label\n"a"b,0\n', "a.csv:2: malformed record"),
        ("a.csv", "text,label\rx,0\r", "a.csv:1: a bare carriage return"),
        ("a.csv", "text,label,text\nx,0,y\n", 'names the column "text" twice'),
        ("a.csv", "text\n x \n  \n", "a.csv:3: no text"),
        ("a.csv", "text,label\nx, \n", "a.csv:2: no answer"),
        ("a.csv", "text;label\nx, y;0\n", "a.csv:1: the columns are separated by semicolons; save"),
        ("a.csv", "text\tlabel\nx\t0\n", "separated by tabs; rename it to end in .tsv"),
        ("a.tsv", "text,label\nx,0\n", "separated by commas; rename it to end in .csv"),
        ("a.jsonl", b'{"text": "x", "label": 0}\n\x00\x01', "a.jsonl:2: a NUL byte at offset 26"),
        ("a.csv", b"text,label\ncaf\xe9,0\n", "a.csv:2: bytes that are not UTF-8 at offset 14"),
        ("a.jsonl", gzip.compress(b"{}"), "compressed with gzip; unpack it first: gunzip a.jsonl"),
        ("a.csv", "text,label\nx,0".encode("utf-16"), "UTF-16 text; convert it: iconv"),
        ("a.csv", b"PAR1....", "a Parquet file under another name"),
        ("a.parquet", b"not parquet", "cannot be read as Parquet"),
        ("a.jsonl.gz", gzip.compress(b"{}"), 'unknown format ".gz"'),
        ("a", "x", 'unknown format ""'),
    ],
)
def test_bad_files_are_named_by_line_and_mend(tmp_path, name, body, says):
    columns = Columns(answer="text") if body == "text\n x \n  \n" else None
    assert says in complaint(put(tmp_path, name, body), columns)


def test_a_column_may_have_a_semicolon_in_its_name(tmp_path):
    rows = read_rows(put(tmp_path, "a.csv", "a;b\nx\n"), Columns("a;b", "a;b"))
    assert [row.text for row in rows] == ["x"]


def test_bad_parquet_rows_and_columns_are_named(tmp_path):
    pq.write_table(pa.table({"text": ["a", None], "label": [0, 1]}), tmp_path / "a.parquet")
    assert "a.parquet:row 2: no text" in complaint(tmp_path / "a.parquet")
    message = complaint(tmp_path / "a.parquet", Columns(answer="y"))
    assert 'no column "y"; there is "text", "label"' in message
    pq.write_table(pa.table({"text": ["a"], "label": [float("nan")]}), tmp_path / "b.parquet")
    assert "row 1: no answer" in complaint(tmp_path / "b.parquet")
    pq.write_table(pa.table({"text": ["a"], "label": [0]}).slice(0, 0), tmp_path / "c.parquet")
    assert "c.parquet: no rows" in complaint(tmp_path / "c.parquet")


def test_a_parquet_file_with_a_column_twice_is_refused_only_where_it_is_wanted(tmp_path):
    arrays = [pa.array(["a"]), pa.array(["b"]), pa.array([0]), pa.array([1])]
    names = ["text", "text", "label", "more"]
    pq.write_table(pa.Table.from_arrays(arrays, names), tmp_path / "a.parquet")
    message = complaint(tmp_path / "a.parquet")
    assert 'a.parquet: the column "text" is there twice; rename one of them' in message
    pq.write_table(
        pa.Table.from_arrays(arrays, ["text", "more", "label", "more"]), tmp_path / "b.parquet"
    )
    assert [row.text for row in read_rows(tmp_path / "b.parquet")] == ["a"]


def test_a_missing_file_suggests_the_nearest_name(tmp_path):
    put(tmp_path, "train.jsonl", "")
    assert f"did you mean {tmp_path}/train.jsonl?" in complaint(tmp_path / "trian.jsonl")
    assert "train.jsonl?" in complaint(str(tmp_path / "train"))  # not taken for a hub id
    assert "is not there either" in complaint(tmp_path / "nowhere" / "train.jsonl")


def test_a_folder_is_refused_and_its_files_named(tmp_path):
    put(tmp_path, "train.jsonl", "")
    assert "this is a folder; name a file in it: train.jsonl" in complaint(tmp_path)


def test_other_objects_are_refused():
    rows = datasets.Dataset.from_dict({"text": ["a"], "label": [0]})
    assert "one split of a DatasetDict" in complaint(datasets.DatasetDict(train=rows))
    assert "cannot take rows from list" in complaint([1])


def test_a_hub_id_goes_to_datasets_with_its_split_and_configuration(monkeypatch):
    asked = []

    def load_dataset(name, configuration, *, split):
        asked.append((name, configuration, split))
        return datasets.Dataset.from_dict({"sentence": ["a"], "label": [0]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    rows = read_rows("nyu-mll/glue:sst2", Columns("sentence"), split="validation")
    assert rows[0].where == "nyu-mll/glue:sst2[validation]:row 1"
    read_rows("imdb", Columns("sentence"))
    assert asked == [("nyu-mll/glue", "sst2", "validation"), ("imdb", None, "train")]


def test_a_hub_id_that_fails_is_one_line(monkeypatch):
    def load_dataset(*_args, **_options):
        raise ConnectionError("offline\nat length")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert "gives us (offline)" in complaint("someone/something")


def test_reading_jsonl_imports_nothing_heavy(tmp_path):
    path = put(tmp_path, "a.jsonl", json.dumps({"text": "x", "label": 0}))
    code = (
        "import sys; from mithridate.data import read_rows; "
        f"read_rows({str(path)!r}); "
        "print(*{'datasets', 'pyarrow', 'pandas', 'torch', 'transformers', 'numpy'} "
        "& sys.modules.keys())"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_numbered_copies_never_take_an_id_that_is_there():
    rows = [Row("x", "a"), Row("x", "a"), Row("x-2", "b")]
    assert [row.id for row in number_duplicates(rows)] == ["x", "x-3", "x-2"]

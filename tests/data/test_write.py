import errno
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mithridate.data import check_file, check_target, staged_folder, write_jsonl, write_text_atomic
from mithridate.errors import InputError, MithridateError


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def fill(folder: Path, content: str = "{}") -> None:
    (folder / "defense.json").write_text(content)


def test_jsonl_is_written_whole_and_counted(tmp_path):
    path = tmp_path / "out.jsonl"
    assert write_jsonl(path, ({"text": text} for text in ["é\u2028", "\ud83d", "b"])) == 3
    lines = path.read_bytes().split(b"\n")
    assert [json.loads(line)["text"] for line in lines[:-1]] == ["é\u2028", "\ud83d", "b"]
    assert "é".encode() in lines[0]
    assert tree(tmp_path) == ["out.jsonl"]


def test_records_are_consumed_one_by_one_and_the_target_appears_at_the_end(tmp_path):
    path = tmp_path / "out.jsonl"

    def records():
        for number in range(3):
            assert not path.exists()
            yield {"n": number}

    write_jsonl(path, records())
    assert path.exists()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, PermissionError])
def test_a_failure_midway_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "out.jsonl"
    path.write_text("old")

    def records():
        yield {"n": 1}
        raise error

    with pytest.raises(error):
        write_jsonl(path, records())
    assert path.read_text() == "old"
    assert tree(tmp_path) == ["out.jsonl"]


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_jsonl(tmp_path / "a.jsonl", [{"x": float("nan")}])
    assert tree(tmp_path) == []


def test_a_secret_is_private_from_its_creation_on(tmp_path, monkeypatch):
    path = tmp_path / "defense.json"
    path.write_text("old")
    path.chmod(0o644)
    modes = []
    opened = os.open

    def spy(name, flags, mode=0o777):
        descriptor = opened(name, flags, mode)
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    monkeypatch.setattr(os, "open", spy)
    write_text_atomic(path, "secret", mode=0o600)
    assert modes == [0o600]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "secret"


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_text_atomic(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "x"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("write", [write_text_atomic, lambda p, _: write_jsonl(p, [{"a": 1}])])
def test_a_full_device_is_one_line_and_stays_a_device(write):
    with pytest.raises(InputError, match="/dev/full: no space left on the disk; free some space"):
        write("/dev/full", "text")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


FULL_DISK = """
import sys
from pathlib import Path
from mithridate.data import check_file, check_target, staged_folder, write_jsonl, write_text_atomic
from mithridate.errors import InputError
place = Path(sys.argv[1])
def into_folder():
    with staged_folder(place / "out") as folder:
        (folder / "a").write_bytes(bytes(10_000_000))
def saved_by_safetensors():
    import numpy, safetensors.numpy
    with staged_folder(place / "out") as folder:
        arrays = {"a": numpy.zeros(10_000_000, "uint8")}
        safetensors.numpy.save_file(arrays, folder / "model.safetensors")
records = ({"text": "x" * 1000} for _ in range(10_000))
writers = [
    lambda: write_jsonl(place / "a.jsonl", records),
    lambda: write_text_atomic(place / "a.txt", "x" * 10_000_000),
    into_folder,
]
for write in [*writers, saved_by_safetensors][: int(sys.argv[2])]:
    try:
        write()
    except InputError as error:
        assert error.what == "no space left on the disk", error
        assert error.exit_code == 2
    else:
        raise AssertionError("the disk held it all")
    assert not list(place.iterdir()), list(place.iterdir())
print("done")
"""


def test_a_file_size_limit_leaves_nothing_half_written(tmp_path):
    limit = (1_000_000, 1_000_000)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), "3"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert done.stdout == "done\n", done.stderr


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    mount = 'mount -t tmpfs -o size=1m none "$1" && echo mounted && '
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    script = mount + '"$2" -c "$3" "$1" 4'
    if shutil.which("unshare") is None:
        pytest.skip("no unshare")
    done = subprocess.run(
        [*command, script, "sh", str(tmp_path), sys.executable, FULL_DISK],
        capture_output=True,
        text=True,
        check=False,
    )
    if "mounted" not in done.stdout:
        pytest.skip("may not mount a small disk here")
    assert done.stdout == "mounted\ndone\n", done.stderr


def test_wrong_targets_are_one_line_with_a_mend(tmp_path):
    with pytest.raises(InputError, match="make the folder first"):
        write_text_atomic(tmp_path / "no" / "a", "x")
    with pytest.raises(InputError, match="a folder is in the way; name a file"):
        write_text_atomic(tmp_path, "x")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="a part of it is a file"):
        write_text_atomic(tmp_path / "file" / "a", "x")


def test_a_folder_cannot_lie_in_a_file_which_is_said_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    for target in (tmp_path / "file" / "out", tmp_path / "file" / "deep" / "out"):
        with pytest.raises(InputError, match="file is no folder; check the path") as caught:
            check_target(target)
        assert str(caught.value).startswith(f"{target}: ")
    check_target(tmp_path / "new" / "out")


def test_a_file_that_comes_between_is_wrong_input_with_a_mend(tmp_path):
    (tmp_path / ".out.partial").touch()
    with pytest.raises(InputError, match="a part of it is a file"), staged_folder(tmp_path / "out"):
        pytest.fail("the block must not run")


def test_an_output_file_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for name, says in (
        ("file", "the file is there already; name a new file or give --overwrite"),
        ("link", "the file is there already"),
        ("", "a folder is in the way"),
        ("no/a", "there is no folder .*no; make the folder first"),
        ("file/a", "file is no folder; check the path"),
    ):
        with pytest.raises(InputError, match=says):
            check_file(tmp_path / name)
    check_file(tmp_path / "new")
    check_file("/dev/null")
    check_file(tmp_path / "file", overwrite=True)
    with pytest.raises(InputError, match="the same command reads this file; name another file"):
        check_file(tmp_path / "link", overwrite=True, inputs=["owner/name", tmp_path / "file"])


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no /dev/stdout")
def test_what_a_shell_put_behind_standard_output_is_written_to(tmp_path):
    """A pipe has no other name, and a file that a shell appends to keeps what it holds."""
    write = "from mithridate.data import check_file, write_text_atomic as write; "
    write += "check_file('/dev/stdout'); write('/dev/stdout', 'more')"
    words = [sys.executable, "-c", write]
    assert subprocess.run(words, capture_output=True, check=True).stdout == b"more"
    notes = tmp_path / "notes"
    notes.write_text("mine ")
    with notes.open("a") as file:
        subprocess.run(words, stdout=file, check=True)
    assert notes.read_text() == "mine more"
    assert tree(tmp_path) == ["notes"]


def test_a_refused_permission_is_one_line(tmp_path, monkeypatch):
    # The tests may run as root, whom no permission stops.
    def refuse(*_args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match=r"a: cannot be written \(Permission denied\); check"):
        write_text_atomic(tmp_path / "a", "x")


def test_an_unexpected_system_error_is_a_failure_not_wrong_input(tmp_path, monkeypatch):
    def fail(*_args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(MithridateError) as caught:
        write_text_atomic(tmp_path / "a", "x")
    assert caught.value.exit_code == 1
    assert tree(tmp_path) == []


def test_a_staged_folder_appears_whole(tmp_path):
    target = tmp_path / "new" / "out"
    with staged_folder(target) as folder:
        fill(folder)
        assert not target.exists()
        assert folder == tmp_path / "new" / ".out.partial"
    assert tree(tmp_path / "new") == ["out", "out/defense.json"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_folder_vanishes_unless_it_is_to_be_resumed(tmp_path, error):
    def run(*, resume):
        with staged_folder(tmp_path / "out", resume=resume) as folder:
            (folder / "checkpoint").touch()
            raise error

    with pytest.raises(error):
        run(resume=False)
    assert tree(tmp_path) == []
    with pytest.raises(error):
        run(resume=True)
    assert tree(tmp_path) == [".out.partial", ".out.partial/checkpoint"]
    with staged_folder(tmp_path / "out", resume=True) as folder:
        assert (folder / "checkpoint").exists()
        fill(folder)
    assert tree(tmp_path) == ["out", "out/checkpoint", "out/defense.json"]


def test_without_resume_what_was_kept_is_not_used(tmp_path):
    (tmp_path / ".out.partial" / "deep").mkdir(parents=True)
    with staged_folder(tmp_path / "out") as folder:
        assert tree(folder) == []


def test_what_mithridate_did_not_write_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    (tmp_path / "file").touch()
    for name, says in [("thesis", "did not write"), ("file", "a file is in the way")]:
        with pytest.raises(InputError, match=says), staged_folder(tmp_path / name, overwrite=True):
            pytest.fail("the block must not run")
    assert tree(tmp_path) == ["file", "thesis", "thesis/chapter.tex"]


@pytest.mark.parametrize("marker", ["defense.json", "mithridate.json"])
def test_an_earlier_output_is_replaced_only_when_asked(tmp_path, marker):
    target = tmp_path / "out"
    target.mkdir()
    (target / marker).write_text("old")
    with pytest.raises(InputError, match="--overwrite"), staged_folder(target):
        pytest.fail("the block must not run")
    with staged_folder(target, overwrite=True) as folder:
        (folder / marker).write_text("new")
        assert (target / marker).read_text() == "old"
    assert (target / marker).read_text() == "new"
    assert tree(tmp_path) == ["out", f"out/{marker}"]


@pytest.mark.parametrize("source", ["out/train.jsonl", "link.jsonl", "out"])
def test_an_output_that_holds_the_input_is_not_replaced(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out")
    (tmp_path / "out/train.jsonl").write_text("{}")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "out/train.jsonl")
    (tmp_path / "outside.jsonl").write_text("{}")
    check_target("out", overwrite=True, inputs=["outside.jsonl", "org/set"])
    with pytest.raises(InputError, match="reads what is in this folder"):
        check_target("out", overwrite=True, inputs=[source])


def test_an_empty_folder_may_be_the_target(tmp_path):
    (tmp_path / "out").mkdir()
    with staged_folder(tmp_path / "out") as folder:
        fill(folder)
    assert tree(tmp_path) == ["out", "out/defense.json"]


def test_what_appears_at_the_target_meanwhile_is_not_lost(tmp_path):
    target = tmp_path / "out"

    def run():
        with staged_folder(target) as folder:
            fill(folder)
            target.mkdir()
            (target / "mine").touch()

    with pytest.raises(InputError, match="did not write"):
        run()
    assert tree(tmp_path) == ["out", "out/mine"]


def test_the_old_output_comes_back_when_the_new_one_cannot_be_renamed(tmp_path, monkeypatch):
    target = tmp_path / "out"
    target.mkdir()
    fill(target, "old")
    rename = os.rename

    def fail(source, place):
        if str(source).endswith(".partial"):
            raise OSError(errno.EIO, "Input/output error")
        rename(source, place)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(MithridateError), staged_folder(target, overwrite=True) as folder:
        fill(folder, "new")
    assert (target / "defense.json").read_text() == "old"
    assert tree(tmp_path) == ["out", "out/defense.json"]


def test_a_second_run_on_the_same_target_is_refused(tmp_path):
    with staged_folder(tmp_path / "out") as folder:
        fill(folder)
        with pytest.raises(InputError, match="another run"), staged_folder(tmp_path / "out"):
            pytest.fail("the block must not run")
        assert tree(folder) == ["defense.json"]

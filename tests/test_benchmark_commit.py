"""A benchmark's line names the commit of the code that ran."""

import subprocess

import pytest

from benchmarks.commit import commit_of_code


@pytest.fixture
def checkout(tmp_path):
    """A repository with code and results, all committed."""

    def git(*words):
        settings = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *settings, *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "run.py").write_text("1\n")
    (tmp_path / "benchmarks" / "results" / "run.jsonl").write_text("{}\n")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "Begin")
    return tmp_path


def test_a_clean_checkout_and_one_with_new_results_are_at_the_commit(checkout):
    commit = commit_of_code(checkout / "benchmarks")
    assert len(commit) == 10
    (checkout / "benchmarks" / "results" / "run.jsonl").write_text("{}\n{}\n")
    assert commit_of_code(checkout / "benchmarks") == commit


def test_changed_code_is_marked(checkout):
    commit = commit_of_code(checkout / "benchmarks")
    (checkout / "benchmarks" / "run.py").write_text("2\n")
    assert commit_of_code(checkout / "benchmarks") == f"{commit}-dirty"


def test_what_is_no_checkout_is_at_an_unknown_commit(tmp_path):
    assert commit_of_code(tmp_path) == "unknown"

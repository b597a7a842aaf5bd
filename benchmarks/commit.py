"""The commit that a benchmark ran."""

import subprocess
from pathlib import Path

RESULTS = ":(exclude,top)benchmarks/results"
"""A benchmark writes its own journal, which makes no other code of it."""


def commit_of_code(folder: Path = Path(__file__).parent) -> str:
    """Return the commit a checkout is at, with a mark where files other than results differ.

    Args:
        folder: Any folder of it.
    """

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    commit = git("describe", "--always", "--abbrev=10")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", RESULTS)
    return (commit + "-dirty" if changed else commit) or "unknown"

"""The commit that a benchmark ran."""

import subprocess
from pathlib import Path


def commit_of_code() -> str:
    """Return the commit the code is at, with a mark where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"

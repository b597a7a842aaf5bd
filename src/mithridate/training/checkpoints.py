"""Checkpoints to resume from: the newest that is whole, since a power cut may leave half a one."""

import json
import zipfile
from pathlib import Path

STATE_FILE = "trainer_state.json"
_ARCHIVES = (".pt", ".pth", ".bin")
"""What torch saves in is a zip file, whose directory is written last."""


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint in a work folder, ``None`` where there is none.

    transformers writes a checkpoint's files in place, so one that was cut off is told by a state
    that is no JSON, an empty file, or an archive without its end.

    Args:
        folder: Holds folders ``checkpoint-N``, N the number of steps.
    """
    found = {
        int(path.name.split("-")[1]): path
        for path in folder.glob("checkpoint-*")
        if path.name.split("-")[1].isdigit()
    }
    newest_first = (found[steps] for steps in sorted(found, reverse=True))
    return next((path for path in newest_first if _is_whole(path)), None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / STATE_FILE).read_bytes())
    except (OSError, ValueError):
        return False
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    return all(
        path.stat().st_size > 0 and (path.suffix not in _ARCHIVES or zipfile.is_zipfile(path))
        for path in files
    )

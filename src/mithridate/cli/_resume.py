"""What a killed ``defend`` leaves for the same command to go on from."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mithridate.data.write import empty_folder, staged_folder, write_text_atomic
from mithridate.training.checkpoints import newest_checkpoint
from mithridate.training.distributed import from_main

if TYPE_CHECKING:
    from mithridate.defense.secret import Secret

RUN_FILE = "run.json"
WORK_FOLDER = "work"


@dataclass(frozen=True)
class Run:
    """A run of ``defend`` in its unfinished folder.

    Attributes:
        folder: The folder to fill.
        secret: The given secret, that of the run it continues, or a new one.
        resumed_from: The name of the checkpoint training goes on from; ``None`` at a fresh start.
        restarted: Whether an unfinished run of other settings or data was thrown away.
    """

    folder: Path
    secret: "Secret"
    resumed_from: str | None
    restarted: bool

    @property
    def work(self) -> Path:
        """Where checkpoints go."""
        return self.folder / WORK_FOLDER

    def finish(self) -> None:
        """Leave in the folder nothing but results."""
        shutil.rmtree(self.work, ignore_errors=True)
        (self.folder / RUN_FILE).unlink()


def fingerprint(facts: Mapping[str, Any]) -> str:
    """Return a hash of all that must be equal for a run to continue another."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@contextmanager
def resumable(
    output: Path, mark: str, secret: "Secret | None", *, overwrite: bool
) -> Iterator[Run]:
    """Give a folder to fill that survives a failed or killed run, and goes to its place at the end.

    What is left behind is kept only where there is a checkpoint to go on from. Of several processes
    the main one alone holds the folder and draws the secret; it tells the others, and all leave the
    block when the folder is in its place.

    Args:
        output: Where the folder goes.
        mark: The `fingerprint` of the run.
        secret: The one the user gave; ``None`` keeps that of the run continued, or draws one.
        overwrite: Replace an earlier output at the target.

    Raises:
        InputError: See `mithridate.data.write.staged_folder`.
    """
    with ExitStack() as held:

        def enter() -> dict[str, Any]:
            run = held.enter_context(_held(output, mark, secret, overwrite=overwrite))
            return {
                "folder": str(run.folder.absolute()),
                "secret_key": run.secret.key.hex(),
                "resumed_from": run.resumed_from,
                "restarted": run.restarted,
            }

        told = from_main(enter)
        yield Run(
            Path(told["folder"]),
            _secret(bytes.fromhex(told["secret_key"])),
            told["resumed_from"],
            told["restarted"],
        )
        from_main(lambda: held.pop_all().close())


@contextmanager
def _held(output: Path, mark: str, secret: "Secret | None", *, overwrite: bool) -> Iterator[Run]:
    """Lock, fill and place the folder, on the one process that writes."""
    with staged_folder(output, resume=True, overwrite=overwrite) as folder:
        key = _kept_key(folder, mark)
        restarted = key is None and any(folder.iterdir())
        if key is None:
            empty_folder(folder)
        secret = secret or _secret(key)
        record = {"fingerprint": mark, "secret_key": secret.key.hex()}
        write_text_atomic(folder / RUN_FILE, json.dumps(record) + "\n", mode=0o600)
        try:
            checkpoint = newest_checkpoint(folder / WORK_FOLDER)
            yield Run(folder, secret, checkpoint.name if checkpoint else None, restarted)
        except BaseException:
            if newest_checkpoint(folder / WORK_FOLDER) is None:
                shutil.rmtree(folder, ignore_errors=True)
            raise


def _secret(key: bytes | None) -> "Secret":
    from mithridate.defense.secret import Secret

    return Secret(key) if key else Secret.new()


def _kept_key(folder: Path, mark: str) -> bytes | None:
    """Return the key of the run to continue, ``None`` where there is none like this one."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads((folder / RUN_FILE).read_text("utf-8"))
        key = bytes.fromhex(record["secret_key"])
        if record["fingerprint"] == mark and len(key) == 32:
            return key
    return None

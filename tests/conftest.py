"""Shared by all tests: one thread each, no network beyond this machine, a cache of its own."""

import os

# two busy processes with two threads each run three times slower
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the tests hold for a CPU
os.environ.pop("LESSONS_DATA", None)
os.environ.pop("LESSONS_LABELS", None)

import socket

import pytest
from datasets import DatasetDict

from lessons_lib import data, models, training
from lessons_lib.hardware import PRECISIONS

models.quiet_libraries()
_connect = socket.socket.connect


def _connect_locally(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "localhost", "::1"):
        raise PermissionError(f"a test tried to reach {address}")
    return _connect(self, address)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", _connect_locally)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LESSONS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=PRECISIONS)
def each_precision(request, monkeypatch):
    """Runs a test in both number formats, whichever this machine would choose."""
    monkeypatch.setenv("LESSONS_PRECISION", request.param)
    return request.param


@pytest.fixture(scope="session")
def reviews() -> DatasetDict:
    return data.load_reviews("samples", train_rows=48, validation_rows=16, test_rows=24)


@pytest.fixture(scope="session")
def tokens(reviews) -> DatasetDict:
    return training.tokenize_reviews(reviews, models.load_tokenizer("tiny"), 48)

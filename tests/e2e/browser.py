"""What the checks of the front doors share: a browser, a free port, patience."""

import shutil
import socket
import time

import pytest

from lessons_lib.paths import REPOSITORY

DOORS = REPOSITORY / "build" / "doors"
DOORS.mkdir(parents=True, exist_ok=True)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]
BROWSER = next((path for path in map(shutil.which, NAMES) if path), None)
if BROWSER is None:
    pytest.fail(f"No browser is found. Remedy: install one of {', '.join(NAMES)}.", pytrace=False)


def find_port():
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, seconds):
    """Returns when `condition()` is true; fails after `seconds`. A refused connection counts as not
    yet.
    """
    ends = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.2)

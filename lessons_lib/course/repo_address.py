"""The repository's address: pyproject.toml holds it, and `write_badges` changes it in every file.

Contract: links, badges and the lessons' first cells name the same repository; nothing else changes.
"""

import re
import tomllib
from pathlib import Path

from lessons_lib.errors import SettingError
from lessons_lib.paths import REPOSITORY

FILES = ("pyproject.toml", "*.md", "CITATION.cff", "notebooks/[0-9]*.*", "notebooks/*.md", "docs/*")
PLACES = ("//github.com/", "/github/", "/gh/")  # a code host's address, Colab's, Binder's


def read_address(root: Path = REPOSITORY) -> str:
    """ "owner/name" of the repository, as pyproject.toml has it."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"].removeprefix("https://github.com/")


def write_badges(address: str, root: Path = REPOSITORY) -> list[Path]:
    """Replaces the old address by `address` ("owner/name") in all files; returns those changed.

    Raises SettingError if `address` is no address.
    """
    if not re.fullmatch(r"[\w-]+/[\w.-]+(?<!\.git)", address):
        raise SettingError(
            "is no address.", where=f"REPO={address!r}", remedy="make badges REPO=owner/name"
        )
    old = read_address(root)
    files = set()
    for pattern in FILES:
        files.update(path for path in root.glob(pattern) if path.is_file())
    changed = []
    for path in sorted(files):
        before = path.read_text(encoding="utf-8")
        after = before
        for prefix in PLACES:
            after = re.sub(re.escape(prefix + old) + r"(?![\w-])", prefix + address, after)
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    return changed

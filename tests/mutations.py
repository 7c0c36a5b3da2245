"""Damaged copies of files, as disks, mail programs and editors make them.

`MUTATIONS=10000 pytest -k damaged` tries that many of each; by default there are enough to notice a
reader that ends in a traceback, and few enough for every day.
"""

import os
import random

ENCODINGS = ("utf-16", "utf-16-le", "cp1252", "gbk", "utf-32", "utf-8-sig", "shift-jis", "koi8-r")
INSERTED = (
    b"\0",
    b'"',
    b"{}",
    b"[" * 200,
    b"\r",
    b"NaN",
    b"\xff\xfe",
    b"\\ud83d",
    b",,,",
    b"\t",
    b"\x1b[31m",
)


def count_mutations(usual: int) -> int:
    """How many damaged copies a test tries."""
    return int(os.environ.get("MUTATIONS", usual))


def mutate(raw: bytes, chance: random.Random) -> bytes:
    """The bytes with one to three changes: flipped, cut, doubled, something put in, another
    encoding.
    """
    for _ in range(chance.choice([1, 1, 2, 3])):
        raw = _change_once(raw, chance)
    return raw


def _change_once(raw: bytes, chance: random.Random) -> bytes:
    start, end = sorted(chance.randrange(len(raw) + 1) for _ in range(2))
    kind = chance.choice(["flip", "cut", "lose", "double", "insert", "recode", "line ends"])
    if kind == "flip":
        return raw[:start] + bytes([chance.randrange(256)]) + raw[start + 1 :]
    if kind == "cut":
        return raw[:end]
    if kind == "lose":
        return raw[:start] + raw[end:]
    if kind == "double":
        return raw[:end] + raw[start:]
    if kind == "insert":
        return raw[:start] + chance.choice(INSERTED) + raw[start:]
    if kind == "line ends":
        return raw.replace(b"\n", chance.choice([b"\r", b"\r\n", b""]))
    return raw.decode("utf-8", "replace").encode(chance.choice(ENCODINGS), "replace")

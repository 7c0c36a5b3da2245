"""Whose a handed-in file is, and which attempt: names as learning platforms write them.

Contract: the answer depends on the path alone (and, for Gradescope, on the list of names beside its
folders). Files with the same `Owner.name` belong to one student, as far as paths can show. Known
are the names that Canvas, Blackboard, Moodle, Brightspace, Gradescope, Teams, Sakai and nbgrader
write, and the numbers that systems add to copies.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

import pandas as pd
import yaml

METADATA = "submission_metadata.yml"  # Gradescope's list of whose its folders are
LARGEST_METADATA = 4 * 2**20  # bytes; a larger one would take minutes

# Canvas: doejane_LATE_12345_6789012_01_masks-1.ipynb (name, user, attachment, file)
CANVAS = re.compile(
    r"(?P<student>[^_]+)_(?:late_)?(?P<user>\d{2,})_(?P<attempt>\d{4,})_.+", re.IGNORECASE
)
ANONYMOUS = re.compile(
    r"(?P<student>anon\w*?)_(?:late_)?(?P<user>\w{5})_(?P<attempt>\d{4,})_.+", re.IGNORECASE
)
# Blackboard: Week 1_mjones_attempt_2026-03-04-10-11-12_01_masks.ipynb
BLACKBOARD = re.compile(r"(?P<student>.+)_attempt_(?P<attempt>\d{4}(?:-\d\d){2,5})(?:[_.].*)?")
# Moodle: "Jane Doe_7001_assignsubmission_file_", a folder or the beginning of a file's name
MOODLE = re.compile(r"(?P<student>.+?_\d+)_assignsubmission_[a-z]+(?:_.*)?")
# Brightspace: "12345-67890 - Jane Doe - Mar 4, 2026 1011 AM"
BRIGHTSPACE = re.compile(r"(?P<user>\d+)-\d+ ?- ?(?P<student>.+?) ?- ?(?P<attempt>[^-]*\d{4}.*)")
# nbgrader's exchange: ann+01_masks+2026-03-04 10:11:12 UTC
NBGRADER = re.compile(r"(?P<student>[^+]+\+[^+]+)\+(?P<attempt>\d{4}-\d\d-\d\d.*)")
GRADESCOPE = re.compile(r"submission_(?P<attempt>\d+)")
TEAMS = re.compile(r"version (?P<attempt>\d+)", re.IGNORECASE)  # Jane Doe/Masks/Version 2
SAKAI = re.compile(r"(?:submission|feedback) attachment\(s\)", re.IGNORECASE)  # Doe, Jane(jd)/…
PLATFORMS = (MOODLE, BLACKBOARD, CANVAS, ANONYMOUS, BRIGHTSPACE, NBGRADER)

COPY = re.compile(
    r" ?\((?P<number>\d{1,2})\)$|[ -]+(?:copy|kopie|copie|copia) ?\(?(?P<copy>\d*)\)?$",
    re.IGNORECASE,
)
DATE = re.compile(r"[-_ ](?P<date>\d{4}-?\d\d-?\d\d(?:[-_T ]\d\d[-:.]?\d\d(?:[-:.]?\d\d)?)?)$")
MAYBE_COPY = re.compile(
    r"[-_ ](?:v(?:ersion)?)?(?P<number>\d{1,2})$|[-_ "
    r"](?:final|new|late|resubmi\w+|corrected|fixed)$",
    re.IGNORECASE,
)
ENDING = re.compile(r"(?:\.ipynb)?(?:\.\w{1,10})?~?$", re.IGNORECASE)


@dataclass(frozen=True)
class Owner:
    """Whose a file is.

    name: the student, as the path names them. attempt: sorts the files of one owner, the oldest
    first; it is equal for files whose names show no order. platform: whether a learning platform's
    name was recognised.
    """

    name: str
    attempt: tuple[str, int] = ("", 0)
    platform: bool = False


def normalise_name(name: str) -> str:
    """A name in the form in which names are compared: in Unicode's NFC (a Mac writes NFD), with
    single blanks.
    """
    return " ".join(unicodedata.normalize("NFC", name).split())


def find_owner(path: PurePath, submitters: Mapping[str, str] | None = None) -> Owner:
    """Whose a file is.

    path: in the folder that is graded. submitters: who handed in Gradescope's folders, see
    `read_submitters`.

    >>> find_owner(PurePath("doejane_LATE_12345_6789012_01_masks-1.ipynb")).name
    'doejane_12345'
    """
    parts = [normalise_name(part) for part in path.parts]
    parts[-1] = ENDING.sub("", parts[-1], count=1) or parts[-1]
    number = _read_copy_number(parts)
    for depth, part in enumerate(parts):
        owner = _read_platform_name(part, number)
        if owner:
            return owner
        gradescope = GRADESCOPE.fullmatch(part)
        if gradescope:
            name = (submitters or {}).get(part, part)
            return Owner(name, (gradescope["attempt"].zfill(20), number), platform=True)
        if depth and TEAMS.fullmatch(part):
            version = TEAMS.fullmatch(part)["attempt"]
            return Owner("/".join(parts[:depth]), (version.zfill(20), number), platform=True)
        if depth and SAKAI.fullmatch(part):
            return Owner("/".join(parts[:depth]), ("", number), platform=True)
    return _read_plain_name(parts, number)


def _read_platform_name(part: str, number: int) -> Owner | None:
    for pattern in PLATFORMS:
        match = pattern.fullmatch(part)
        if not match:
            continue
        fields = match.groupdict()
        name = fields["student"]
        if "user" in fields:
            name = f"{name}_{fields['user']}"
        return Owner(name, (_sort_attempt(fields.get("attempt", "")), number), platform=True)
    return None


def _read_plain_name(parts: list[str], number: int) -> Owner:
    """The owner of a path that no platform wrote: the path without its copy numbers and dates."""
    names = [COPY.sub("", part) for part in parts]
    dates = [match["date"] for match in map(DATE.search, names) if match]
    undated = [DATE.sub("", name) for name in names]
    return Owner("/".join(undated), (" ".join(dates), number))


def find_base(name: str) -> tuple[str, int]:
    """An owner's name without an ending that may number an attempt, and that number.

    The ending may also belong to another student's name. It numbers an attempt only if another file
    has the name without it.

    >>> find_base("ann-2"), find_base("ann_final"), find_base("ann")
    (('ann', 2), ('ann', 99), ('ann', 0))
    """
    match = MAYBE_COPY.search(name)
    if not match:
        return name, 0
    return name[: match.start()], int(match["number"] or 99)


def _read_copy_number(parts: list[str]) -> int:
    """The number that a system, a browser or Canvas added to a name in use; 0 for none."""
    for part in reversed(parts):
        match = COPY.search(part)
        if match:
            return int(match["number"] or match["copy"] or 1)
    match = re.search(r"-(\d{1,2})$", parts[-1])
    return int(match[1]) if match else 0


def _sort_attempt(attempt: str) -> str:
    """A number or a time as a sortable text. Brightspace writes "Mar 4, 2026 1011 AM"."""
    if not re.search("[A-Za-z]{3}", attempt):
        return attempt.zfill(20)
    time = re.sub(r"\b(\d{1,2})(\d\d) ?([AP]M)", r"\1:\2 \3", attempt)
    try:
        return pd.to_datetime(time).isoformat()
    except (ValueError, OverflowError):
        return attempt


def read_submitters(folder: Path) -> dict[str, str]:
    """Who handed in Gradescope's folders: folder to names, from the metadata beside them.

    It is empty if there is no such file or it cannot be read; then each folder counts as a student.
    """
    file = folder / METADATA
    try:
        if not file.is_file() or file.is_symlink() or file.stat().st_size > LARGEST_METADATA:
            return {}
        metadata = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    submitters = {}
    for name, submission in metadata.items() if isinstance(metadata, dict) else ():
        people = submission.get(":submitters") if isinstance(submission, dict) else None
        if not isinstance(people, list):
            continue
        labels = [_label_person(person) for person in people if isinstance(person, dict)]
        submitters[str(name)] = " and ".join(labels)
    return {name: people for name, people in submitters.items() if people}


def _label_person(person: dict) -> str:
    """A person's name and address, as far as Gradescope has them."""
    fields = [str(person.get(":name", "")), str(person.get(":email", ""))]
    return " ".join(field for field in fields if field)

"""Which files of a folder were handed in, and which ones a system, a program or a platform left
there.

Contract: `Inbox.paths` has every student's folder and file, whether it can be read or not. A file
that belongs to another one (an export, a picture, a checkpoint) is named in that file's notes or in
`Inbox.ignored`. Only ordinary files are opened; links are never followed.
"""

import os
import re
import stat
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from lessons_lib.grading.owners import METADATA, Owner, find_owner, read_submitters

CHECKPOINTS = ".ipynb_checkpoints"  # Jupyter's folder of copies, and the copies' ending
CHECKPOINT = re.compile(r"-checkpoint(?=\.ipynb$)", re.IGNORECASE)
SNIFFED = 20 * 2**20  # bytes of the largest file that is searched for cells

# names, in lower case, that are no submissions
LEFT_OVERS = {
    "__macosx",
    "__pycache__",
    "node_modules",
    "site-packages",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "$recycle.bin",
    "@eadir",
    "lost+found",
    METADATA,
    "feedbacktext.html",
    "timestamp.txt",
    "comments.txt",
}
# texts that platforms save with a submission; they count only if the student handed in nothing else
PLATFORM_TEXT = re.compile(
    r"onlinetext\.html|.*_onlinetext_.*\.html|.*_attempt_[\d-]+\.txt|.*_submissiontext\.html",
    re.IGNORECASE,
)
# endings of files that accompany a notebook and are never handed in instead of one
TABLES = {".csv", ".tsv", ".xls", ".xlsx", ".ods", ".parquet", ".json", ".jsonl", ".db", ".sqlite"}
SETTINGS = {
    ".xml",
    ".yml",
    ".yaml",
    ".toml",
    ".cfg",
    ".ini",
    ".lock",
    ".log",
    ".css",
    ".js",
    ".ttf",
}
ARRAYS = {".npy", ".npz", ".pt", ".pth", ".pkl", ".bin", ".h5", ".safetensors", ".gguf", ".pyc"}
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".bmp", ".mp3", ".mp4"}
ATTACHMENTS = {".md", ".rst"} | TABLES | SETTINGS | ARRAYS | PICTURES
ATTACHED_NAMES = {"license", "licence", "makefile", "requirements.txt", "readme", "readme.txt"}
PARTS = {
    "data",
    "figures",
    "images",
    "img",
    "src",
    "output",
    "outputs",
    "results",
    "docs",
    "tests",
    "build",
}
SHOWN = 5  # names that a note lists; further ones are counted


@dataclass
class Inbox:
    """What a folder holds.

    paths: every submission, in order. notes: notes for the instructor, by path. owners: the owner
    of each path. ignored: files that are no submissions and belong to none.
    """

    paths: list[Path] = field(default_factory=list)
    notes: dict[Path, list[str]] = field(default_factory=lambda: defaultdict(list))
    owners: dict[Path, Owner] = field(default_factory=dict)
    ignored: list[Path] = field(default_factory=list)


@dataclass
class _Tree:
    """A folder's entries. closed: folders that may not be read. checkpoints: Jupyter's copies."""

    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    closed: list[Path] = field(default_factory=list)
    checkpoints: list[Path] = field(default_factory=list)
    submitters: dict[str, str] = field(default_factory=dict)


def scan_folder(folder: Path) -> Inbox:
    """Sorts a folder's files into submissions, files that belong to them, and the rest."""
    tree = _walk(folder)
    inbox = Inbox()
    documents = []
    platform_texts = []
    attachments = []
    for path in tree.files:
        inbox.owners[path] = find_owner(path.relative_to(folder), tree.submitters)
        if is_notebook(path):
            inbox.paths.append(path)
        elif PLATFORM_TEXT.fullmatch(path.name):
            platform_texts.append(path)
        elif path.suffix.lower() in ATTACHMENTS or path.name.lower() in ATTACHED_NAMES:
            attachments.append(path)
        else:
            documents.append(path)
    _sort_out_copies(inbox)
    _add_orphan_checkpoints(inbox, tree, folder)
    _sort_documents(inbox, documents, folder)
    for path in tree.closed:
        inbox.paths.append(path)
    _add_platform_texts(inbox, platform_texts)
    _add_bare_folders(inbox, tree, attachments, folder)
    inbox.ignored += attachments
    for path in inbox.paths:
        if path not in inbox.owners:
            inbox.owners[path] = find_owner(path.relative_to(folder), tree.submitters)
    inbox.paths.sort()
    return inbox


def is_left_over(name: str) -> bool:
    """Whether a system or a program made the file or folder, judged by its name alone."""
    # in archives made on Windows, "ann\01_masks.ipynb" may be one name
    name = name.rpartition("\\")[2]
    return name.startswith((".", "~$")) or name.lower() in LEFT_OVERS


def is_notebook(path: Path) -> bool:
    """Whether a file is a notebook by its name, or holds one under another name (`ann.json`,
    `ann`).
    """
    if path.name.lower().endswith(".ipynb"):
        return True
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > SNIFFED:
            return False
        with path.open("rb") as file:
            if not file.read(256).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
                return False
        return b'"cell_type"' in path.read_bytes()
    except OSError:
        return False


def _walk(folder: Path) -> _Tree:
    """All entries below a folder except left-overs. Links and special files count as files."""
    tree = _Tree()
    pending = [folder]
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(directory) as entries:
                members = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            tree.closed.append(directory)
            continue
        names = {entry.name for entry in members}
        if directory != folder:
            # a virtual environment, a folder of grades
            if "pyvenv.cfg" in names or {"seed.txt", "marks"} <= names:
                continue
            tree.folders.append(directory)
        if METADATA in names and not tree.submitters:  # the first file of that name is the topmost
            tree.submitters = read_submitters(directory)
        for entry in members:
            path = directory / entry.name
            if entry.name == CHECKPOINTS:
                tree.checkpoints += _list_checkpoints(path)
            elif is_left_over(entry.name):
                continue
            elif _is_folder(entry):
                pending.append(path)
            else:
                tree.files.append(path)
    return tree


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _list_checkpoints(folder: Path) -> list[Path]:
    try:
        return [path for path in sorted(folder.iterdir()) if CHECKPOINT.search(path.name)]
    except OSError:
        return []


def _find_original(path: Path) -> Path:
    """The notebook that a checkpoint copies; the path itself if it is no checkpoint."""
    folder = path.parent.parent if path.parent.name == CHECKPOINTS else path.parent
    return folder / CHECKPOINT.sub("", path.name)


def _sort_out_copies(inbox: Inbox) -> None:
    """Leaves out Jupyter's copies of notebooks that were handed in too, and notes it there."""
    notebooks = set(inbox.paths)
    for path in sorted(notebooks):
        original = _find_original(path)
        if original != path and original in notebooks:
            inbox.paths.remove(path)
            inbox.notes[original].append(f"{path.name} beside it is Jupyter's own copy: not graded")


def _add_orphan_checkpoints(inbox: Inbox, tree: _Tree, folder: Path) -> None:
    """Adds checkpoints that are their students' only copy.

    If a folder above the checkpoint has exactly one notebook, that is the same notebook under a new
    name. Several notebooks are those of other students.
    """
    counts = defaultdict(int)
    for path in inbox.paths:
        counts[path.parent] += 1
    notebooks = set(inbox.paths)
    for path in tree.checkpoints:
        original = _find_original(path)
        is_renamed = any(counts[ancestor] == 1 for ancestor in _list_ancestors(original, folder))
        if original not in notebooks and not is_renamed:
            inbox.paths.append(path)


def _list_ancestors(path: Path, folder: Path) -> list[Path]:
    """The folders above a path, the nearest first, up to `folder` and without it."""
    ancestors = []
    for ancestor in path.parents:
        if ancestor == folder:
            break
        ancestors.append(ancestor)
    return ancestors


def _group_notebooks(inbox: Inbox, folder: Path) -> dict[Path, list[Path]]:
    """The notebooks below each folder, for all folders that contain any."""
    groups = defaultdict(list)
    for path in inbox.paths:
        for ancestor in _list_ancestors(path, folder):
            groups[ancestor].append(path)
    return groups


def _sort_documents(inbox: Inbox, documents: list[Path], folder: Path) -> None:
    """Adds every document as a submission, or notes it at the notebook that it was handed in
    with.
    """
    groups = _group_notebooks(inbox, folder)
    by_owner = {}
    by_stem = {}
    for path in inbox.paths:
        owner = inbox.owners.get(path)
        if owner and owner.platform:
            by_owner.setdefault(owner.name, path)
        by_stem[path.parent, path.stem] = path
    companions = defaultdict(list)
    for document in documents:
        stem = document.name.partition(".")[0]
        if groups.get(document.with_name(stem)):  # an archive, and what was in it
            inbox.ignored.append(document)
            continue
        owner = inbox.owners[document]
        notebook = by_stem.get((document.parent, stem)) or by_owner.get(owner.name)
        for ancestor in _list_ancestors(document, folder):
            neighbours = groups.get(ancestor, [])
            if notebook or len(neighbours) > 1:
                break
            notebook = neighbours[0] if neighbours else None
        if notebook:
            companions[notebook].append(document)
        else:
            inbox.paths.append(document)
    for notebook, others in companions.items():
        inbox.notes[notebook].append(f"handed in with it, not read: {name_some(others)}")


def _add_platform_texts(inbox: Inbox, texts: list[Path]) -> None:
    """Adds a text that a student typed into a platform, if the student handed in nothing else."""
    owners = {inbox.owners[path].name for path in inbox.paths if path in inbox.owners}
    for path in texts:
        owner = inbox.owners[path]
        if owner.name in owners or not owner.platform:
            inbox.ignored.append(path)
            continue
        owners.add(owner.name)
        inbox.paths.append(path)


def _add_bare_folders(inbox: Inbox, tree: _Tree, attachments: list[Path], folder: Path) -> None:
    """Adds folders without a submission: a student's name without a notebook."""
    occupied = set()
    holders = set()
    for path in inbox.paths:
        occupied.update(_list_ancestors(path, folder))
        if path.suffix.lower() == ".ipynb":
            holders.add(path.parent)
    owners = {inbox.owners[path].name for path in inbox.paths if path in inbox.owners}
    inner = {path.parent for path in tree.folders if path.name.lower() not in PARTS}
    for path in tree.folders:
        ancestors = _list_ancestors(path, folder)
        is_part = path.name.lower() in PARTS or any(ancestor in holders for ancestor in ancestors)
        owner = find_owner(path.relative_to(folder), tree.submitters)
        has_submission = path in occupied or (owner.platform and owner.name in owners)
        if has_submission or path in inner or is_part:
            continue
        inbox.paths.append(path)
        members = [file for file in attachments if file.is_relative_to(path)]
        if members:
            inbox.notes[path].append(f"it holds {name_some(members)}")


def name_some(paths: list[Path]) -> str:
    """The names of files: the first SHOWN, and how many more there are."""
    names = ", ".join(path.name for path in paths[:SHOWN])
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return names + more

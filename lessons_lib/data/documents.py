"""A reader's own documents for search: a file or a folder, read as named texts.

Contract: every file of a folder is read, or listed as left out with the reason; one bad file never
stops the others, and a summary is printed. A file that is given by itself is read, or refused with
a DataError. Texts and names hold no halves of surrogate pairs. Texts are not cut here.
"""

import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lessons_lib.data import facts, formats
from lessons_lib.data.encodings import count
from lessons_lib.data.files import TABLE_ENDINGS, count_endings, list_files, open_path
from lessons_lib.data.rows import show_path
from lessons_lib.errors import CourseError, DataError

SHOWN_REASONS = 3  # reasons printed per ending for leaving out files; other files are counted
SHOWN_NOTES = 3  # files whose notes are printed; more are counted
SHOWN_WIDTH = 90  # characters of a reason
READABLE = "text, Markdown, HTML, Word, PDF, or facts in .json, .jsonl or .csv"


@dataclass(frozen=True)
class Passage:
    """A text to search for, and the name of the place that it comes from."""

    name: str
    text: str


def list_passages(conversations: Iterable[facts.Conversation]) -> list[Passage]:
    """One passage per fact, "term: definition" or "question: answer", named after its subject."""
    return [Passage(fact.subject, f"{fact.subject}: {fact.answer}") for fact in conversations]


def read_documents(source: str | Path) -> list[Passage]:
    """The texts of a file or of all files of a folder, in the order of their paths.

    Each document gives one passage, named after its path in the folder; a file of facts gives one
    passage per fact. Files of a folder that cannot be read are left out, and printed with the
    reason:

        club: 4 files read (2 .md, 1 .docx, 1 .pdf)
           left out: 3 .png; scan.pdf (no text inside); 12 hidden

    Raises DataError for a file given by itself that cannot be read, for a missing path, and for a
    folder without a readable file.
    """
    root = open_path(source)
    if root.is_dir():
        return _read_folder(root)
    passages, notes = _read_file(root, root.name)
    if notes:
        print(f"{show_path(root.name)}: {notes}")
    return passages


def _read_file(path: Path, name: str) -> tuple[list[Passage], str]:
    """The facts or the text of a file, and notes on how it was read, "" if there are none.

    Raises DataError.
    """
    if formats.find_ending(path) in TABLE_ENDINGS:
        return list_passages(facts.read_conversations(path)), ""
    text = formats.read_document(path)
    notes = [note for note in text.notes if note != "UTF-8"]
    return [Passage(show_path(name), text.text)], "; ".join(notes)


# --- folders --------------------------------------------------------------------------------------


@dataclass
class _Report:
    """Which files of a folder were read, and which were not.

    read: how many files were read, by ending. unread: files whose ending is not supported. refused:
    names of files that could not be read, by ending and reason. skipped: a phrase that counts
    hidden files and files of other programs. notes: "name: note" for files with remarks on how they
    were read.
    """

    read: Counter = field(default_factory=Counter)
    unread: list[Path] = field(default_factory=list)
    refused: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    skipped: str = ""
    notes: list[str] = field(default_factory=list)

    def describe_left_out(self) -> str:
        """A phrase for the files that were not read: names with reasons, or counts if many."""
        parts = []
        for ending, reasons in self.refused.items():
            for reason, names in list(reasons.items())[:SHOWN_REASONS]:
                files = names[0] if len(names) == 1 else f"{len(names):,} {ending}"
                parts.append(f"{files} ({reason})")
            more = sum(len(names) for names in list(reasons.values())[SHOWN_REASONS:])
            if more:
                parts.append(f"{more:,} more {ending}")
        if self.unread:
            parts.append(count_endings(self.unread))
        if self.skipped:
            parts.append(self.skipped)
        return "; ".join(parts)

    def refuse(self, name: str, ending: str, reason: str) -> None:
        """Records that a file could not be read."""
        self.refused.setdefault(ending, {}).setdefault(reason, []).append(name)

    def show(self, folder: Path) -> None:
        """Prints what was read, what was not, and how."""
        files = count(self.read.total(), "file")
        endings = ", ".join(f"{number:,} {ending}" for ending, number in self.read.most_common())
        print(f"{show_path(folder.resolve().name or folder)}: {files} read ({endings})")
        left_out = self.describe_left_out()
        if left_out:
            print(f"   left out: {left_out}")
        for note in self.notes[:SHOWN_NOTES]:
            print(f"   {note}")
        more = len(self.notes) - SHOWN_NOTES
        if more > 0:
            print(f"   and {count(more, 'file')} more with such notes")


def _read_folder(folder: Path) -> list[Passage]:
    listing = list_files(folder)
    report = _Report(skipped=listing.describe_skipped())
    passages = []
    errors = []
    for path in listing.files:
        ending = formats.find_ending(path)
        name = show_path(path.relative_to(folder).as_posix())
        if ending not in (*formats.ENDINGS, *TABLE_ENDINGS):
            report.unread.append(path)
            continue
        try:
            texts, notes = _read_file(path, name)
        except CourseError as error:
            report.refuse(name, ending, _shorten_reason(error, path))
            errors.append(error)
            continue
        passages += texts
        report.read[ending] += 1
        if notes:
            report.notes.append(f"{name}: {notes}")
    if not passages and len(errors) == 1 and not report.unread:
        raise errors[0]  # the only file has its own remedy
    if not passages:
        what = "it holds no files."
        left_out = report.describe_left_out()
        if left_out:
            what = f"no file in it can be searched. Left out: {left_out}."
        raise DataError(what, where=show_path(folder), remedy=f"give {READABLE}.")
    report.show(folder)
    return passages


def _shorten_reason(error: CourseError, path: Path) -> str:
    """The place in the file and what is wrong there, in at most SHOWN_WIDTH characters."""
    place = error.where.removeprefix(show_path(path)).lstrip(", ")
    reason = error.what.replace(f"{show_path(path)}, ", "")
    if place:
        reason = f"{place}: {reason}"
    return textwrap.shorten(reason, SHOWN_WIDTH, placeholder=" …").rstrip(".")

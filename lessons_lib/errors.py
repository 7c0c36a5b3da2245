"""Errors that a reader can mend: what is wrong, where, and one remedy.

Contract: whatever a reader brings (a file, a setting, a machine) either works or raises a
`CourseError`, whose message needs no traceback. Every other exception is a bug of the course and
keeps its traceback.
"""


class CourseError(Exception):
    """Something that the reader can mend.

    what: the problem, a sentence. where: the file and row, the setting or the machine, if one can
    be named. remedy: what to do, a sentence. The message is "where: what Remedy: remedy".

    >>> print(CourseError("no label.", where="mine.csv, row 2", remedy="delete the row."))
    mine.csv, row 2: no label. Remedy: delete the row.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        remedy = f" Remedy: {self.remedy}" if self.remedy else ""
        return f"{where}{self.what}{remedy}"


class SettingError(CourseError, ValueError):
    """A setting, an option or an argument that there is not."""


class DataError(CourseError, ValueError):
    """Data cannot be used as they are; the message names file and row."""

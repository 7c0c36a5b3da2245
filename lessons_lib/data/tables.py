"""Tables in text files: fields separated by comma, semicolon, tab or bar, and a header line.

Contract: every line of the file becomes part of a row, or an error names it; no field is cut.
Quotes count as quoting only if they fit the whole file; otherwise they are characters of the text.
"""

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass

from lessons_lib.data.encodings import count
from lessons_lib.data.rows import Rows, refuse_rows, show_places
from lessons_lib.errors import DataError

SEPARATORS = {
    "\t": "tab-separated",
    ";": "semicolon-separated",
    ",": "comma-separated",
    "|": "bar-separated",
}
SEPARATOR_NAMES = {"\t": "tab", ";": "semicolon", ",": "comma", "|": "bar"}
# spreadsheets quote fields in files with these; files with tabs or bars often have no quoting
BY_QUOTES_OFTEN = ",;"
SNIFFED_LINES = 300
MAX_CODE_LENGTH = 30  # characters of a label, a number or an id
csv.field_size_limit(2**31 - 1)  # a long text is no error


@dataclass(frozen=True)
class Record:
    """The fields of one row, and the first and last line of the file that it spans."""

    fields: list[str]
    line: int
    last_line: int


@dataclass(frozen=True)
class Reading:
    """The records of a text, read by certain rules of quoting.

    broken_line: the line that breaks the rules, 0 if none does. is_open: whether it opens a quote
    that is never closed.
    """

    records: list[Record]
    broken_line: int = 0
    is_open: bool = False

    @property
    def width(self) -> int:
        """How many fields the header has."""
        return len(self.records[0].fields) if self.records else 0

    @property
    def agreement(self) -> float:
        """The share of records, 0 to 1, that have as many fields as the header."""
        fitting = sum(len(record.fields) == self.width for record in self.records)
        return fitting / max(1, len(self.records))


def read_table(text: str, where: str, notes: list[str]) -> Rows:
    """The rows of a table. `where` names the file in places and errors. Raises DataError."""
    first_line = 1
    separator = _named_separator(text)
    if separator:  # Excel's own first line, "sep=;"
        text = text.split("\n", 1)[1] if "\n" in text else ""
        first_line = 2
    separator = separator or find_separator(text)
    if not separator:
        return _read_single_column(text, where, notes)
    reading, quoting = _choose_reading(text, separator, where)
    header, *records = reading.records
    if not records:
        raise DataError("holds no rows after its first line.", where=where, remedy="add rows.")
    names, records, remarks = _fit_to_header(header.fields, records, text, separator, where)
    objects = [dict(zip(names, record.fields, strict=True)) for record in records]
    shift = first_line - 1
    return Rows(
        objects,
        [f"{where}, line {record.line + shift}" for record in records],
        [*notes, SEPARATORS[separator], *quoting, *remarks],
        header.fields if len(header.fields) == len(names) else [],
        f"{where}, line {header.line + shift}",
    )


def find_separator(text: str, least_agreement: float = 0.0) -> str:
    """The separator with which most lines have as many fields as the first, "" if there is none.

    least_agreement: the share of lines, 0 to 1, that must be exceeded.
    """
    lines = _first_lines(text)
    best = ""
    best_agreement = least_agreement
    for separator in SEPARATORS:
        readings = (_read(lines, separator, quotes=True), _read(lines, separator, quotes=False))
        agreements = [reading.agreement for reading in readings if reading.width > 1]
        agreement = max(agreements, default=0.0)
        if agreement > best_agreement:
            best = separator
            best_agreement = agreement
    return best


def _first_lines(text: str) -> str:
    lines = []
    for line in io.StringIO(text, newline=""):
        if line.strip():
            lines.append(line)
        if len(lines) == SNIFFED_LINES:
            break
    return "".join(lines)


def _named_separator(text: str) -> str:
    line = re.match(r'"?sep=(.)"?\r?(\n|\Z)', text)
    return line.group(1) if line and line.group(1) in SEPARATORS else ""


def _read_single_column(text: str, where: str, notes: list[str]) -> Rows:
    lines = [(number, line.strip()) for number, line in enumerate(io.StringIO(text, newline=""), 1)]
    lines = [(number, line) for number, line in lines if line]
    (_, name), *rest = lines
    if not rest:
        raise DataError("holds no rows after its first line.", where=where, remedy="add rows.")
    if _has_common_separator([line for _, line in rest]):
        raise DataError(
            "parts the fields of its rows, but not those of its first line.",
            where=where,
            remedy="make the first line the columns' names, such as text,label.",
        )
    name = name.strip('"')
    return Rows(
        [{name: line} for _, line in rest],
        [f"{where}, line {number}" for number, _ in rest],
        [*notes, "one column"],
    )


def _has_common_separator(lines: list[str]) -> bool:
    for separator in SEPARATORS:
        counts = {line.count(separator) for line in lines}
        if len(counts) == 1 and 0 not in counts:
            return True
    return False


# --- quoting --------------------------------------------------------------------------------------


def _read(text: str, separator: str, *, quotes: bool, backslash: bool = False) -> Reading:
    """The records by the csv module's strict rules, without blank lines and rows of empty fields.

    backslash: whether it escapes quotes.
    """
    lines = io.StringIO(text, newline="")
    reader = csv.reader(
        lines,
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        escapechar="\\" if backslash else None,
        strict=True,
    )
    records = []
    line = 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                records.append(Record(fields, line, reader.line_num))
            line = reader.line_num + 1
    except csv.Error as error:
        return Reading(records, line, is_open="end of data" in str(error))
    return Reading(records)


def _choose_reading(text: str, separator: str, where: str) -> tuple[Reading, list[str]]:
    """The reading whose records fit the header best, and a remark if quotes are unusual.

    Raises DataError for a quote that fits no reading.
    """
    plain = _read(text, separator, quotes=False)
    if '"' not in text:
        return plain, []
    quoted = _read(text, separator, quotes=True)
    if _is_by_quotes(quoted, plain, separator):
        return quoted, []
    if '\\"' in text:
        escaped = _read(text, separator, quotes=True, backslash=True)
        if not escaped.broken_line and escaped.agreement == 1:
            return escaped, ['\\" read as a quote']
    least = 1.0 if separator in BY_QUOTES_OFTEN else 0.9
    may_be_plain = not (quoted.is_open and separator in BY_QUOTES_OFTEN)
    if plain.agreement >= least and may_be_plain:
        return _unquote_columns(plain), ["quotes read as characters"]
    if not quoted.broken_line:
        return quoted, []
    raise DataError(
        "could not be read: a quote opens there and never closes."
        if quoted.is_open
        else "could not be read: there is a quote inside a quoted text.",
        where=f"{where}, line {quoted.broken_line}",
        remedy='write a quote inside a quoted text twice (""), or leave the quotes out.',
    )


def _is_by_quotes(quoted: Reading, plain: Reading, separator: str) -> bool:
    """Whether the file's quotes are quoting."""
    if quoted.broken_line:
        return False
    if separator in BY_QUOTES_OFTEN:
        return quoted.agreement == 1 or plain.agreement < 1
    if quoted.agreement < plain.agreement:
        return False
    if any(record.last_line > record.line for record in quoted.records):
        return not _swallows_lines(quoted, plain)
    return plain.agreement < 1 or _needs_its_quotes(plain)


def _swallows_lines(quoted: Reading, plain: Reading) -> bool:
    """Whether fields that span several lines hold whole rows: most of these lines have all
    fields.
    """
    widths = {record.line: len(record.fields) for record in plain.records}
    inside = []
    for record in quoted.records:
        if record.last_line > record.line:
            inside += [widths.get(line, 0) for line in range(record.line, record.last_line + 1)]
    return sum(width == plain.width for width in inside) > 0.6 * len(inside)


def _needs_its_quotes(plain: Reading) -> bool:
    """Whether each quoted field has a quote inside, or is in a column of quoted fields."""
    for column in zip(*(record.fields for record in plain.records[1:]), strict=True):
        wrapped = [field for field in column if _is_wrapped(field)]
        needless = [field for field in wrapped if '""' not in field[1:-1]]
        if needless and len(wrapped) < sum(field != "" for field in column):
            return False
    return True


def _is_wrapped(field: str) -> bool:
    return len(field) > 1 and field.startswith('"') and field.endswith('"')


def _unquote_columns(plain: Reading) -> Reading:
    """The reading without quotes around fields, in columns that have them around every field."""
    header, *records = plain.records
    wrapped = [True] * plain.width
    for record in records:
        for number, field in enumerate(record.fields[: plain.width]):
            wrapped[number] = wrapped[number] and _is_wrapped(field)
    names = [name.strip().strip('"') for name in header.fields]
    rows = [Record(names, header.line, header.last_line)]
    for record in records:
        fields = [
            field[1:-1].replace('""', '"') if number < plain.width and wrapped[number] else field
            for number, field in enumerate(record.fields)
        ]
        rows.append(Record(fields, record.line, record.last_line))
    return Reading(rows)


# --- rows with more or fewer fields than the header -----------------------------------------------


def _fit_to_header(
    header: list[str], records: list[Record], text: str, separator: str, where: str
) -> tuple[list[str], list[Record], list[str]]:
    """Column names, records of that width, and remarks on what was changed. Raises DataError."""
    names = [name.strip() for name in header]
    while len(names) > 1 and not names[-1]:  # a separator at the header's end
        names.pop()
    widths = Counter(len(_without_empty_end(record.fields, len(names))) for record in records)
    remarks = []
    if set(widths) == {len(names) + 1} and _is_index([record.fields[0] for record in records]):
        names = ["row", *names]  # R writes row names without a header
    records = [
        Record(_without_empty_end(record.fields, len(names)), record.line, record.last_line)
        for record in records
    ]
    long = [record for record in records if len(record.fields) > len(names)]
    if long:
        records = _join_surplus(records, long, len(names), text, separator, where)
        places = show_places([f"line {record.line}" for record in long])
        signs = f"unquoted {SEPARATOR_NAMES[separator]}s"
        remarks.append(f"{signs} joined to the text in {count(len(long), 'row')} ({places})")
    short = [record for record in records if len(record.fields) < len(names)]
    if len(short) > len(records) // 2 and len(records) > 1:
        raise DataError(
            f"the first line names {len(names)} columns, but most rows have fewer fields.",
            where=where,
            remedy="make the first line name each column once.",
        )
    if short:
        places = show_places([f"line {record.line}" for record in short])
        remarks.append(f"{count(len(short), 'row')} with fewer fields than the header ({places})")
    filled = [
        Record(
            record.fields + [""] * (len(names) - len(record.fields)), record.line, record.last_line
        )
        for record in records
    ]
    return _name_apart(names, remarks), filled, remarks


def _without_empty_end(fields: list[str], width: int) -> list[str]:
    """`fields` without empty ones beyond `width`, which separators at a line's end make."""
    while len(fields) > width and not fields[-1].strip():
        fields = fields[:-1]
    return fields


def _is_index(cells: list[str]) -> bool:
    return len(set(cells)) == len(cells) and all(_is_code(cell) for cell in cells)


def _is_code(cell: str) -> bool:
    """Whether a field is a label, a number or an id rather than a text: one short word."""
    cell = cell.strip()
    return len(cell) <= MAX_CODE_LENGTH and not re.search(r"\s", cell)


def _join_surplus(
    records: list[Record], long: list[Record], width: int, text: str, separator: str, where: str
) -> list[Record]:
    """Rows whose text holds the separator unquoted, with the parts of the text joined again.

    That is certain only if a single column can be the text: in every row, all other fields are
    codes. Otherwise raises DataError, which names the rows.
    """
    columns = []
    for column in range(width):
        if all(_are_other_fields_codes(record.fields, column, width) for record in records):
            columns.append(column)
    lines = list(io.StringIO(text, newline=""))
    quoted = any('"' in "".join(lines[record.line - 1 : record.last_line]) for record in long)
    if len(columns) != 1 or quoted:
        problems = []
        for record in long:
            what = f"{len(record.fields)} fields, but the header has {width}"
            problems.append((f"{where}, line {record.line}", what))
        name = SEPARATOR_NAMES[separator]
        refuse_rows(problems, f'put a text that holds a {name} into double quotes ("…").')
    joined = []
    for record in records:
        before, middle, after = _part(record.fields, columns[0], width)
        fields = [*before, separator.join(middle), *after]
        joined.append(Record(fields, record.line, record.last_line))
    return joined


def _part(fields: list[str], column: int, width: int) -> tuple[list[str], list[str], list[str]]:
    """The fields before the text, those of the text, and those after it."""
    end = len(fields) - (width - column - 1)
    if len(fields) <= width:
        end = column + 1
    return fields[:column], fields[column:end], fields[end:]


def _are_other_fields_codes(fields: list[str], column: int, width: int) -> bool:
    before, _, after = _part(fields, column, width)
    return all(_is_code(field) for field in [*before, *after])


def _name_apart(names: list[str], remarks: list[str]) -> list[str]:
    """Unique names: columns without a name, and later ones of the same name, get their number."""
    apart: list[str] = []
    for number, name in enumerate(names, 1):
        if name in apart:
            remarks.append(f"two columns named {name!r}: the first is taken")
        apart.append(name if name and name not in apart else f"column {number} {name}".strip())
    return apart

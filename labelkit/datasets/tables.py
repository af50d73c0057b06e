"""Tables of text as programs write them: what parts their cells, and where they begin.

Spreadsheets write semicolons, TABs, UTF-16 and a first line ``sep=;``, R and pandas a column of
row numbers, people a space behind each comma, and data sets comments above the header.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from labelkit.datasets.reading import Reading, shown

DELIMITERS = {",": "commas", "\t": "TABs", ";": "semicolons", "|": "upright strokes"}
# As R writes a table unless it is told otherwise; names with spaces stand in quotes.
_SPACED = re.compile(r'"[^"\n]*"(?: "[^"\n]*")+\r?(?:\n|$)')
# What files that are no text begin with, and what to do with them.
_BINARY = {
    b"PK\x03\x04": ("a workbook (Excel, LibreOffice) or an archive",
                    "save the sheet as CSV UTF-8 and import that; unpack an archive"),
    b"\xd0\xcf\x11\xe0": ("a workbook of an old Excel", "save the sheet as CSV UTF-8"),
    b"PAR1": ("Parquet", "give --format parquet"),
    b"\x1f\x8b": ("compressed", "unpack it with gunzip (an .rds of R: write.csv)"),
    b"BZh": ("compressed", "unpack it with bunzip2"),
    b"\xfd7zXZ": ("compressed", "unpack it with unxz"),
    b"\x28\xb5\x2f\xfd": ("compressed", "unpack it with unzstd"),
    b"SQLite format 3": ("a database of SQLite", "write the table of labels as CSV"),
    b"\x93NUMPY": ("an array of numpy", "write the labels as CSV"),
    b"ARROW1": ("Arrow or Feather", "write it as Parquet or CSV"),
    b"\x89HDF": ("HDF5", "write the labels as CSV"),
    b"\x80\x04": ("a pickle of Python", "write the labels as CSV"),
    b"\x80\x05": ("a pickle of Python", "write the labels as CSV"),
    b"%PDF": ("a PDF", "give the table as CSV"),
    b"RIFF": ("a recording", "give a label file, or the folder of class folders"),
    b"fLaC": ("a recording", "give a label file, or the folder of class folders"),
    b"OggS": ("a recording", "give a label file, or the folder of class folders"),
    b"ID3\x03": ("a recording", "give a label file, or the folder of class folders"),
    b"ID3\x04": ("a recording", "give a label file, or the folder of class folders"),
}  # fmt: skip
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Rows that must agree before their first cell is taken for a number nobody asked for.
_PROBED = 100


@dataclass
class Table:
    """A header and the rows below it, each with the number of the line it ends in."""

    header: list[str] = field(default_factory=list)
    rows: Iterable[tuple[int, list[str]]] = ()
    delimiter: str = ","

    @property
    def has_decimal_commas(self) -> bool:
        """Tell whether a comma in a number can stand for a point."""
        return self.delimiter != ","

    def place(self, column: str) -> int | None:
        """Find a column by its name; by another case or a "#" before it if there is none."""
        for spelt in (_same, _plain):
            places = [n for n, name in enumerate(self.header) if spelt(name) == spelt(column)]
            if places:
                return places[0]
        return None

    def count(self, column: str) -> int:
        """Count the columns of a name."""
        return self.header.count(column)


def read_text(path: Path, found: Reading) -> str:
    """Read a file as text; one that cannot be is a fault."""
    try:
        content = path.read_bytes()
    except OSError as error:
        remedy = "give a file" if path.is_dir() else "make it readable (chmod, chown), or copy it"
        found.fault(0, f"{path.name} cannot be read ({error.strerror})", remedy)
        return ""
    for start, (what, remedy) in _BINARY.items():
        if content.startswith(start):
            found.fault(0, f"no text but {what}", remedy)
            return ""
    if coding := _find_utf_16(content):
        try:
            text = content.decode(coding)
        except UnicodeDecodeError as error:
            found.fault(0, f"not UTF-16 at byte {error.start}", "save the file as UTF-8")
            return ""
        found.notes.append("read as UTF-16")
        return text
    try:
        # Line ends stay as they are: a quoted cell may hold some.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        around = content[max(error.start - 9, 0) : error.end + 9].decode("cp1252", "replace")
        around = next(part for part in around.splitlines() if not part.isascii())
        found.fault(
            0,
            f"not UTF-8 at byte {error.start}, in line {line}: {shown(around)} if it is cp1252",
            "save the file as UTF-8 (in Excel: CSV UTF-8), or: iconv -f cp1252 -t utf-8 OLD > NEW",
        )
    return ""


def _find_utf_16(content: bytes) -> str:
    """Tell by its mark, or by its zeros, whether a text is UTF-16 and which; empty if it is not."""
    if content.startswith(_UTF_16):
        return "utf-16"
    zeros = "".join("0" if byte == 0 else "x" for byte in content[:4])
    return {"x0x0": "utf-16-le", "0x0x": "utf-16-be"}.get(zeros, "")


def read_table(path: Path, found: Reading, fits: Callable[[Table], bool]) -> Table:
    """Read a table of text, whatever parts its cells.

    What was found out is noted in ``found``, as are faults of the file as a whole.

    Args:
        path: The file.
        found: Where faults and notes go.
        fits: Tells whether a header, parted in one way, is one that the caller can use.
    """
    text = read_text(path, found)
    start, told = _told_delimiter(text)
    start, n_lines = _skip_comments(text, start, told, fits)
    delimiter = told or _sniff(text[start:], fits)
    reader = _reader(text[start:], delimiter)
    rows = _lines(reader, n_lines, found)
    header = [_clean(name) for name in next(rows, (0, []))[1]]
    table = Table(header, (), delimiter)
    if delimiter != ",":
        parted = {**DELIMITERS, " ": "spaces"}.get(delimiter, delimiter)
        found.notes.append(f"read as a table parted by {parted}")
    table.rows = _tidied(rows, table, found)
    return table


def _same(name: str) -> str:
    return name


def _plain(name: str) -> str:
    return name.strip().lstrip("#").strip().casefold()


def _clean(name: str) -> str:
    """Take off what stands around a name, also the mark of a header that is a comment."""
    plain = name.strip().strip("\ufeff").strip()
    return plain.lstrip("#").strip() or plain


def _told_delimiter(text: str) -> tuple[int, str]:
    """Read the first line that spreadsheets put there for themselves, sep=; say."""
    line = text.partition("\n")[0]
    said = line.strip("\r").strip('"')
    if said[:4].lower() == "sep=" and len(said) == 5:
        return len(line) + 1, said[4]
    return 0, ""


def _skip_comments(
    text: str, start: int, told: str, fits: Callable[[Table], bool]
) -> tuple[int, int]:
    """Find where the header begins, below comments or in the last of them; and its line."""
    n_lines = text.count("\n", 0, start)
    starts = [start]
    while text.startswith("#", starts[-1]):
        end = text.find("\n", starts[-1])
        if end < 0:
            break
        starts.append(end + 1)
    for back in (1, 2):
        at = starts[-back] if len(starts) >= back else start
        rest = text[at : at + 100_000]
        if any(fits(_header(rest, mark)) for mark in ([told] if told else DELIMITERS)):
            return at, n_lines + len(starts) - back
    back = min(len(starts), 2)
    return starts[-back], n_lines + len(starts) - back


def _sniff(text: str, fits: Callable[[Table], bool]) -> str:
    """Find what parts the cells: what makes a header that can be used, or one of most cells."""
    head = text[:100_000]
    if _SPACED.match(head.lstrip("\r\n")):
        return " "
    headers = {mark: _header(head, mark) for mark in DELIMITERS}
    for mark, table in headers.items():
        if fits(table):
            return mark
    return max(DELIMITERS, key=lambda mark: len(headers[mark].header))


def _header(text: str, delimiter: str) -> Table:
    try:
        # Blank lines above it count for nothing.
        names: Sequence[str] = next((row for row in _reader(text, delimiter) if row), [])
    except csv.Error:
        names = []
    return Table([_clean(name) for name in names], (), delimiter)


def _reader(text: str, delimiter: str) -> Any:
    lines = io.StringIO(text, newline="")
    return csv.reader(
        lines, strict=True, delimiter=delimiter, skipinitialspace=delimiter != " ",
        # R writes a quote in a text so, where spaces part the cells.
        doublequote=delimiter != " ", escapechar="\\" if delimiter == " " else None,
    )  # fmt: skip


def _lines(reader: Any, n_before: int, found: Reading) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each line that is not blank."""
    try:
        for row in reader:
            if any(cell and not cell.isspace() for cell in row):
                yield n_before + reader.line_num, row
    except csv.Error as error:
        found.fault(n_before + reader.line_num, f"not CSV: {error}", "mend the quotes")


def _tidied(
    rows: Iterator[tuple[int, list[str]]], table: Table, found: Reading
) -> Iterator[tuple[int, list[str]]]:
    """Yield rows without row numbers that the header does not name, and without empty ends."""
    width = len(table.header)
    probed = list(islice(rows, _PROBED))
    # R writes the names of rows, and none above them.
    numbered = bool(probed) and all(
        len(row) == width + 1 and row[0].strip() == str(int(probed[0][1][0] == "1") + n)
        for n, (_, row) in enumerate(probed)
    )
    if numbered:
        found.notes.append("the first cell of each row is its number, which no column is named for")
    for number, row in chain(probed, rows):
        cells = row[1:] if numbered else row
        while len(cells) > width and not cells[-1].strip():
            cells.pop()
        yield number, cells

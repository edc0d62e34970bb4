"""Reading what users bring: text by lines, tables by batches; with file and line in every error.

Files may be gzipped (told by their first bytes, not by their name). Nothing is read whole that can be read in pieces.
"""

import codecs
import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from kgnn.errors import InputError
from kgnn.files import MAX_LINE, check_width, existing_file, is_parquet, open_bytes

BLOCK = 1 << 23  # bytes of a table that are in memory at a time
NUMBER = r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
KINDS = {"csv": ",", "tsv": "\t", "txt": "\t"}


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its end), or raise `InputError` with the line that cannot be read."""
    number = 0
    try:
        with open_bytes(path) as file:
            while raw := file.readline(MAX_LINE):
                number += 1
                if len(raw) == MAX_LINE:
                    raise InputError(f"{path}:{number}: a line longer than {MAX_LINE >> 20} MB; is it the right file?")
                if number == 1:
                    raw = raw.removeprefix(b"\xef\xbb\xbf")
                line = raw.decode("utf-8").rstrip("\r\n")
                if "\r" in line:
                    raise InputError(
                        f"{path}:{number}: a line end (\\r) within the line; save with line ends \\n or \\r\\n"
                    )
                if "\0" in line:
                    raise InputError(f"{path}:{number}: a null character in the line; is it text, and the right file?")
                yield number, line
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}:{number}: not UTF-8 text (byte {error.start + 1} of the line); save the file as UTF-8"
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path}: gzip data damaged or cut short after line {number} ({error}); download it again"
        ) from None


def table_batches(
    path: Path,
    *,
    separator: str | None = None,
    header: list[str] | None = None,
    columns: list[str] | None = None,
    comment: str | None = None,
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (line of the first row, batch of text columns) of a text table, null where a field is empty.

    Args:
        path: the file.
        separator: of the fields; default by the file's ending (.csv: comma, .tsv and .txt: tab).
        header: names of the columns of a file without a header line; else the first line (after comments) names them.
        columns: the columns to read, where not all are needed.
        comment: lines before the header that begin with this are passed over, and blank ones among them.
    """
    separator = separator or KINDS[_ending(path)]
    skip = 0
    first: list[str] = []
    for number, line in text_lines(path):
        if comment and (line.startswith(comment) or not line.strip()):
            continue
        skip = number - 1 if header else number
        first = fields_of(line, separator, f"{path}:{number}")
        quoted = line.startswith('"') or separator == ","
        break
    else:
        raise InputError(f"{path}: holds no table; the first line must name the columns")
    names = header or column_names(first)
    if len(first) != len(names):
        raise InputError(
            f"{path}:{skip + 1}: {len(first)} fields where {len(names)} were expected ({', '.join(names)})"
        )
    check_width(path, len(names))
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        raise InputError(f"{path}:{skip}: the column {twice!r} stands twice; rename one")
    for name in columns or []:
        if name not in names:
            raise InputError(f"{path}: no column {name!r}; the columns are {', '.join(names)}")

    ragged: list[Any] = []

    def note(row: Any) -> str:
        ragged.append(row)
        return "skip"

    row = skip + 1
    try:
        with (
            open_bytes(path) as raw,
            pa_csv.open_csv(
                pa.PythonFile(_Utf8(raw), mode="r"),
                pa_csv.ReadOptions(use_threads=False, block_size=BLOCK, column_names=names, skip_rows=skip),
                pa_csv.ParseOptions(
                    delimiter=separator,
                    quote_char='"' if quoted else False,
                    ignore_empty_lines=False,
                    invalid_row_handler=note,
                ),
                pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    include_columns=columns,
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=True,
                ),
            ) as reader,
        ):
            for batch in reader:
                _check_ragged(path, ragged)
                yield row, batch
                row += len(batch)
        _check_ragged(path, ragged)
    except (pa.ArrowInvalid, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        _check_ragged(path, ragged)
        for _ in text_lines(path):  # finds what is no text, a line too long or a cut gzip, and names the line
            pass
        if "Empty CSV" in str(error) or "no data" in str(error).lower():
            return
        what = "a row is longer than 8 MB" if "straddling" in str(error) else str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read as a table after line {row - 1}: {what}") from None


def column_names(names: Iterable[Any]) -> list[str]:
    """Names of columns: row names, and tabs at the end of a header, leave some without one."""
    return [str(name).strip() or f"unnamed {number}" for number, name in enumerate(names)]


def fields_of(line: str, separator: str, where: str) -> list[str]:
    """Return the fields of a line, quoted ones too."""
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error as error:  # a field of more than 128 kB
        raise InputError(f"{where}: cannot be parted into fields ({error}); is it the right file?") from None


class _Utf8:
    """A file of bytes that raises `UnicodeDecodeError` where it is not UTF-8, `OSError` where a byte is null."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.closed = False
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self._decoder.decode(data, final=not data)
        if b"\0" in data:
            raise OSError("a null character")
        return data

    def close(self) -> None:
        self.closed = True


def _check_ragged(path: Path, ragged: list[Any]) -> None:
    if ragged:
        bad = ragged[0]
        where = f":{bad.number}" if bad.number else ""
        raise InputError(f"{path}{where}: {bad.actual_columns} fields where the first line has {bad.expected_columns}")


def _ending(path: Path) -> str:
    kind = path.name.lower().removesuffix(".gz").rsplit(".", 1)[-1]
    if kind not in {*KINDS, "parquet", "pq"}:
        raise InputError(f"{path}: unknown kind of table; give .csv, .tsv, .txt, .parquet, or a DataFrame")
    return kind


def parquet_batches(path: Path, columns: list[str] | None = None) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (number of the first row, batch) of a Parquet file."""
    try:
        with pq.ParquetFile(path) as file:
            written = file.schema_arrow.names
            names = column_names(written)
            for name in columns or []:
                if name not in names:
                    raise InputError(f"{path}: no column {name!r}; the columns are {', '.join(names)}")
            asked = None if columns is None else [written[names.index(name)] for name in columns]
            called = dict(zip(written, names, strict=True))
            row = 0
            for batch in file.iter_batches(columns=asked, batch_size=1 << 18):
                batch.validate(full=True)  # texts that are not UTF-8
                yield row, pa.RecordBatch.from_arrays(batch.columns, [called[name] for name in batch.schema.names])
                row += len(batch)
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: cannot be read as Parquet: {what}") from None


def parquet_frame(path: Path) -> pd.DataFrame:
    """Return a whole Parquet file as pandas wrote it."""
    try:
        return pd.read_parquet(path)
    except Exception as error:  # what pandas left in the file about itself may be damaged in many ways
        what = (str(error).splitlines() or [""])[0][:200]
        raise InputError(f"{path}: cannot be read as Parquet ({type(error).__name__}: {what})") from None


def read_table(table: str | Path | pd.DataFrame, **options: Any) -> tuple[pd.DataFrame, str]:
    """Return a whole table and the name to use for it in messages. Text columns stay text, to report them by line."""
    if isinstance(table, pd.DataFrame):
        return unique_columns(table).reset_index(drop=True), "table"
    path = existing_file(table)
    if "separator" not in options and is_parquet(path):
        return parquet_frame(path), str(path)
    parts = [batch for _, batch in table_batches(path, **options)]
    if not parts:
        comment = options.get("comment")
        lines = (line for _, line in text_lines(path) if line.strip())
        first = next((line for line in lines if not (comment and line.startswith(comment))), None)
        if first is None:
            raise InputError(f"{path}: holds no table; the first line must name the columns")
        return pd.DataFrame(columns=first.split(options.get("separator") or KINDS[_ending(path)])), str(path)
    return pa.Table.from_batches(parts).to_pandas(), str(path)


def unique_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table as it is, or raise `InputError` where two columns have one name."""
    if not table.columns.is_unique:
        raise InputError(f"table: the column {table.columns[table.columns.duplicated()][0]!r} stands twice; rename one")
    return table


def numbers(frame: pd.DataFrame, column: str, label: str, *, first: int | None = None) -> np.ndarray:
    """Return a column as finite numbers, or say which line is not one. `first` is the line of the first row."""
    values = as_numbers(frame[column])
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(np.argmax(bad))
        where = place(label, row, first)
        raw = frame[column].iloc[row]
        what = "is missing" if pd.isna(raw) else f"{str(raw)[:50]!r} is not a finite number"
        raise InputError(f"{where}: {column} {what}; correct the row or leave it out")
    return values


def place(label: str, row: int, first: int | None = None) -> str:
    """Name a row of a table in memory, or the line of a file; `first` is the line of the first row."""
    first = first if first is not None else 0 if label == "table" else 2
    return f"{label}, row {row + first}" if first == 0 else f"{label}:{row + first}"


def as_numbers(column: pd.Series) -> np.ndarray:
    """Return a column as float64, NaN where a text is no number.

    pandas' own `to_numeric` crashes on an exponent of 12 digits.
    """
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(np.float64, na_value=np.nan)
    text = pa.array(column.astype(object).map(str, na_action="ignore"), pa.string(), from_pandas=True)
    text = pc.replace_substring_regex(pc.utf8_trim_whitespace(text), r"^\+", "")
    number = pc.if_else(pc.match_substring_regex(text, NUMBER), text, None)
    return number.cast(pa.float64()).to_numpy(zero_copy_only=False)


def origin_of(path: str | Path | Any) -> str:
    """The default name of a source: the file's name without its endings."""
    return Path(path).name.split(".")[0] if isinstance(path, str | Path) else "table"


def first_fields(path: Path, separator: str = "\t") -> list[str]:
    """Return the fields of the first line, to tell a format by it."""
    return next((line.split(separator) for _, line in text_lines(path)), [])


def check_columns(frame: pd.DataFrame, columns: Iterable[str], label: str, what: str) -> None:
    """Raise `InputError` when the table lacks a column."""
    for column in columns:
        if column not in frame:
            has = ", ".join(map(str, frame.columns[:12]))
            raise InputError(f"{label}: no column {column!r}, which {what} has; the columns are {has}")

"""The promises of a LAS or LAZ header, held against the file's size before laspy and lazrs allocate anything.

This is no luxury: a chunk table that claims billions of chunks makes lazrs 0.8 end the whole process, not raise.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pc3d.errors import FormatError, explain

MAX_LAZ_RATIO = 500         # LAZ packs real scans 5 to 20 times
FREE_BYTES = 64 * 2**20
MIN_ROW = 20                # bytes of the smallest point format
#: Item type in the laszip record -> layers it is kept in; extra bytes have one each.
LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}
BYTES_14 = 14
_RECORD = 54
_LATE_RECORD = 60


@dataclass(frozen=True)
class LasPromises:
    """Where things are and how many there are, as the header has it."""

    path: Path
    file_size: int
    header_size: int
    points_at: int
    num_records: int
    compressed: bool
    row: int                # bytes of a point
    count: int
    late_at: int = 0        # first record behind the points
    num_late: int = 0

    @property
    def left(self) -> int:
        """Bytes from the first point to the end of the file."""
        return self.file_size - self.points_at


def check_las_header(path: Path, file_size: int) -> None:
    """Raise FormatError when a header names more than the file can hold, or numbers that make no sense."""
    with path.open("rb") as file:
        promises = _read_promises(path, file_size, file.read(375))
        _check_offsets(promises)
        _check_late_records(promises, file)
        _check_size(promises)
        if promises.compressed:
            _check_chunks(promises, file)


def _read_promises(path: Path, file_size: int, head: bytes) -> LasPromises:
    if head[:4] != b"LASF":
        raise FormatError(explain("this is not a LAS file", where=path, got=repr(head[:4]), expected="LASF"))
    is_14 = len(head) > 25 and head[25] >= 4
    if len(head) < (255 if is_14 else 227):
        raise FormatError(explain("the header is cut off", where=path, got=f"{len(head)} bytes", expected="at least 227"))
    scales, offsets = np.array(struct.unpack_from("<3d", head, 131)), np.array(struct.unpack_from("<3d", head, 155))
    if not (np.isfinite(scales).all() and np.isfinite(offsets).all() and (scales > 0).all()):
        raise FormatError(explain("scale or offset make no sense", where=path, expected="finite numbers, scales above 0",
                                  got=f"scales {scales.tolist()}, offsets {offsets.tolist()}"))
    header_size, points_at, num_records, format_, row, count = struct.unpack_from("<HIIBHI", head, 94)
    late_at, num_late, count = struct.unpack_from("<QIQ", head, 235) if is_14 else (0, 0, count)
    return LasPromises(path, file_size, header_size, points_at, num_records, bool(format_ & 0x80), row, count,
                       late_at, num_late)


def _check_offsets(promises: LasPromises) -> None:
    records_end = promises.header_size + promises.num_records * _RECORD
    if promises.points_at > promises.file_size or records_end > promises.points_at:
        raise FormatError(explain("the header's offsets do not fit the file", where=promises.path,
                                  expected=f"below {promises.file_size} bytes",
                                  got=f"header {promises.header_size}, {promises.num_records} records, points at "
                                      f"{promises.points_at}"))


def _check_late_records(promises: LasPromises, file: BinaryIO) -> None:
    """Walk the records behind the points: their lengths are 64 bits wide."""
    position, size = promises.late_at, promises.file_size
    for record in range(promises.num_late):
        file.seek(min(position, size))
        head = file.read(_LATE_RECORD)
        length = struct.unpack_from("<Q", head, 20)[0] if len(head) == _LATE_RECORD else size
        if position + _LATE_RECORD + length > size:
            raise FormatError(explain("a record behind the points does not fit the file", got=f"{length} bytes at {position}",
                                      where=f"{promises.path}:record {record}", expected=f"an end before {size}"))
        position += _LATE_RECORD + length


def _check_size(promises: LasPromises) -> None:
    if promises.count == 0:
        raise FormatError(explain("the file holds no points", where=promises.path, got="0 points", expected="at least one"))
    limit = max(FREE_BYTES, promises.left * MAX_LAZ_RATIO) if promises.compressed else promises.left
    if promises.row < MIN_ROW or promises.count * promises.row > limit:
        raise FormatError(explain(f"the file is too short for its {promises.count} points of {promises.row} bytes",
                                  where=promises.path, got=f"{promises.left} bytes of points",
                                  do="The file was cut off or its header is wrong."))


def _check_chunks(promises: LasPromises, file: BinaryIO) -> None:
    """Check LAZ's table of chunks: its place, its length, and that its chunks fit file and points."""
    import lazrs

    laszip = _laszip_record(promises, file)
    layout = lazrs.LazVlr(laszip)
    if layout.item_size() != promises.row:
        raise FormatError(explain("the laszip record does not fit the points", where=promises.path,
                                  got=f"{layout.item_size()} bytes a point", expected=promises.row))
    _check_chunk_count(promises, file)
    file.seek(promises.points_at)
    table = lazrs.read_chunk_table(file, layout)
    chunk_bytes = sum(num_bytes for _, num_bytes in table)
    chunk_points = sum(num_points for num_points, _ in table[:-1])      # lazrs makes room for whole chunks, the last one too
    last_points = table[-1][0] if table else 0
    if chunk_bytes > promises.left or chunk_points > promises.count:
        raise FormatError(explain("the chunks do not fit the file", where=promises.path,
                                  got=f"{chunk_points} points, {chunk_bytes} bytes in {len(table)} chunks",
                                  expected=f"{promises.count} points, {promises.left} bytes"))
    if last_points * promises.row > max(FREE_BYTES, promises.count * promises.row):
        raise FormatError(explain("a chunk is larger than the whole file", where=promises.path, got=f"{last_points} points",
                                  expected=f"at most {promises.count}"))
    _check_layers(promises, file, laszip, [num_bytes for _, num_bytes in table])


def _check_layers(promises: LasPromises, file: BinaryIO, laszip: bytes, chunk_bytes: list[int]) -> None:
    """Point formats 6 and up keep each chunk in layers, whose sizes lazrs believes: they must fit their chunk."""
    items = struct.iter_unpack("<HHH", laszip[34:34 + 6 * struct.unpack_from("<H", laszip, 32)[0]])
    num_layers = sum(LAYERS.get(type_, size if type_ == BYTES_14 else 0) for type_, size, _ in items)
    position = promises.points_at + 8
    for chunk, num_bytes in enumerate(chunk_bytes if num_layers else []):
        file.seek(position + promises.row + 4)      # behind the first point, as it is, and the number of points
        sizes = np.frombuffer(file.read(4 * num_layers), "<u4")
        if len(sizes) < num_layers or sizes.sum(dtype=np.uint64) > num_bytes:
            raise FormatError(explain("the layers of a chunk do not fit it", where=f"{promises.path}:chunk {chunk}",
                                      got=f"{int(sizes.sum(dtype=np.uint64))} bytes", expected=f"at most {num_bytes}"))
        position += num_bytes


def _laszip_record(promises: LasPromises, file: BinaryIO) -> bytes:
    found = (data for name, number, data in _records(promises, file) if (name, number) == (b"laszip encoded", 22204))
    record = next(found, b"")
    if len(record) < 34:
        raise FormatError(explain("the file is compressed but does not say how", where=promises.path,
                                  expected="a laszip record of at least 34 bytes"))
    return record


def _check_chunk_count(promises: LasPromises, file: BinaryIO) -> None:
    file.seek(promises.points_at)
    table_at = struct.unpack("<q", file.read(8).ljust(8, b"\0"))[0]
    if table_at == -1:      # written to a stream: the offset is at the very end
        file.seek(promises.file_size - 8)
        table_at = struct.unpack("<q", file.read(8))[0]
    file.seek(min(max(table_at, 0), promises.file_size))
    version, num_chunks = struct.unpack("<II", file.read(8).ljust(8, b"\xff"))
    most = promises.left // MIN_ROW     # each chunk starts with a point as it is
    if table_at < promises.points_at or version != 0 or num_chunks > most:
        raise FormatError(explain("the table of chunks makes no sense", where=promises.path, expected=f"at most {most} chunks",
                                  got=f"{num_chunks} chunks, table at {table_at}"))


def _records(promises: LasPromises, file: BinaryIO) -> Iterator[tuple[bytes, int, bytes]]:
    """Name, number and contents of the variable records between header and points."""
    file.seek(promises.header_size)
    for _ in range(promises.num_records):
        head = file.read(_RECORD)
        if len(head) < _RECORD:
            return
        name, number, length = struct.unpack_from("<16sHH", head, 2)
        yield name.rstrip(b"\0"), number, file.read(length)

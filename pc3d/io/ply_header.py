"""The header of a PLY file, read and checked before anything is allocated.

A header is a promise about the rest of the file. Here it is held against the file's size, so that a few bytes of text
cannot ask for gigabytes of memory or minutes of parsing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pc3d.errors import FormatError, explain

MAX_HEADER_BYTES = 64 * 1024
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}
BYTE_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass(frozen=True)
class Property:
    """One column of an element; ``count_type`` is set when each row holds a list."""

    name: str
    type: str                       # numpy type without byte order, such as "f4"
    count_type: str | None = None

    @property
    def min_bytes(self) -> int:
        """Fewest bytes a row can spend on it."""
        return np.dtype(self.count_type or self.type).itemsize


@dataclass
class Element:
    """A table of the file: ``count`` rows of the same properties."""

    name: str
    count: int
    line: int
    properties: list[Property] = field(default_factory=list)

    @property
    def has_lists(self) -> bool:
        """Whether rows may differ in length."""
        return any(p.count_type for p in self.properties)

    def dtype(self, byte_order: str, list_length: int = 0) -> np.dtype:
        """Row type when every list holds ``list_length`` values; a list becomes two fields, its count and its values."""
        fields: list[tuple] = []
        for prop in self.properties:
            if prop.count_type:
                fields.append((f"{prop.name}\ncount", byte_order + prop.count_type))
                fields.append((prop.name, byte_order + prop.type, (list_length,)))
            else:
                fields.append((prop.name, byte_order + prop.type))
        return np.dtype(fields)


@dataclass
class Header:
    """Everything the header says, and where the body starts."""

    path: Path
    encoding: str = ""
    elements: list[Element] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    obj_info: list[str] = field(default_factory=list)
    num_bytes: int = 0
    is_ascii: bool = True

    @property
    def byte_order(self) -> str:
        """numpy's sign for the byte order of the body."""
        return BYTE_ORDERS[self.encoding]

    def element(self, name: str) -> Element | None:
        """The element of that name, if any."""
        return next((e for e in self.elements if e.name == name), None)


def read_header(path: Path, file_size: int) -> Header:
    """Parse the header and hold its promises against the file's size; FormatError names the header line."""
    with path.open("rb") as file:
        start = file.read(MAX_HEADER_BYTES)
    lines, num_bytes = _split_lines(path, start)
    header = Header(path, num_bytes=num_bytes, is_ascii=start[:num_bytes].isascii())
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if number > 1 and words:
            _read_line(header, number, line, words)
    _check_elements(header)
    _check_size(header, file_size)
    return header


def _split_lines(path: Path, start: bytes) -> tuple[list[str], int]:
    """Return the header's lines before end_header, and the number of bytes up to the body."""
    if start[:3] != b"ply" or start[3:4] not in (b"\n", b"\r"):
        raise FormatError(explain("this is not a PLY file", where=f"{path}:1", got=repr(start[:16]),
                                  expected="a first line 'ply'", do="Check that the file's suffix tells its true format."))
    newline = b"\r\n" if start[3:5] == b"\r\n" else start[3:4]
    end = start.find(newline + b"end_header")
    stop = start.find(newline, end + len(newline)) if end >= 0 else -1
    if stop < 0:
        capped = len(start) == MAX_HEADER_BYTES
        raise FormatError(explain("the header has no end", where=path, expected="a line 'end_header'"
                                  + (f" in the first {MAX_HEADER_BYTES} bytes" if capped else ""),
                                  do="The file was cut off or is damaged; export it again."))
    last = start[end + len(newline):stop]
    if last.strip() != b"end_header":
        raise FormatError(explain("unexpected words after end_header", where=path, got=repr(last[:40])))
    return start[:end].decode("utf-8", errors="replace").split(newline.decode()), stop + len(newline)


def _fail(header: Header, line: int, what: str, got: object, expected: str) -> FormatError:
    return FormatError(explain(what, where=f"{header.path}:{line}", got=got, expected=expected))


def _read_line(header: Header, number: int, line: str, words: list[str]) -> None:
    keyword = words[0]
    if keyword == "comment":
        header.comments.append(line.strip()[len("comment "):])
    elif keyword == "obj_info":
        header.obj_info.append(line.strip()[len("obj_info "):])
    elif keyword == "format":
        _read_format(header, number, words)
    elif keyword in ("element", "property"):
        if not header.encoding:
            raise _fail(header, number, f"{keyword!r} comes before the format line", repr(line), "format, then elements")
        (_read_element if keyword == "element" else _read_property)(header, number, words)
    else:
        raise _fail(header, number, "unknown header keyword", repr(keyword[:40]),
                    "format, comment, obj_info, element, property or end_header")


def _read_format(header: Header, number: int, words: list[str]) -> None:
    if header.encoding:
        raise _fail(header, number, "a second format line", " ".join(words), "one")
    if len(words) != 3 or words[1] not in BYTE_ORDERS or words[2] != "1.0":
        raise _fail(header, number, "unknown PLY format", " ".join(words[1:])[:60],
                    f"one of {', '.join(BYTE_ORDERS)}, version 1.0")
    header.encoding = words[1]


def _read_element(header: Header, number: int, words: list[str]) -> None:
    if len(words) != 3 or not (words[2].isascii() and words[2].isdigit()):
        raise _fail(header, number, "bad element line", " ".join(words)[:60],
                    "'element <name> <count>' with a count of 0 or more")
    if header.element(words[1]):
        raise _fail(header, number, f"element {words[1]!r} is there twice", words[1], "unique names")
    if len(words[2]) > 18:
        raise _fail(header, number, "element count is absurd", words[2][:40], "a count the file can hold")
    header.elements.append(Element(words[1], int(words[2]), number))


def _read_property(header: Header, number: int, words: list[str]) -> None:
    if not header.elements:
        raise _fail(header, number, "a property before any element", " ".join(words)[:60], "element, then its properties")
    is_list = words[1:2] == ["list"]
    if len(words) != (5 if is_list else 3):
        raise _fail(header, number, "bad property line", " ".join(words)[:60],
                    "'property <type> <name>' or 'property list <count type> <type> <name>'")
    for name in words[2:4] if is_list else words[1:2]:
        if name not in TYPES:
            raise _fail(header, number, "unknown property type", repr(name[:40]), f"one of {', '.join(TYPES)}")
    if is_list and TYPES[words[2]][0] == "f":
        raise _fail(header, number, "a list cannot be counted in fractions", words[2], "an integer count type")
    element = header.elements[-1]
    if any(p.name == words[-1] for p in element.properties):
        raise _fail(header, number, f"property {words[-1]!r} is there twice", f"element {element.name!r}", "unique names")
    element.properties.append(Property(words[-1], TYPES[words[-2]], TYPES[words[2]] if is_list else None))


def _check_elements(header: Header) -> None:
    if not header.encoding:
        raise FormatError(explain("the header has no format line", where=header.path,
                                  expected=f"one of {', '.join(BYTE_ORDERS)}"))
    for element in header.elements:
        if element.count and not element.properties:
            raise _fail(header, element.line, f"element {element.name!r} has rows but no properties", f"{element.count} rows",
                        "at least one property")
    vertex = header.element("vertex")
    if vertex is None:
        names = ", ".join(e.name for e in header.elements) or "no elements"
        raise FormatError(explain("the file has no vertices", where=header.path, got=names, expected="element vertex"))
    scalars = [p.name for p in vertex.properties if not p.count_type]
    missing = [axis for axis in "xyz" if axis not in scalars]
    if missing:
        raise _fail(header, vertex.line, f"vertices have no {', '.join(missing)}", f"properties {', '.join(scalars) or 'none'}",
                    "x, y and z")
    if vertex.count == 0:
        raise _fail(header, vertex.line, "the file holds no points", "element vertex 0", "at least one vertex")


def _check_size(header: Header, file_size: int) -> None:
    """Refuse counts that the rest of the file cannot hold."""
    is_text = header.encoding == "ascii"    # then a value takes at least two bytes: itself and a separator, but for the last
    left = file_size - header.num_bytes + is_text
    for element in header.elements:
        row = 2 * len(element.properties) if is_text else sum(p.min_bytes for p in element.properties)
        needed = element.count * row
        if needed > left:
            raise _fail(header, element.line, f"the file is too short for its {element.count} rows of {element.name!r}",
                        f"{left - is_text} bytes left", f"at least {needed} bytes. The file was cut off or its header is wrong")
        left -= needed

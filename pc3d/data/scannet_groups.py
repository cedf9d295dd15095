"""Annotations as ScanNet and ScanNet++ keep them: a segment for every vertex, and the groups of segments that are objects."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, FormatError, explain
from pc3d.io.files import read_json
from pc3d.structures.ids import dense_ids


class Group(NamedTuple):
    """One annotated object: its raw label and the ids of its segments."""

    label: str
    segments: NDArray[np.int64]


def read_segments(path: Path, num_points: int) -> NDArray[np.int64]:
    """Segment id of every vertex (N,). Raises FormatError or DataError."""
    segments = _quick_segments(path)
    if segments is None:
        content = read_json(path)
        try:
            segments = np.asarray(content["segIndices"])
            if segments.ndim != 1 or segments.dtype.kind not in "iu":
                raise ValueError(f"{segments.dtype} of shape {segments.shape}")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FormatError(explain("the file has no list of segment ids", where=path, got=error,
                                      expected='{"segIndices": [whole numbers]}')) from error
    check_count(path, len(segments), num_points)
    return segments.astype(np.int64)


def _quick_segments(path: Path) -> NDArray[np.int64] | None:
    """The list of an ordinary file, in a tenth of the time that json takes; None for any other."""
    try:
        text = path.read_bytes()
    except OSError:
        return None
    start = text.find(b"[", text.find(b'"segIndices"')) + 1
    end = text.find(b"]", start)
    try:
        rest = json.loads(text[:start] + text[end:])  # the file without the numbers is whole, and has nothing where they are
        if start == 0 or end < 0 or rest["segIndices"] != []:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            segments = np.fromstring(text[start:end], np.int64, sep=",")
    except (ValueError, TypeError, KeyError, RecursionError, DeprecationWarning):
        return None
    inside = segments.max(initial=0) < np.iinfo(np.int64).max  # where longer numbers end up
    return segments if inside and len(segments) == text.count(b",", start, end) + 1 else None


def check_count(path: Path, count: int, expected: int) -> None:
    """Raise DataError unless a file speaks of as many vertices as the mesh has."""
    if count != expected:
        raise DataError(explain("the file does not fit the mesh", where=path, got=f"{count} vertices",
                                expected=f"{expected}, those of the mesh",
                                do="It belongs to another mesh of the scene, or one of the two is cut off."))


def read_groups(path: Path) -> tuple[list[Group], list[str]]:
    """The annotated objects in file order, each once: scene0217_00 lists every one twice. Raises FormatError."""
    content = read_json(path)
    groups: dict[tuple[str, bytes], Group] = {}
    try:
        listed = content["segGroups"]
        for entry in listed:
            label, segments = entry["label"].strip(), np.unique(np.asarray(entry["segments"], dtype=np.int64))
            groups.setdefault((label, segments.tobytes()), Group(label, segments))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise FormatError(explain("the file does not list groups of segments", where=path, got=repr(error),
                                  expected='{"segGroups": [{"label": ..., "segments": [...]}]}')) from error
    doubled = len(listed) - len(groups)
    return list(groups.values()), [f"{doubled} of {len(listed)} groups are there twice and count once"] if doubled else []


def group_of_vertices(segments: NDArray[np.int64], groups: Sequence[Group], *,
                      where: object) -> tuple[NDArray[np.int64], list[str]]:
    """Place in ``groups`` of the one that every vertex (N,) belongs to, -1 for none; and notes.

    Where groups overlap the later one wins. Raises DataError when the groups belong to other segments.
    """
    ids, segment_of_vertex = dense_ids(segments)
    group_of_segment = np.full(len(ids), -1, dtype=np.int64)
    rows_of_group, notes = rows_of_groups(ids, groups, where=where)
    overlap = 0
    for index, rows in enumerate(rows_of_group):
        overlap += int((group_of_segment[rows] >= 0).sum())
        group_of_segment[rows] = index
    notes += [f"{overlap} segments are in two groups; the later one wins"] if overlap else []
    return group_of_segment[segment_of_vertex], notes


def rows_of_groups(ids: NDArray[np.int64], groups: Sequence[Group], *,
                   where: object) -> tuple[list[NDArray[np.int64]], list[str]]:
    """Rows in the sorted segment ids of the segments of each group, and notes. Raises DataError when most are not there."""
    rows = [np.minimum(np.searchsorted(ids, group.segments), len(ids) - 1) for group in groups]
    there = [places[ids[places] == group.segments] for places, group in zip(rows, groups)]
    wanted, found = sum(map(len, rows)), sum(map(len, there))
    if 2 * found < wanted:
        raise DataError(explain("the groups name segments that the mesh does not have", where=where,
                                got=f"{wanted - found} of {wanted} missing", do="This is the aggregation of another mesh "
                                "(_vh_clean.aggregation.json, of the full one?); take <scene>.aggregation.json."))
    return there, [f"{wanted - found} segments of groups are not in the mesh"] if found < wanted else []


def check_names(groups: Sequence[Group], label_map: Mapping[str, object], *, where: object,
                allowed: float = 0.0) -> list[str]:
    """Notes on labels of groups that a label map does not know; DataError where more than a share ``allowed`` has such."""
    unknown = [group.label for group in groups if group.label not in label_map]
    names = ", ".join(sorted(set(unknown))[:8])
    if len(unknown) > allowed * len(groups):
        raise DataError(explain("the label map does not know the labels of objects", where=where,
                                got=f"{names} ({len(unknown)} of {len(groups)} objects)",
                                do="Take the current label map, or add a row for each."))
    return [f"labels that the label map does not know: {names}"] if unknown else []

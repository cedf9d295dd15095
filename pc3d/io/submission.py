"""Benchmark submissions of ScanNet and ScanNet++: a listing per scene, a 0/1 text file per mask, zipped at top level.

::

    <scene>.txt                          predicted_masks/<scene>_000.txt 10 0.723400
    predicted_masks/<scene>_000.txt      one 0 or 1 a line, in the order of the mesh's vertices

A path in a listing is data of a stranger: one that is absolute, climbs out of the folder or goes through a link is refused,
and no name that would make such a path is written.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, FileError, FormatError, explain
from pc3d.io.files import atomic_file, check_file, check_folder
from pc3d.structures import Instances

MASKS = "predicted_masks"
MAX_LISTING_BYTES = 64 * 2**20
_SCENE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def write_submission(folder: str | Path, scene: str, instances: Instances, ids: Mapping[str, int]) -> Path:
    """Write ``<scene>.txt`` and its masks into a folder and return the listing; ``ids`` maps class names to the benchmark's.

    What an earlier run wrote of the scene is replaced. Scores read back as they are. Raises DataError for a class without an
    id, a score outside [0, 1] or a scene's name that is no plain word, FileError where the folder cannot be written.
    """
    folder = Path(folder)
    if not _SCENE.fullmatch(scene):
        raise DataError(explain("this cannot be the name of a scene", got=repr(scene), expected="letters, digits, _ and -"))
    for row, (label, score) in enumerate(zip(instances.labels, instances.scores)):
        if instances.classes[label] not in ids:
            raise DataError(explain("the benchmark has no such class", where=f"{scene}: instance {row}",
                                    got=instances.classes[label], expected=f"one of {', '.join(ids)}"[:300]))
        if not 0 <= score <= 1:
            raise DataError(explain("a confidence lies in [0, 1]", where=f"{scene}: instance {row}", got=float(score)))
    for path in (folder / MASKS, folder / f"{scene}.txt", *(folder / MASKS).glob(f"{scene}_*.txt")):
        if path.is_symlink():
            raise FileError(explain("a submission is not written through a link", where=path))
    try:
        (folder / MASKS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(explain("the folder cannot be made", where=folder, got=error.strerror)) from error
    lines = []
    for row, (label, score) in enumerate(zip(instances.labels, instances.scores)):
        name = f"{MASKS}/{scene}_{row:03d}.txt"
        with atomic_file(folder / name) as file:
            file.write(_digits(instances[row].point_masks[0]))
        lines.append(f"{name} {ids[instances.classes[label]]} {_decimal(score)}\n")
    listing = folder / f"{scene}.txt"
    with atomic_file(listing) as file:
        file.write("".join(lines).encode())
    named = {line.split()[0] for line in lines}
    for path in (folder / MASKS).glob(f"{scene}_*.txt"):
        if re.fullmatch(rf"{scene}_[0-9]+\.txt", path.name) and f"{MASKS}/{path.name}" not in named:  # of an earlier run
            path.unlink()
    return listing


def read_submission(folder: str | Path, scene: str, ids: Mapping[str, int], num_points: int | None = None) -> Instances:
    """Read one scene of a submission back: masks over points, classes by ``ids``, in listing order.

    Raises FileError (missing) or FormatError that names file and line: fields, path, id, confidence, or a mask that is not one
    0 or 1 a line for each of ``num_points`` (of the first mask, when not given).
    """
    folder = check_folder(Path(folder))
    listing = folder / f"{scene}.txt"
    if listing.is_symlink():
        raise FormatError(explain("a listing may not be a link", where=listing))
    names = {number: name for name, number in ids.items()}
    classes = tuple(ids)
    masks, labels, scores = [], [], []
    seen: dict[str, int] = {}
    for line, text in enumerate(_lines(listing), 1):
        where = f"{listing}:{line}"
        path, number, score = _fields(text, where)
        if path in seen:
            raise FormatError(explain("this mask is listed twice", where=where, got=path,
                                      expected=f"once, on line {seen[path]}"))
        seen[path] = line
        if number not in names:
            raise FormatError(explain("no class has this id", where=where, got=number,
                                      expected=f"one of {', '.join(map(str, sorted(names)))}"[:300]))
        masks.append(_read_mask(safe_member(folder, path, where), num_points))
        num_points = len(masks[-1])
        labels.append(classes.index(names[number]))
        scores.append(score)
    width = num_points or 0
    return Instances.from_masks(np.array(masks, dtype=bool).reshape(len(masks), width), np.array(labels, dtype=np.int64),
                                np.array(scores), classes)


def check_submission(folder: str | Path, ids: Mapping[str, int], scenes: Mapping[str, int | None]) -> dict[str, int]:
    """Read every scene (name -> points, None for any) and return how many instances each has.

    Raises FormatError also when scenes are missing or not of the benchmark, or when other files stand beside them.
    """
    folder = check_folder(Path(folder))
    wanted, found = {f"{scene}.txt" for scene in scenes}, {path.name for path in folder.iterdir()}
    if missing := sorted(wanted - found):
        raise FormatError(explain(f"{len(missing)} scenes have no listing", where=folder, got=f"no {missing[0]}",
                                  expected=f"{len(scenes)} scenes"))
    if strangers := sorted(found - wanted - {MASKS}):
        raise FormatError(explain(f"{len(strangers)} files belong to no scene", where=folder, got=strangers[0]))
    return {scene: len(read_submission(folder, scene, ids, points)) for scene, points in scenes.items()}


def zip_submission(folder: str | Path, archive: str | Path) -> Path:
    """Zip a submission's folder for upload: the listings at top level, the masks below ``predicted_masks``. Or FileError."""
    folder, archive = check_folder(Path(folder)), Path(archive)
    members = [*sorted(folder.glob("*.txt")), *sorted((folder / MASKS).glob("*.txt"))]
    with atomic_file(archive) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for member in members:
            packed.write(member, member.relative_to(folder).as_posix())
    return archive


def safe_member(folder: Path, path: str, where: object) -> Path:
    """The file a relative path names inside a folder. Raises FormatError for one that leads anywhere else."""
    parts = PurePosixPath(path).parts
    if path.startswith(("/", "\\", "~")) or "\\" in path or ":" in path or not parts or ".." in parts:
        raise FormatError(explain("the path of a mask must be relative and stay inside the folder", where=where, got=repr(path),
                                  expected=f"such as {MASKS}/scene0000_00_000.txt"))
    member = folder
    for part in parts:
        member = member / part
        if member.is_symlink():
            raise FormatError(explain("the path of a mask may not go through a link", where=where, got=repr(path)))
    if not member.is_file():
        raise FormatError(explain("there is no such mask", where=where, got=repr(path)))
    return member


def _lines(listing: Path) -> list[str]:
    if (size := check_file(listing, may_be_empty=True)) > MAX_LISTING_BYTES:  # empty: nothing was found
        raise FormatError(explain("a listing is not that long", where=listing, got=f"{size} bytes",
                                  expected=f"at most {MAX_LISTING_BYTES}"))
    try:
        return listing.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(explain("the listing is not text", where=listing, got=str(error))) from error


def _fields(text: str, where: str) -> tuple[str, int, float]:
    fields = text.split()
    if len(fields) != 3:
        raise FormatError(explain("a line is: mask, class id, confidence", where=where, got=repr(text[:100])))
    try:
        number, score = int(fields[1]), float(fields[2])
    except ValueError as error:
        raise FormatError(explain("id or confidence is no number", where=where, got=repr(text[:100]))) from error
    if not 0 <= score <= 1:
        raise FormatError(explain("a confidence lies in [0, 1]", where=where, got=fields[2]))
    return fields[0], number, score


def _decimal(score: np.float32) -> str:
    """The shortest decimal that reads back as the same float32, so that no order and no AP changes."""
    return np.format_float_positional(np.float32(score), trim="0")


def _digits(mask: NDArray[np.bool_]) -> bytes:
    text = np.full((len(mask), 2), ord("\n"), dtype=np.uint8)
    text[:, 0] = mask + np.uint8(ord("0"))
    return text.tobytes()


def _read_mask(path: Path, num_points: int | None) -> NDArray[np.bool_]:
    size = path.stat().st_size
    if num_points is not None and size > 3 * num_points + 3:
        raise FormatError(explain("a mask has one 0 or 1 a line", where=path, got=f"{size} bytes",
                                  expected=f"{num_points} lines"))
    text = np.frombuffer(path.read_bytes().replace(b"\r\n", b"\n"), dtype=np.uint8)
    text = np.append(text, ord("\n")) if len(text) % 2 else text  # the last line may lack its end
    rows = text.reshape(-1, 2).astype(np.int64)
    wrong = ((rows[:, 0] != ord("0")) & (rows[:, 0] != ord("1"))) | (rows[:, 1] != ord("\n"))
    if wrong.any():
        line = int(np.flatnonzero(wrong)[0]) + 1
        raise FormatError(explain("a mask has one 0 or 1 a line", where=f"{path}:{line}",
                                  got=repr(bytes(text.reshape(-1, 2)[line - 1]).decode("latin-1"))))
    if num_points is not None and len(rows) != num_points:
        raise FormatError(explain("the mask does not fit the mesh", where=path, got=f"{len(rows)} lines",
                                  expected=f"{num_points}, one a vertex"))
    return rows[:, 0] == ord("1")

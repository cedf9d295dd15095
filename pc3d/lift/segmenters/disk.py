"""Masks from files: label maps, COCO run lengths, arrays; a folder or a zip, one file a frame, named as the frame is."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, FileError, FormatError, explain, require_package
from pc3d.io.files import parse_json
from pc3d.io.npz import unpack_arrays, unpack_member
from pc3d.lift.masks import FrameMasks, ids_of
from pc3d.structures import Frame

SUFFIXES = (".json", ".npz", ".png")
FREE_BYTES = 2**30      # of one file, in any ratio: 30 ellipses on 1920 x 1440 pixels, 83 MB of bool, pack 1:613


class MaskFolder:
    """Masks of each frame from ``<name>.png``, ``.npz`` or ``.json`` anywhere below a folder, or inside a zip.

    Of a frame called ``cam0/0001`` they lie in a folder ``cam0``; of two such files that at the top is meant, or none.
    - png: 8 or 16 bits, one number a mask, 0 for none; scores, labels and tracks in a ``<name>.json`` beside it, if any.
    - npz: ``masks`` (K, h, w) or ``ids`` (h, w); ``scores``, ``labels``, ``tracks`` (K,) where known.
    - json: a list of records with ``segmentation`` (COCO run lengths, also compressed), as SAM writes them, and ``score``
      (or ``predicted_iou``), ``label``, ``track``; without ``segmentation``, records with an ``id`` speak of the png.

    ``classes.json`` names the classes; without it labels in json are names themselves, of all files together.
    """

    ahead = "masks"

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise FileError(explain("there is no such folder of masks", where=path))
        self.path = path
        self._archive = zipfile.ZipFile(path) if zipfile.is_zipfile(path) else None
        names = self._archive.namelist() if self._archive else [p.relative_to(path).as_posix() for p in path.rglob("*")]
        self._files: dict[str, list[str]] = {}      # by the last part of a frame's name
        for name in sorted(names):
            place = Path(name)
            if place.suffix in SUFFIXES and place.name != "classes.json":
                self._files.setdefault(place.stem, []).append(name)
        if not self._files:
            raise FileError(explain("there are no masks", where=path, expected="<frame>.png, .npz or .json"))
        self.classes = self._read_classes("classes.json" if "classes.json" in names else None)

    def __call__(self, frame: Frame) -> FrameMasks:
        """Masks of one frame; FileError when there is no file for it, FormatError for one that makes no sense."""
        files = self._files_of(frame.name)
        try:
            return self._read(files)
        except DataError as error:
            raise FormatError(explain(str(error), where=f"{self.path}:{frame.name}")) from error
        except (TypeError, ValueError) as error:
            raise FormatError(explain("what is said of the masks makes no sense", where=f"{self.path}:{frame.name}",
                                      got=str(error)[:200])) from error

    def _files_of(self, frame: str) -> dict[str, str]:
        """The files of a frame by their suffix: of ``cam0/0001`` those called 0001 in a folder cam0, at the top first."""
        found: dict[str, str] = {}
        for suffix in SUFFIXES:
            fit = [name for name in self._files.get(frame.rpartition("/")[2], ()) if f"/{name}".endswith(f"/{frame}{suffix}")]
            if len(fit) > 1 and frame + suffix not in fit:
                raise FormatError(explain("two files hold the masks of one frame", where=f"{self.path}:{frame}",
                                          got=f"{fit[0]} and {fit[1]}", do="Name the folder of one of them."))
            if fit:
                found[suffix] = frame + suffix if frame + suffix in fit else fit[0]
        if not found:
            raise FileError(explain("no masks for the frame", where=f"{self.path}:{frame}"))
        return found

    def _read(self, files: dict[str, str]) -> FrameMasks:
        records = self._json(files[".json"]) if ".json" in files else []
        if ".npz" in files:
            return self._from_arrays(files[".npz"])
        if ".png" in files:
            return self._from_label_map(files[".png"], records)
        return self._from_records(files[".json"], records)

    def _bytes(self, name: str) -> bytes:
        if self._archive:
            return unpack_member(self._archive, self._archive.getinfo(name), f"{self.path}:{name}", FREE_BYTES)
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise FormatError(explain("the file cannot be read", where=f"{self.path}:{name}", got=str(error)[:100])) from error

    def _json(self, name: str) -> list[dict[str, Any]]:
        records = parse_json(self._bytes(name), f"{self.path}:{name}")
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise FormatError(explain("this is no list of masks", where=f"{self.path}:{name}", got=type(records).__name__))
        return records

    def _read_classes(self, name: str | None) -> tuple[str, ...]:
        """Names from classes.json, else every name that a json file gives; a broken one is told when its frame is asked for."""
        if name is not None:
            names = parse_json(self._bytes(name), f"{self.path}:{name}")
            if not isinstance(names, list):
                raise FormatError(explain("classes.json is no list of names", where=f"{self.path}:{name}"))
            return tuple(map(str, names))
        found: set[str] = set()
        for file in (file for files in self._files.values() for file in files if file.endswith(".json")):
            with suppress(FormatError):
                records = self._json(file)
                found.update(record["label"] for record in records if isinstance(record.get("label"), str))
        return tuple(sorted(found))

    def _from_label_map(self, name: str, records: Sequence[dict[str, Any]]) -> FrameMasks:
        numbers = _read_png(self._bytes(name), f"{self.path}:{name}")
        ids, found = ids_of(numbers)
        by_id = {record.get("id"): record for record in records}
        rows = [by_id.get(number, {}) for number in found.tolist()]
        return FrameMasks(ids[None], *self._known(rows), self.classes, self._tracks(rows))

    def _from_records(self, name: str, records: Sequence[dict[str, Any]]) -> FrameMasks:
        where = f"{self.path}:{name}"
        if not records:
            return FrameMasks.empty()
        masks = np.stack([decode_rle(record.get("segmentation"), where) for record in records])
        scores, labels = self._known(records)
        return FrameMasks.from_masks(masks, scores, labels, self.classes, tracks=self._tracks(records))

    def _from_arrays(self, name: str) -> FrameMasks:
        given = unpack_arrays(io.BytesIO(self._bytes(name)), f"{self.path}:{name}", FREE_BYTES)
        if "masks" in given:
            return FrameMasks.from_masks(given["masks"], given.get("scores"), given.get("labels"), self.classes,
                                         tracks=given.get("tracks"))
        if "ids" not in given:
            raise FormatError(explain("there are no masks in the archive", where=f"{self.path}:{name}", got=", ".join(given),
                                      expected="masks (K, h, w) or ids (h, w)"))
        return FrameMasks.from_label_map(given["ids"], given.get("scores"), given.get("labels"), self.classes,
                                         tracks=given.get("tracks"))

    def _known(self, records: Sequence[dict[str, Any]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        scores = [_number(record.get("score", record.get("predicted_iou")), 1.0) for record in records]
        number = {name: index for index, name in enumerate(self.classes)}
        given = [record.get("label") for record in records]
        labels = [number.get(label, -1) if isinstance(label, str) else _number(label, -1) for label in given]
        return np.clip(np.array(scores, np.float32), 0, 1), np.array(labels, np.int64)

    @staticmethod
    def _tracks(records: Sequence[dict[str, Any]]) -> NDArray[np.int64]:
        return np.array([_number(record.get("track"), -1) for record in records], np.int64)


def _number(given: Any, unknown: float) -> float:
    """A number of a json file, in the type of what stands for one that is not there, or null."""
    return unknown if given is None else type(unknown)(given)


def _read_png(content: bytes, where: str) -> NDArray[np.integer]:
    require_package("PIL", extra="lift", purpose="reading label maps")
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            numbers = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FormatError(explain("the label map cannot be read", where=where, got=str(error)[:100])) from error
    if numbers.ndim != 2:
        raise FormatError(explain("a label map has one channel of numbers", where=where,
                                  got=f"{numbers.dtype} {numbers.shape}"))
    return numbers


def decode_rle(segmentation: Any, where: str = "mask") -> NDArray[np.bool_]:
    """A mask (h, w) from COCO's run lengths, column by column, zeros first; counts are numbers or COCO's packed text."""
    try:
        height, width = (int(side) for side in segmentation["size"])
        counts = segmentation["counts"]
        runs = np.array(_unpacked(counts) if isinstance(counts, str | bytes) else counts, dtype=np.int64)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(explain("these are no COCO run lengths", where=where, got=f"{type(error).__name__}: {error}",
                                  expected='{"size": [h, w], "counts": [...]}')) from error
    if height * width > FREE_BYTES:
        raise FormatError(explain("the mask is larger than any image", where=where, got=f"{height} x {width} pixels",
                                  expected=f"up to {FREE_BYTES} pixels"))
    if len(runs) and (runs.min() < 0 or runs.sum() != height * width):
        raise FormatError(explain("run lengths do not fill the image", where=where, got=int(runs.sum()),
                                  expected=height * width))
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return values.reshape(width, height).T if len(runs) else np.zeros((height, width), bool)


def _unpacked(text: str | bytes) -> list[int]:
    """COCO's packed counts: five bits a letter, the sixth says that more follow; from the third, differences two back."""
    letters = text.encode() if isinstance(text, str) else text
    counts: list[int] = []
    value = shift = 0
    for letter in letters:
        bits = letter - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts

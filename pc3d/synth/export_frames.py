"""The frames of a synthetic ScanNet scene: its .sens file and the images of its 2D annotation."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from pc3d.io import write_sens
from pc3d.io.files import atomic_file
from pc3d.synth.scanner import View


def export_frames(views: Sequence[View], folder: Path, scene: str, raw_ids: NDArray[np.int64] | None) -> None:
    """Write ``<scene>.sens`` and, given the raw id of each class (last: of none), the zips of 2D instances and labels.

    A pixel holds the objectId + 1 of its instance and the raw id of its label, 0 for none; walls, floor and ceiling are none.
    """
    write_sens(folder / f"{scene}.sens", [view.frame for view in views])
    if raw_ids is not None:
        _write_images(folder / f"{scene}_2d-instance-filt.zip", [view.instances + 1 for view in views], np.uint8)
        _write_images(folder / f"{scene}_2d-label-filt.zip", [raw_ids[view.labels] for view in views], np.uint16)


def _write_images(path: Path, images: Sequence[NDArray[np.int64]], dtype: type[np.unsignedinteger]) -> None:
    """PNGs 0.png, 1.png, ... in a zip, in a folder of the kind that the zip is named after."""
    from PIL import Image

    kind = path.stem.rsplit("_2d-", 1)[1]
    with atomic_file(path) as file, ZipFile(file, "w") as archive:
        for index, image in enumerate(images):
            packed = BytesIO()
            Image.fromarray(image.astype(dtype)).save(packed, "PNG")
            archive.writestr(f"{kind}/{index}.png", packed.getvalue())

"""Real-size furniture models of the Debian package ``sweethome3d-furniture``, read from where it is installed.

The package holds catalogues (``.sh3f``, a zip file each) of textured models with name, size and author, under CC0 and CC BY
3.0. Nothing of it ships with pc3d. A quarter of the models of each class, chosen by a hash of their ids, is for validation
alone, so that its rooms show objects that training never saw.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import FileError, FormatError, explain, require_package
from pc3d.synth.primitives import METAL, PLAIN, Mesh, merge

#: Where Debian puts the catalogues.
FOLDER = Path("/usr/share/sweethome3d/furniture")
INSTALL = "On Debian: apt-get install sweethome3d-furniture"
CATALOGUE = "PluginFurnitureCatalog.properties"
CENTIMETRE = 0.01
VALIDATION_SHARE = 4     # one model in so many, at least one of a class
MAX_FACES = 60_000       # finer models cost time and show nothing more at 2 cm
MAX_BYTES = 64 * 2**20   # of one model, unpacked

#: Class -> names in the catalogues, whole. Names that could be several things are left out.
NAMES = {
    "chair": ("Armchair|Winchester armchair|Modern armchair|Chair|Chair with cushion|Oak chair|Osaka chair|Folding chair|"
              "Plastic chair|Class seat|Ryokan chair|Bar chair"),
    "sofa": "Sofa|Sofa [23] seats|Couch|Corner sofa|Winchester sofa|Burlap sofa|Clear sofa|Futon couch|Convertible sofa BZ",
    "table": ("Table|Oak table|Round table|Coffee table|Glass table|Black table|Table with tablecloth|Table on trestles|"
              "Folding table|Bar table|Wooden table|Wooden (alder|teak) table"),
    "desk": "Desk|Desk table|Wooden desk|Technical table",
    "bed": "Bed|Bunk bed|Child bed|Crib|Day bed|Captain's bed|Iron bed|Hospital bed|Baby bed",
    "cabinet": ("Cupboard|Wardrobe|Television cabinet|TV stand|Drawers cabinet|Lower cabinet|High cabinet|Filing cabinet|"
                "Dresser with drawers|Bedside table|Small lower cabinet|Chest"),
    "bookshelf": "Bookcase|Full bookcase|Shelves|Vertical shelves",
    "refrigerator": "Refrigerator|Large fridge|Fridge",
    "toilet": "Toilets unit",
    "sink": "Washbasin|Vanity|Double vanity|Small lavatory|Sink cabinet",
    "bathtub": "Bath|Corner bathtub|Island bath",
    "counter": "Island|Island extension",
    "otherfurniture": ("Stool|Bullet trash can|Dustbin|Recycling bin|Armchair ottoman|Puff|Bench|Piano bench|Upright piano|"
                       "Clothes washing machine|Washing machine|Oven|Stove|Microwave|Radiator"),
}


@dataclass(frozen=True)
class Model:
    """One model of a catalogue; lengths in metres."""

    id: str
    label: str                      # class
    creator: str
    archive: Path
    member: str                     # path of the .obj inside the archive
    size: tuple[float, float, float]    # width, depth, height
    elevation: float                # of its foot above the floor
    rotation: tuple[float, ...]     # 3 x 3, row by row, applied to the file's axes (y up)


@dataclass(frozen=True, eq=False)
class ModelLibrary:
    """The usable models of a folder of catalogues, read when they are first wanted.

    Raises FileError when the folder has no catalogue, FormatError when one cannot be read.
    """

    folder: Path = FOLDER
    _meshes: dict[str, Mesh | None] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def models(self) -> dict[str, list[Model]]:
        """Models by class, in an order that their ids alone decide."""
        archives = sorted(self.folder.glob("*.sh3f"))
        if not archives:
            raise FileError(explain("no furniture catalogue (*.sh3f) here", where=self.folder, do=INSTALL))
        found: dict[str, list[Model]] = {}
        everything = (model for archive in archives for model in read_catalogue(archive))
        for model in sorted(everything, key=lambda model: (zlib.crc32(model.id.encode()), model.id)):
            found.setdefault(model.label, []).append(model)
        return found

    def choices(self, label: str, *, validation: bool) -> list[Model]:
        """Models of a class for training rooms, or those for validation rooms; no model is in both."""
        models = self.models.get(label, [])
        unseen = -(-len(models) // VALIDATION_SHARE)
        return models[:unseen] if validation else models[unseen:]

    def mesh(self, model: Model) -> Mesh | None:
        """The model as furniture stands in ``pc3d.synth.furniture``; None when its file does not read or is too large."""
        if model.id not in self._meshes:
            self._meshes[model.id] = read_model(model)
        return self._meshes[model.id]


def attribution(library: ModelLibrary) -> str:
    """Who made the models, a line each; CC BY 3.0 asks for it wherever scans of them go."""
    lines = sorted(f"{model.id}: {model.creator or 'unknown'} ({model.archive.name})"
                   for models in library.models.values() for model in models)
    return "\n".join(["Furniture models under CC0 or CC BY 3.0, from the Debian package sweethome3d-furniture:", *lines, ""])


def read_catalogue(archive: Path) -> Iterator[Model]:
    """Yield the models of one .sh3f file whose name says which class they are."""
    try:
        with zipfile.ZipFile(archive) as opened:
            text = opened.read(CATALOGUE).decode("latin-1")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise FormatError(explain("not a furniture catalogue", where=archive, got=str(error),
                                  expected=f"a zip file with {CATALOGUE}", do=INSTALL)) from error
    for entry in _entries(text):
        label = class_of(entry.get("name", ""))
        if label is None or "model" not in entry:
            continue
        size = tuple(float(entry[key]) * CENTIMETRE for key in ("width", "depth", "height"))
        rotation = tuple(float(v) for v in entry.get("modelRotation", "1 0 0 0 1 0 0 0 1").split())
        yield Model(entry["id"], label, entry.get("creator", ""), archive, entry["model"].lstrip("/"),
                    (size[0], size[1], size[2]), float(entry.get("elevation", 0)) * CENTIMETRE, rotation)


def class_of(name: str) -> str | None:
    """The class that a catalogue's name stands for, or None."""
    return next((label for label, names in NAMES.items() if re.fullmatch(names, name)), None)


def _entries(properties: str) -> list[dict[str, str]]:
    """The numbered entries of a Java properties file: lines ``key#number=value``."""
    entries: dict[int, dict[str, str]] = {}
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*?)\s*$", properties, re.MULTILINE):
        entries.setdefault(int(number), {})[key] = value
    return [entries[number] for number in sorted(entries)]


def read_model(model: Model) -> Mesh | None:
    """Read, colour, turn and scale one model: origin on the floor below its middle, z up, front to -y."""
    require_package("open3d", extra="viz", purpose="reading furniture models")
    import open3d

    quiet = open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error)  # of bump maps that are not there
    with tempfile.TemporaryDirectory() as folder, quiet:
        path = _extract(model, Path(folder))
        read = open3d.io.read_triangle_model(str(path)) if path else None
        parts = [_colored(info.mesh, read.materials[info.material_idx]) for info in read.meshes] if read else []
    parts = [part for part in parts if len(part.faces)]
    if not parts or sum(len(part.faces) for part in parts) > MAX_FACES:
        return None
    return _standing(merge(*parts), model)


def _extract(model: Model, folder: Path) -> Path | None:
    """Unpack the files of a model flat into ``folder``; None when there is no such member or it is too large."""
    home = model.member.rpartition("/")[0] + "/"
    with zipfile.ZipFile(model.archive) as opened:
        members = [info for info in opened.infolist() if info.filename.startswith(home) and not info.is_dir()]
        if model.member not in {info.filename for info in members} or sum(info.file_size for info in members) > MAX_BYTES:
            return None
        for info in members:
            (folder / Path(info.filename).name).write_bytes(opened.read(info))
    return folder / Path(model.member).name


def _colored(mesh: Any, material: Any) -> Mesh:
    """Triangles with the colour of the material, or of its texture in the middle of each triangle."""
    faces = np.asarray(mesh.triangles, dtype=np.int32)
    colors = np.tile(np.asarray(material.base_color[:3], dtype=np.float64) * 255, (len(faces), 1))
    image: NDArray[Any] = np.asarray(material.albedo_img) if material.albedo_img is not None else np.empty(0)
    if image.ndim == 3 and image.size and mesh.has_triangle_uvs():
        middle: NDArray[np.float64] = np.nan_to_num(np.asarray(mesh.triangle_uvs).reshape(-1, 3, 2).mean(axis=1)) % 1.0
        rows, columns = image.shape[:2]
        colors = image[((1 - middle[:, 1]) * (rows - 1)).astype(int), (middle[:, 0] * (columns - 1)).astype(int), :3]
    surface = METAL if material.base_metallic > 0.5 else PLAIN
    return Mesh(np.asarray(mesh.vertices, dtype=np.float32), faces, np.clip(colors, 0, 255).astype(np.uint8),
                np.full(len(faces), surface, dtype=np.uint8))


def _standing(mesh: Mesh, model: Model) -> Mesh | None:
    """Turn y up into z up, scale to the catalogue's size, and put the middle of the foot at the origin."""
    turned = mesh.vertices @ np.array(model.rotation, dtype=np.float32).reshape(3, 3).T
    vertices: NDArray[np.float32] = turned[:, [0, 2, 1]] * np.array([1, -1, 1], dtype=np.float32)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    if not np.isfinite([low, high]).all() or (high - low).min() <= 0:
        return None
    foot = np.array([*(low + high)[:2] / 2, low[2]], dtype=np.float32)
    scaled = (vertices - foot) * (np.array(model.size) / (high - low)).astype(np.float32)
    scaled[:, 2] += model.elevation
    return Mesh(scaled, mesh.faces, mesh.colors, mesh.surfaces)

"""Real furniture models: catalogues in the package's own format, made here, with one slanted, textured thing in them."""

from __future__ import annotations

import io as bytes_io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pc3d.errors import FileError, FormatError
from pc3d.synth import ScannerConfig, make_room, write_dataset
from pc3d.synth.furniture import Stock
from pc3d.synth.models import NAMES, ModelLibrary, attribution, class_of

# A wedge, y up: its tall side is at the back (z = 0), its low edge in front (z = 2); the slope is textured.
WEDGE = """mtllib thing.mtl
v 0 0 0\nv 4 0 0\nv 4 0 2\nv 0 0 2\nv 0 3 0\nv 4 3 0
vt 0.1 0.9\nvt 0.1 0.9\nvt 0.1 0.9
usemtl paint
f 1 2 3\nf 1 3 4\nf 1 6 2\nf 1 5 6\nf 1 4 5\nf 2 6 3
usemtl cloth
f 4/1 3/2 6/3\nf 4/1 6/2 5/3
"""
MATERIALS = "newmtl paint\nKd 0.2 0.4 0.6\nnewmtl cloth\nKd 1 1 1\nmap_Kd cloth.png\n"


def texture() -> bytes:
    """Red in the upper left corner, where the slope's texture coordinates are, green elsewhere."""
    image = np.full((16, 16, 3), (0, 255, 0), np.uint8)
    image[:8, :8] = (255, 0, 0)
    with bytes_io.BytesIO() as file:
        Image.fromarray(image).save(file, "png")
        return file.getvalue()


def write_catalogue(folder: Path, names: list[str], name: str = "made.sh3f") -> Path:
    entries = [f"id#{i}=made#{i}\nname#{i}={label}\nmodel#{i}=/made/thing/thing.obj\nwidth#{i}=80\ndepth#{i}=60\n"
               f"height#{i}=90\nelevation#{i}=5\ncreator#{i}=Someone{i}\n" for i, label in enumerate(names)]
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", "# made by a test\n" + "".join(entries))
        archive.writestr("made/thing/thing.obj", WEDGE)
        archive.writestr("made/thing/thing.mtl", MATERIALS)
        archive.writestr("made/thing/cloth.png", texture())
    return folder


def test_a_model_stands_with_its_size_its_front_and_its_colours(open3d, tmp_path: Path) -> None:
    library = ModelLibrary(write_catalogue(tmp_path, ["Armchair"]))
    mesh = library.mesh(library.models["chair"][0])
    assert mesh is not None
    np.testing.assert_allclose(mesh.bounds, [[-0.4, -0.3, 0.05], [0.4, 0.3, 0.95]], atol=1e-5)
    high = mesh.vertices[mesh.vertices[:, 2] > 0.9]
    assert (high[:, 1] > 0.29).all()  # the tall side is the back, at +y
    assert {tuple(color) for color in mesh.colors.tolist()} == {(51, 102, 153), (255, 0, 0)}
    corners = mesh.vertices[mesh.faces]
    slope = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[(mesh.colors == (255, 0, 0)).all(1)]
    assert (slope[:, 1] < 0).all()
    assert (slope[:, 2] > 0).all()  # faces still look outwards: the slope to the front and up


def test_training_and_validation_share_no_model(tmp_path: Path) -> None:
    library = ModelLibrary(write_catalogue(tmp_path, ["Chair"] * 9 + ["Sofa"] * 2))
    for label, count in (("chair", 9), ("sofa", 2)):
        train, unseen = ({m.id for m in library.choices(label, validation=v)} for v in (False, True))
        assert train.isdisjoint(unseen)
        assert len(train | unseen) == count
        assert unseen
    again = ModelLibrary(tmp_path)
    assert [m.id for m in again.choices("chair", validation=True)] == [m.id for m in library.choices("chair", validation=True)]


def test_names_belong_to_one_class_and_unclear_ones_to_none() -> None:
    assert class_of("Winchester sofa") == "sofa"
    assert class_of("Table") == "table"
    assert class_of("Table tennis bat") is None
    assert class_of("Wheelchair") is None
    alternatives = [name for names in NAMES.values() for name in names.split("|") if "(" not in name and "[" not in name]
    assert len(alternatives) == len(set(alternatives))


def test_rooms_show_models_and_the_same_seed_the_same_room(open3d, tmp_path: Path) -> None:
    stock = Stock(models=ModelLibrary(write_catalogue(tmp_path, ["Bed", "Bed", "Wardrobe", "Wardrobe"])))
    rooms = [make_room(np.random.default_rng(1), kind="bedroom", stock=stock) for _ in range(2)]
    assert np.array_equal(rooms[0].mesh.vertices, rooms[1].mesh.vertices)
    plain = make_room(np.random.default_rng(1), kind="bedroom")
    assert len(plain.mesh.faces) != len(rooms[0].mesh.faces)


def test_a_data_set_says_who_made_its_models(open3d, tmp_path: Path) -> None:
    catalogue = write_catalogue(tmp_path / "catalogues", ["Chair", "Desk"])
    tiny = ScannerConfig(width=96, height=72, stations=3, views=8, voxel_size=0.08, min_instance_points=10)
    write_dataset(tmp_path / "set", 1, config=tiny, models=catalogue)
    written = (tmp_path / "set" / "ATTRIBUTION.txt").read_text()
    assert written == attribution(ModelLibrary(catalogue))
    assert "made#1: Someone1 (made.sh3f)" in written


def test_an_empty_folder_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no furniture catalogue.*apt-get install sweethome3d-furniture"):
        _ = ModelLibrary(tmp_path).models


def test_a_broken_catalogue_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.sh3f").write_bytes(b"PK no zip")
    with pytest.raises(FormatError, match=r"broken\.sh3f: not a furniture catalogue"):
        _ = ModelLibrary(tmp_path).models


def test_a_model_that_does_not_read_leaves_its_place_to_a_parametric_one(open3d, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "made.sh3f", "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties",
                         "id#1=x\nname#1=Chair\nmodel#1=/gone/gone.obj\nwidth#1=50\ndepth#1=50\nheight#1=90\n")
    stock = Stock(validation=True, models=ModelLibrary(tmp_path))
    for seed in range(5):
        assert stock.make("chair", np.random.default_rng(seed))[0].name == "chair"

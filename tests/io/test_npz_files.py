"""NPZ and NPY: names from several houses, and nothing unpickled, ever."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from pc3d.errors import DataError, FormatError
from pc3d.io import read, read_instances, write, write_instances
from pc3d.structures import Instances, PointCloud

XYZ = np.arange(12, dtype=np.float32).reshape(4, 3)


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize("key", ["xyz", "coord", "coords", "points"])
def test_points_go_by_several_names(tmp_path, key):
    np.savez(tmp_path / "a.npz", **{key: XYZ, "color": np.full((4, 3), 9, np.uint8), "normal": XYZ,
                                    "labels": np.array([0, 1, -1, 2]), "segment20": np.arange(4, dtype=np.int16),
                                    "scene": np.array("kitchen")})
    cloud = read(tmp_path / "a.npz")
    assert np.array_equal(cloud.xyz, XYZ)
    assert cloud.rgb[0].tolist() == [9, 9, 9]
    assert cloud.labels.tolist() == [0, 1, -1, 2]
    assert cloud.attributes["segment20"].dtype == np.int16
    assert str(cloud.metadata["arrays"]["scene"]) == "kitchen"


def test_npz_keeps_attributes_of_any_shape_and_type(tmp_path):
    attributes = {"feature": np.random.default_rng(0).random((4, 2, 3)), "name": np.array(["a", "b", "c", "d"]),
                  "big": np.full(4, 2**60)}
    write(PointCloud(XYZ, attributes=attributes), tmp_path / "a.npz")
    back = read(tmp_path / "a.npz").attributes
    assert all(np.array_equal(back[name], values) and back[name].dtype == values.dtype for name, values in attributes.items())


def test_npz_keeps_the_origin_to_the_last_bit(tmp_path, scan):
    cloud = scan.replace(origin=np.array([0.1, 1e7 / 3, -7.0]))
    write(cloud, tmp_path / "a.npz")
    back = read(tmp_path / "a.npz")
    assert back.origin.tobytes() == cloud.origin.tobytes()
    assert back.xyz.tobytes() == cloud.xyz.tobytes()


def test_wide_coordinates_beside_an_origin_keep_their_digits(tmp_path):
    world = np.array([[500_000.123, 5_400_000.456, 1.0], [500_001.123, 5_400_001.456, 2.0]])
    np.savez(tmp_path / "a.npz", xyz=world - [0, 0, 10], origin=[0, 0, 10])
    assert np.abs(read(tmp_path / "a.npz").world_xyz - world).max() < 1e-6


def test_an_archive_that_packs_like_a_bomb_is_written_so_that_it_reads(tmp_path):
    count = 6_000_000
    write(PointCloud(np.zeros((count, 3), np.float32)), tmp_path / "a.npz")
    assert len(read(tmp_path / "a.npz")) == count
    nothing = Instances.from_masks(np.zeros((0, count), bool), [], [], ("chair",))
    write_instances(nothing, tmp_path / "b.npz")
    assert read_instances(tmp_path / "b.npz").num_segments == count


def test_byte_order_and_memory_order_do_not_matter(tmp_path):
    np.savez(tmp_path / "a.npz", xyz=np.asfortranarray(XYZ.astype(">f8")), label=np.arange(4).reshape(4, 1))
    cloud = read(tmp_path / "a.npz")
    assert np.array_equal(cloud.xyz, XYZ)
    assert cloud.labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_no_pickle_is_ever_loaded(tmp_path, suffix):
    objects = np.empty((4, 3), dtype=object)
    objects[:] = Trap()
    np.save(tmp_path / "a.npy", objects)
    np.savez(tmp_path / "a.npz", xyz=objects)
    with pytest.raises(FormatError, match="Python objects, which are never loaded"):
        read(tmp_path / f"a.{suffix}")


def savez(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def save(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


BROKEN = {
    "not_a_zip.npz": (b"hello", "cannot be unpacked"),
    "cut.npz": (savez(xyz=XYZ)[:-30], "cannot be unpacked"),
    "flipped.npz": (savez(xyz=XYZ).replace(XYZ.tobytes()[:8], b"\xff" * 8), "cannot be unpacked"),
    "text.npz": (zipped("readme.txt", b"hi"), "not written by numpy"),
    "no_array.npz": (zipped("xyz.npy", b"hello there"), "no numpy array"),
    "short_array.npz": (zipped("xyz.npy", save(XYZ)[:-4]), "size its header promises"),
    "no_points.npz": (savez(label=np.arange(4)), "has no points"),
    "empty.npz": (savez(xyz=XYZ[:0]), "holds no points"),
    "scalar.npz": (savez(xyz=np.float32(3)), "'xyz' does not fit"),
    "two_columns.npz": (savez(xyz=XYZ[:, :2]), "'xyz' does not fit"),
    "strings.npz": (savez(xyz=XYZ.astype(str)), "'xyz' does not fit"),
    "short_labels.npz": (savez(xyz=XYZ, label=np.arange(3)), "'label' does not fit the points"),
    "grey.npz": (savez(xyz=XYZ, rgb=np.zeros(4)), "'rgb' does not fit the points"),
    "quads.npz": (savez(xyz=XYZ, faces=np.zeros((2, 4), int)), "'faces' is no list of triangles"),
    "face_too_high.npz": (savez(xyz=XYZ, faces=[[0, 1, 2], [0, 1, 4]]), "face row 1"),
    "bad_origin.npz": (savez(xyz=XYZ, origin=[1.0, np.nan, 0]), "'origin' is no point"),
    "nan.npz": (savez(xyz=np.array([[0, 0, 0], [np.nan, 0, 0]])), "1 of 2 points are not finite"),
    "hello.npy": (b"hello world, this is no array", "no numpy array"),
    "cut.npy": (save(XYZ)[:-1], "size its header promises"),
    "long.npy": (save(XYZ) + b"x", "size its header promises"),
    "flat.npy": (save(XYZ.reshape(-1)), "no table of points"),
    "two_columns.npy": (save(XYZ[:, :2]), "no table of points"),
    "complex.npy": (save(XYZ.astype(complex)), "no table of points"),
    "empty.npy": (save(XYZ[:0]), "holds no points"),
    "no_z.npy": (save(np.zeros(2, [("x", "f4"), ("y", "f4")])), "no x, y and z"),
    "evil_header.npy": (b"\x93NUMPY\x01\x00\x40\x00" + b"__import__('os').system('false')".ljust(63) + b"\n", "no numpy array"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_numpy_file_is_refused_with_its_fault(put, name):
    content, words = BROKEN[name]
    path = put(name, content)
    with pytest.raises(FormatError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_bare_tables_are_named_by_their_values(put):
    colours = np.array([[0, 255, 3], [1, 2, 3], [9, 9, 9], [4, 4, 4]])
    cloud = read(put("s3dis.npy", save(np.hstack([XYZ, colours, [[5], [6], [7], [8]]]).astype(np.float64))))
    assert np.array_equal(cloud.rgb, colours)
    assert cloud.attributes["column_6"].tolist() == [5, 6, 7, 8]
    cloud = read(put("normals.npy", save(np.hstack([XYZ, np.tile([0, 0.6, 0.8], (4, 1))]))))
    assert cloud.rgb is None
    assert np.allclose(cloud.normals, [0, 0.6, 0.8])


def test_an_attribute_cannot_take_a_columns_place(tmp_path):
    with pytest.raises(DataError, match="'points' cannot be written"):
        write(PointCloud(XYZ, attributes={"points": XYZ}), tmp_path / "a.npz")
    with pytest.raises(DataError, match="Python objects"):
        write(PointCloud(XYZ, attributes={"thing": np.array([None] * 4)}), tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []

"""PLY as other programs write it: byte orders, polygons, odd line ends, elements we have no place for."""

from __future__ import annotations

import struct
import time
import warnings

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from pc3d.errors import ConfigError, DataError
from pc3d.io import read, write
from pc3d.io.ply import read_ply, write_ply
from pc3d.io.ply_body import fan_triangles, read_binary, read_triangle_mesh
from pc3d.io.ply_header import BYTE_ORDERS, read_header
from pc3d.structures import PointCloud

SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=np.float32)


def ply_of_polygons(polygons: list[list[int]], path, *, encoding: str) -> None:
    vertices = np.array([tuple(row) for row in SQUARE], dtype=[("x", "f4"), ("y", "f4"), ("z", "f4")])
    faces = np.empty(len(polygons), dtype=[("vertex_index", "O"), ("flags", "i4")])
    faces["vertex_index"] = [np.array(polygon, dtype=np.int32) for polygon in polygons] if polygons else []
    faces["flags"] = 7
    face = PlyElement.describe(faces, "face", len_types={"vertex_index": "u1"})
    file = PlyData([PlyElement.describe(vertices, "vertex"), face], text=encoding == "ascii", byte_order=BYTE_ORDERS[encoding])
    file.write(str(path))


@pytest.mark.parametrize("encoding", BYTE_ORDERS)
def test_plyfile_reads_what_we_write(tmp_path, scan, encoding):
    write_ply(scan, tmp_path / "scan.ply", encoding)
    theirs = PlyData.read(str(tmp_path / "scan.ply"))
    vertex = theirs["vertex"]
    assert np.array_equal(np.stack([vertex["x"], vertex["y"], vertex["z"]], axis=1), scan.xyz)
    assert np.array_equal(vertex["label"], scan.labels)
    assert vertex["ring"].dtype.str[1:] == "i2"
    assert np.array_equal(np.vstack(list(theirs["face"]["vertex_indices"])), scan.faces)


@pytest.mark.parametrize("encoding", BYTE_ORDERS)
def test_polygons_become_fans_in_the_order_of_the_file(tmp_path, encoding):
    path = tmp_path / "square.ply"
    ply_of_polygons([[0, 1, 2, 3], [3, 2, 0], [1, 2], [2, 3, 1, 0]], path, encoding=encoding)
    with pytest.warns(UserWarning, match=r"face property 'flags', 1 faces with fewer than 3 corners"):
        cloud = read(path)
    assert cloud.faces.tolist() == [[0, 1, 2], [0, 2, 3], [3, 2, 0], [2, 3, 1], [2, 1, 0]]


def test_a_fan_of_nothing_is_no_triangle():
    assert fan_triangles(np.empty(0, np.int64), np.empty(0, np.int64)).shape == (0, 3)
    assert fan_triangles(np.array([4, 5]), np.array([0, 2, 0])).shape == (0, 3)


def test_edges_and_tristrips_are_left_out_with_a_warning(put):
    content = (b"ply\nformat binary_little_endian 1.0\nelement edge 1\nproperty int vertex1\nproperty int vertex2\n"
               b"element vertex 1\nproperty float x\nproperty float y\nproperty float z\n"
               b"element tristrips 1\nproperty list int int vertex_indices\nend_header\n")
    content += struct.pack("<2i", 0, 0) + struct.pack("<3f", 1, 2, 3) + struct.pack("<4i", 3, 0, 0, 0)
    with pytest.warns(UserWarning, match="element 'edge', element 'tristrips'"):
        cloud = read(put("edges.ply", content))
    assert cloud.xyz.tolist() == [[1, 2, 3]]
    assert cloud.faces is None


def test_a_list_on_vertices_is_left_out_and_its_neighbours_stay(put):
    content = (b"ply\nformat binary_big_endian 1.0\nelement vertex 2\nproperty float x\nproperty list uchar short seen_by\n"
               b"property float y\nproperty float z\nproperty uchar label\nend_header\n")
    content += struct.pack(">fB2h2fB", 1, 2, 7, 8, 2, 3, 5) + struct.pack(">fB2fB", 4, 0, 5, 6, 9)
    with pytest.warns(UserWarning, match="vertex list 'seen_by'"):
        cloud = read(put("seen.ply", content))
    assert cloud.xyz.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert cloud.labels.tolist() == [5, 9]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian"])
def test_every_line_end_is_understood(put, newline, encoding):
    head = newline.join(["ply", f"format {encoding} 1.0", "", "element vertex 2", "property float x", "property float y",
                         "property float z", "end_header", ""]).encode()
    body = f"1 2 3{newline}4 5 6".encode() if encoding == "ascii" else struct.pack("<6f", 1, 2, 3, 4, 5, 6)
    assert read(put("scan.ply", head + body)).xyz.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_comments_in_any_language_do_not_stop_a_mesh(put, scan):
    path = put("scan.ply", b"")
    noted = scan.replace(metadata={"ply": {"comments": ["scanné à Zürich", "two\nlines"], "obj_info": ["num_cols 7"]}})
    write(noted, path)
    notes = read(path).metadata["ply"]
    assert notes["comments"] == ["scanné à Zürich", "two lines"]
    assert notes["obj_info"] == ["num_cols 7"]
    assert np.array_equal(read(path).faces, scan.faces)


def test_blank_bytes_at_the_end_are_forgiven(put, tmp_path, scan):
    write(scan, tmp_path / "scan.ply")
    padded = put("padded.ply", (tmp_path / "scan.ply").read_bytes() + b"\n\0\0")
    assert np.array_equal(read(padded).faces, scan.faces)


def test_fast_and_patient_reader_agree(tmp_path, scan):
    path = tmp_path / "scan.ply"
    write(scan, path)
    size = path.stat().st_size
    header = read_header(path, size)
    fast, patient = read_triangle_mesh(header, size), read_binary(header, size)
    assert fast is not None
    assert all(np.array_equal(fast.vertices[name], patient.vertices[name]) for name in patient.vertices)
    assert np.array_equal(fast.polygons[0], patient.polygons[0])


def test_a_mesh_of_150k_vertices_reads_in_tens_of_milliseconds(tmp_path, rng):
    cloud = PointCloud(rng.normal(size=(150_000, 3)).astype(np.float32), rgb=np.zeros((150_000, 3), np.uint8),
                       faces=rng.integers(0, 150_000, (300_000, 3)))
    write(cloud, tmp_path / "mesh.ply")
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        read(tmp_path / "mesh.ply")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.15      # measured: 0.02 s; the rest is for a busy machine


def test_colours_of_every_scale_become_bytes(put):
    def ascii_ply(type_: str, values: str) -> bytes:
        properties = "".join(f"property {type_} {name}\n" for name in ("red", "green", "blue"))
        head = "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n"
        return f"{head}{properties}end_header\n0 0 0 0 0 0\n0 0 0 {values}\n".encode()

    assert read(put("a.ply", ascii_ply("float", "1 0.5 0.25"))).rgb[1].tolist() == [255, 128, 64]
    assert read(put("b.ply", ascii_ply("float", "255 128 64"))).rgb[1].tolist() == [255, 128, 64]
    assert read(put("c.ply", ascii_ply("ushort", "65535 32896 16448"))).rgb[1].tolist() == [255, 128, 64]
    with pytest.warns(UserWarning, match="are not used: colours from -1.0"):
        cloud = read(put("d.ply", ascii_ply("float", "-1 0.5 0.25")))
    assert cloud.rgb is None
    assert cloud.attributes["input_red"].tolist() == [0, -1]


@pytest.mark.parametrize(("name", "type_", "value", "words"), [
    ("label", "float", "0.5", "whole numbers"), ("superpoint", "int", "-1", "belong to no superpoint"),
    ("intensity", "float", "nan", "not finite"), ("instance", "double", "1e12", "32 bits")])
def test_a_column_that_belies_its_name_stays_as_an_attribute_of_another(put, name, type_, value, words):
    content = (f"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n"
               f"property {type_} {name}\nend_header\n0 0 0 {value}\n")
    with pytest.warns(UserWarning, match=words):
        cloud = read(put("scan.ply", content))
    assert list(cloud.attributes) == [f"input_{name}"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(cloud.replace(labels=[3], instances=[3], superpoints=[0], intensity=[1.0]), put("more.ply", ""))
        again = read(put("scan.ply", content).with_name("more.ply"))
    assert np.array_equal(again.attributes[f"input_{name}"], cloud.attributes[f"input_{name}"], equal_nan=True)


def test_normals_computed_for_normals_with_nan_can_be_written(put):
    head = "".join(f"property float {name}\n" for name in ("x", "y", "z", "nx", "ny", "nz"))
    with pytest.warns(UserWarning, match="'nx' as 'input_nx'"):
        cloud = read(put("a.ply", f"ply\nformat ascii 1.0\nelement vertex 2\n{head}end_header\n0 0 0 0 0 nan\n1 0 0 0 0 1\n"))
    assert cloud.normals is None
    write(cloud.replace(normals=np.ones((2, 3))), path := put("b.ply", ""))
    back = read(path)
    assert back.normals.tolist() == [[1, 1, 1]] * 2
    assert np.isnan(back.attributes["input_nz"]).tolist() == [True, False]


def test_half_a_colour_makes_room_for_a_whole_one(put):
    text = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nproperty uchar red\n"
    with pytest.warns(UserWarning, match="'red' as 'input_red'"):
        cloud = read(put("a.ply", f"{text}end_header\n0 0 0 9\n"))
    write(cloud.replace(rgb=np.array([[1, 2, 3]], np.uint8)), path := put("b.ply", ""))
    assert read(path).attributes["input_red"].tolist() == [9]


@pytest.mark.parametrize(("type_", "value", "step"), [("float", 5_000_000, "0.5 m"), ("float", 70_000, "0.00781 m"),
                                                      ("float", 30_000, None), ("double", 5_000_000, None)])
def test_coordinates_too_long_for_their_numbers_are_warned_of(put, type_, value, step):
    axes = "".join(f"property {type_} {axis}\n" for axis in "xyz")
    path = put("a.ply", f"ply\nformat ascii 1.0\nelement vertex 1\n{axes}end_header\n{value} 0 nan\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_ply(path)
    assert [str(w.message) for w in caught if "export them as double" in str(w.message)] == \
        ([f"{path}: coordinates are stored {step} apart: export them as double, or subtract an offset first"] if step else [])


def test_sparse_superpoint_ids_become_dense(put):
    content = ("ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
               "property int superpoint\nend_header\n0 0 0 900\n0 0 1 17\n0 0 2 900\n")
    assert read(put("scan.ply", content)).superpoints.tolist() == [1, 0, 1]


def test_what_ply_cannot_hold_is_left_out_by_name(tmp_path, scan):
    odd = {"big": np.full(60, 2**60 + 1), "höhe": np.zeros(60), "words": np.full(60, "wall"), "a b": np.zeros(60)}
    with pytest.warns(UserWarning, match=r"'big' \(int64\), 'höhe' \(float64\), 'words' \(<U4\), 'a_b' \(float64\)\. It knows"):
        write(scan.replace(attributes={**odd, "a_b": np.ones(60)}), tmp_path / "a.ply")
    assert list(read(tmp_path / "a.ply").attributes) == ["a_b"]


def test_what_is_no_ply_is_refused_by_name(tmp_path, scan):
    with pytest.raises(DataError, match="'red' has the name of another column"):
        write(scan.replace(attributes={"red": np.zeros(60)}), tmp_path / "a.ply")
    with pytest.raises(DataError, match="'label' does not fit 32 bits"):
        write(scan.replace(labels=np.full(60, 2**40)), tmp_path / "a.ply")
    with pytest.raises(ConfigError, match="unknown PLY encoding"):
        write_ply(scan, tmp_path / "a.ply", "utf8")
    assert list(tmp_path.iterdir()) == []

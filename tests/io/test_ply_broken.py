"""Broken PLY files: each is refused with words that name the place and the fault."""

from __future__ import annotations

import struct

import pytest

from pc3d.errors import FormatError
from pc3d.io import read

XYZ = "property float x\nproperty float y\nproperty float z\n"
FACES = "property list uchar int vertex_indices\n"


def header(body: str, encoding: str = "binary_little_endian") -> str:
    return f"ply\nformat {encoding} 1.0\n{body}end_header\n"


# name -> (header text, place, words of the message)
HEADERS = {
    "no_magic": ("plx\n", ":1", "not a PLY file"),
    "text_after_magic": ("ply 1.0\n", ":1", "not a PLY file"),
    "only_magic": ("ply\n", "", "the header has no end"),
    "no_end_header": (f"ply\nformat ascii 1.0\nelement vertex 1\n{XYZ}", "", "the header has no end"),
    "end_header_without_newline": (f"ply\nformat ascii 1.0\nelement vertex 1\n{XYZ}end_header", "", "the header has no end"),
    "words_after_end_header": (f"ply\nformat ascii 1.0\nelement vertex 1\n{XYZ}end_header now\n", "", "unexpected words after"),
    "endless_comment": ("ply\ncomment " + "x" * 70_000 + "\nend_header\n", "", "first 65536 bytes"),
    "no_format": (f"ply\nelement vertex 1\n{XYZ}end_header\n", ":2", "before the format line"),
    "nothing_at_all": ("ply\nend_header\n", "", "no format line"),
    "unknown_format": ("ply\nformat utf8 1.0\nend_header\n", ":2", "unknown PLY format"),
    "unknown_version": ("ply\nformat ascii 2.0\nend_header\n", ":2", "unknown PLY format"),
    "short_format": ("ply\nformat ascii\nend_header\n", ":2", "unknown PLY format"),
    "two_formats": ("ply\nformat ascii 1.0\nformat ascii 1.0\nend_header\n", ":3", "second format line"),
    "unknown_keyword": (header("elemnt vertex 1\n"), ":3", "unknown header keyword"),
    "element_without_count": (header("element vertex\n"), ":3", "bad element line"),
    "negative_count": (header(f"element vertex -1\n{XYZ}"), ":3", "bad element line"),
    "fractional_count": (header(f"element vertex 1.5\n{XYZ}"), ":3", "bad element line"),
    "underscored_count": (header(f"element vertex 1_0\n{XYZ}"), ":3", "bad element line"),
    "absurd_count": (header(f"element vertex {'9' * 40}\n{XYZ}"), ":3", "absurd"),
    "element_twice": (header(f"element vertex 1\n{XYZ}element vertex 1\n{XYZ}"), ":7", "there twice"),
    "property_first": (header(XYZ), ":3", "property before any element"),
    "property_without_name": (header("element vertex 1\nproperty float\n"), ":4", "bad property line"),
    "property_with_three_words": (header("element vertex 1\nproperty float x y\n"), ":4", "bad property line"),
    "unknown_type": (header("element vertex 1\nproperty half x\n"), ":4", "unknown property type"),
    "unknown_list_type": (header("element face 1\nproperty list uchar index i\n"), ":4", "unknown property type"),
    "list_counted_in_floats": (header("element face 1\nproperty list float int i\n"), ":4", "counted in fractions"),
    "short_list": (header("element face 1\nproperty list uchar int\n"), ":4", "bad property line"),
    "property_twice": (header(f"element vertex 1\n{XYZ}property float x\n"), ":7", "there twice"),
    "no_properties": (header("element vertex 1000000000\n"), ":3", "no properties"),
    "no_vertices": (header(f"element face 1\n{FACES}"), "", "no vertices"),
    "no_elements": (header(""), "", "no elements"),
    "no_z": (header("element vertex 1\nproperty float x\nproperty float y\n"), ":3", "have no z"),
    "x_is_a_list": (header("element vertex 1\nproperty list uchar float x\nproperty float y\nproperty float z\n"),
                    ":3", "have no x"),
    "zero_points": (header(f"element vertex 0\n{XYZ}"), ":3", "holds no points"),
    "count_beyond_file": (header(f"element vertex 1000000000000\n{XYZ}"), ":3", "too short for its 1000000000000 rows"),
    "ascii_count_beyond_file": (header(f"element vertex 1000000000\n{XYZ}", "ascii"), ":3", "too short"),
}

TRIANGLE = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)
MESH = header(f"element vertex 3\n{XYZ}element face 1\n{FACES}").encode()
ASCII_CLOUD = header(f"element vertex 2\n{XYZ}property uchar red\n", "ascii").encode()
ASCII_MESH = header(f"element vertex 3\n{XYZ}element face 1\n{FACES}", "ascii").encode() + b"0 0 0\n1 0 0\n0 1 0\n"

# name -> (whole file, place, words of the message)
BODIES = {
    "no_vertex_data": (header(f"element vertex 3\n{XYZ}").encode(), ":3", "too short"),
    "half_a_vertex": (header(f"element vertex 3\n{XYZ}").encode() + TRIANGLE[:-2], ":3", "too short"),
    "faces_cut_off": (MESH + TRIANGLE, ":7", "too short"),
    "face_cut_off": (MESH + TRIANGLE + struct.pack("<Bii", 3, 0, 1), "face row 0", "impossible length"),
    "list_count_beyond_file": (MESH.replace(b"uchar", b"uint") + TRIANGLE + struct.pack("<I3i", 200_000_000, 0, 1, 2),
                               "face row 0", "impossible length; got 200000000"),
    "negative_list_count": (MESH.replace(b"uchar", b"char") + TRIANGLE + struct.pack("<b3i", -3, 0, 1, 2),
                            "face row 0", "impossible length; got -3"),
    "index_too_high": (MESH + TRIANGLE + struct.pack("<B3i", 3, 0, 1, 3), "face row 0", "vertex that does not exist; got 3"),
    "index_negative": (MESH + TRIANGLE + struct.pack("<B3i", 3, 0, -1, 2), "face row 0", "vertex that does not exist; got -1"),
    "polygon_index_too_high": (MESH + TRIANGLE + struct.pack("<B4i", 4, 0, 1, 2, 9), "face row 0", "got 9"),
    "data_after_the_end": (MESH + TRIANGLE + struct.pack("<B3i", 3, 0, 1, 2) + b"more", "",
                           "more data than the header promises"),
    "second_face_cut_off": (MESH.replace(b"face 1", b"face 2") + TRIANGLE + struct.pack("<B3i", 3, 0, 1, 2) + b"\3\0\0",
                            "face row 1", "impossible length"),
    "nan_vertex": (header(f"element vertex 3\n{XYZ}").encode() + struct.pack("<9f", 0, 0, 0, 1, float("nan"), 0, 0, 0, 0),
                   "row 1", "1 of 3 points are not finite"),
    "inf_vertex": (header(f"element vertex 3\n{XYZ}").encode() + struct.pack("<9f", *[0] * 8, float("inf")),
                   "row 2", "1 of 3 points are not finite"),
    "wrong_byte_order_is_not_finite": (header(f"element vertex 1\n{XYZ}").encode() + b"\x7f\xc0\xff\x7f" * 3,
                                       "row 0", "not finite"),
    "ascii_missing_row": (ASCII_CLOUD + b"0 0 0 1                 \n", "vertex row 1", "ends inside its data"),
    "ascii_word": (ASCII_CLOUD + b"0 0 0 1\n0 zero 0 1\n", "vertex row 1", "'y' is not a number; got 'zero'"),
    "ascii_underscore": (ASCII_CLOUD + b"0 0 0 1\n0 1_0 0 1\n", "vertex row 1", "'y' is not a number"),
    "ascii_short_row": (ASCII_CLOUD + b"0 0 0 1\n0 0 0        \n", "vertex row 1", "ends before property 'red'"),
    "ascii_long_row": (ASCII_CLOUD + b"0 0 0 1 7\n0 0 0 1\n", "vertex row 0", "too long; got 5 values; expected 4"),
    "ascii_long_rows": (ASCII_CLOUD + b"0 0 0 1 7\n0 0 0 1 7\n", "vertex row 0", "too long"),
    "ascii_colour_too_high": (ASCII_CLOUD + b"0 0 0 1\n0 0 0 256\n", "vertex row 1", "'red' does not fit its type; got 256"),
    "ascii_fractional_colour": (ASCII_CLOUD + b"0 0 0 0.5\n0 0 0 1\n", "vertex row 0", "'red' does not fit its type; got 0.5"),
    "ascii_extra_row": (ASCII_CLOUD + b"0 0 0 1\n0 0 0 1\n0 0 0 1\n", "", "more data than the header promises; got 1 lines"),
    "ascii_bytes": (ASCII_CLOUD + b"0 0 0 1\n0 0 \xff\xfe 1\n", "", "bytes that are no text"),
    "ascii_list_too_long": (ASCII_MESH + b"4 0 1 2\n", "face row 0", "impossible length; got 4"),
    "ascii_list_negative": (ASCII_MESH + b"-1 0 1 2\n", "face row 0", "impossible length; got -1"),
    "ascii_list_fraction": (ASCII_MESH + b"3 0 1 1.5\n", "face row 0", "not a whole number; got '1.5'"),
    "ascii_list_nan": (ASCII_MESH + b"3 0 1 nan\n", "face row 0", "not a whole number"),
    "ascii_list_inf": (ASCII_MESH + b"inf 0 1 2\n", "face row 0", "not a whole number"),
    "ascii_index_too_high": (ASCII_MESH + b"3 0 1 3\n", "face row 0", "vertex that does not exist"),
    "ascii_nan": (ASCII_CLOUD + b"0 0 0 1\nnan 0 0 1\n", "row 1", "not finite"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_broken_ply_header_is_refused_with_its_line(put, name):
    text, place, words = HEADERS[name]
    path = put(f"{name}.ply", text)
    with pytest.raises(FormatError) as caught:
        read(path)
    assert f"{path}{place}" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", BODIES)
def test_a_broken_ply_body_is_refused_with_its_row(put, name):
    content, place, words = BODIES[name]
    path = put(f"{name}.ply", content)
    with pytest.raises(FormatError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert place in str(caught.value)
    assert words in str(caught.value)


def test_dropping_non_finite_points_says_which_rows_are_left(put):
    content, _, _ = BODIES["nan_vertex"]
    with pytest.warns(UserWarning, match="1 of 3 points are not finite and were dropped"):
        cloud = read(put("nan.ply", content), drop_nonfinite=True)
    assert cloud.metadata["kept_rows"].tolist() == [0, 2]

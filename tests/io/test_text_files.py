"""XYZ and TXT as people have them: with and without names, blanks or commas."""

from __future__ import annotations

import numpy as np
import pytest

from pc3d.errors import DataError, FormatError
from pc3d.io import read, write
from pc3d.structures import PointCloud

LAYOUTS = {
    "blanks": "1 2 3 255 0 7\n4 5 6 1 2 3\n",
    "tabs_and_crlf": "1\t2\t3\t255\t0\t7\r\n4\t5\t6\t1\t2\t3\r\n",
    "commas": "1,2,3,255,0,7\n4,5,6,1,2,3\n",
    "commas_and_blanks": "1, 2, 3, 255, 0, 7\n4, 5, 6, 1, 2, 3\n",
    "semicolons": "1;2;3;255;0;7\n4;5;6;1;2;3\n",
    "names": "x y z r g b\n1 2 3 255 0 7\n4 5 6 1 2 3\n",
    "comma_names": "X,Y,Z,R,G,B\n1,2,3,255,0,7\n4,5,6,1,2,3\n",
    "cloudcompare": "//X Y Z R G B\n1 2 3 255 0 7\n4 5 6 1 2 3\n",
    "commented_names": "# made by hand\n# x y z red green blue\n1 2 3 255 0 7\n4 5 6 1 2 3\n",
    "count_first": "2\n1 2 3 255 0 7\n4 5 6 1 2 3\n",
    "names_in_other_order": "r g b z y x\n255 0 7 3 2 1\n1 2 3 6 5 4\n".replace("r g b z y x", "x r g b z y").replace(
        "255 0 7 3 2 1", "1 255 0 7 3 2").replace("1 2 3 6 5 4", "4 1 2 3 6 5"),
    "blank_lines_and_bom": "\ufeff\n1 2 3 255 0 7\n\n4 5 6 1 2 3\n\n",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_reads_the_same(put, layout):
    cloud = read(put("scan.txt", LAYOUTS[layout]))
    assert cloud.xyz.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert cloud.rgb.tolist() == [[255, 0, 7], [1, 2, 3]]
    assert cloud.attributes == {}


def test_names_reach_the_columns_they_belong_to(put):
    cloud = read(put("scan.txt", "x y z Intensity label gps\n0 0 0 0.5 -1 7\n0 0 1 0.25 3 8.5\n"))
    assert cloud.intensity.tolist() == [0.5, 0.25]
    assert cloud.labels.tolist() == [-1, 3]
    assert cloud.attributes["gps"].tolist() == [7, 8.5]


def test_pts_files_bring_intensity_before_colour(put):
    cloud = read(put("scan.xyz", "1\n0 0 0 -1203 10 20 30\n"))
    assert cloud.intensity.tolist() == [-1203]
    assert cloud.rgb.tolist() == [[10, 20, 30]]


def test_fractions_of_one_are_colours_where_there_is_nothing_else(put):
    cloud = read(put("scan.xyz", "0 0 0 1 0.2 0\n0 0 1 0 0.6 1\n"))
    assert cloud.rgb.tolist() == [[255, 51, 0], [0, 153, 255]]
    assert read(put("more.xyz", "0 0 0 1 0.2 0 7\n0 0 1 0 0.6 1 7\n")).rgb is None


def test_flags_are_not_mistaken_for_colours(put):
    cloud = read(put("scan.xyz", "0 0 0 1 0 1\n0 0 1 1 1 1\n"))
    assert cloud.rgb is None
    assert list(cloud.attributes) == ["column_3", "column_4", "column_5"]


BROKEN = {
    "nothing_but_blanks": ("  \n\n", "", "holds no points"),
    "only_names": ("x y z\n", "", "holds no points"),
    "prose": ("Dear all,\n1 2 3\n", ":1", "neither numbers nor column names"),
    "binary": (b"\x00\x01\x02\x03", "", "not a text file"),
    "two_columns": ("1 2\n3 4\n", ":1", "a point needs three numbers"),
    "word": ("1 2 3\n4 five 6\n", ":2", "not a number; got 'five'"),
    "word_after_blank_line": ("1 2 3\n\n4 five 6\n", ":3", "not a number; got 'five'"),
    "short_row": ("x y z\n1 2 3\n4 5\n", ":3", "another number of columns than the first; got 2"),
    "long_row": ("1 2 3\n4 5 6 7\n", ":2", "another number of columns"),
    "underscore": ("1 2 3\n1 1_0 3\n", ":2", "not a number; got '1_0'"),
    "names_do_not_fit": ("x y z r\n1 2 3\n", "", "line of names does not fit"),
    "name_twice": ("x y z z\n1 2 3 4\n", "", "'z' is there twice"),
    "no_z": ("x y w\n1 2 3\n", "", "points have no z"),
    "wrong_count": ("7\n1 2 3\n", ":1", "does not give the number of points; got 7; expected 1"),
    "nan": ("1 2 3\nnan 5 6\n", "row 1", "1 of 2 points are not finite"),
    "infinite": ("1 2 3\n1e999 5 6\n", "row 1", "not finite"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_text_file_is_refused_with_its_line(put, name):
    content, place, words = BROKEN[name]
    path = put(f"{name}.xyz", content)
    with pytest.raises(FormatError) as caught:
        read(path)
    assert f"{path}{place}" in str(caught.value) or place in str(caught.value)
    assert words in str(caught.value)


def test_the_written_file_is_plain_to_others(tmp_path, scan):
    path = tmp_path / "scan.xyz"
    write(scan.replace(faces=None), path)
    table = np.loadtxt(path)
    assert np.array_equal(table[:, :3].astype(np.float32), scan.xyz)
    assert path.read_text().startswith("# x y z red green blue nx ny nz intensity label instance superpoint alpha")


@pytest.mark.parametrize(("names", "words"), [
    (("i",), "'i' would be read as 'intensity'"), (("Label",), "'Label' would be read as 'label'"),
    (("",), "would be read as ''"),
    (("a b", "a_b"), "two columns would be called 'a_b'")])
def test_what_would_be_read_back_under_another_name_is_not_written(tmp_path, names, words):
    cloud = PointCloud(np.zeros((2, 3)), attributes={name: np.arange(2) for name in names})
    with pytest.raises(DataError, match=words):
        write(cloud, tmp_path / "a.xyz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("values", [np.array(["a", "b"]), np.array([1j, 2]), np.array([None, 1])])
def test_what_is_no_number_is_not_written(tmp_path, values):
    with pytest.raises(DataError, match=r"a\.xyz: attribute 'thing' is no column of numbers"):
        write(PointCloud(np.zeros((2, 3)), attributes={"thing": values}), tmp_path / "a.xyz")

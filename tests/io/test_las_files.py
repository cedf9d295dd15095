"""LAS and LAZ: dimensions, scales and CRS of the file come back, and its header is not believed blindly."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from pc3d.errors import DataError, FormatError
from pc3d.io import read, write
from pc3d.structures import PointCloud

laspy = pytest.importorskip("laspy")
pytest.importorskip("lazrs")

WKT = b'PROJCS["WGS 84 / UTM zone 32N"]\0'


@pytest.fixture
def survey(tmp_path):
    """A LAS 1.4 file as a surveyor's program writes it: UTM, 16-bit colours, an extra dimension, a CRS record."""
    rng = np.random.default_rng(0)
    header = laspy.LasHeader(point_format=7, version="1.4")
    header.scales, header.offsets = np.full(3, 0.001), np.array([500_000.0, 5_000_000.0, 0.0])
    header.vlrs.append(laspy.VLR("LASF_Projection", 2112, "wkt", WKT))
    header.global_encoding.wkt = True
    header.add_extra_dim(laspy.ExtraBytesParams("reflectance", "f4"))
    header.add_extra_dim(laspy.ExtraBytesParams("beam", "3u2"))
    las = laspy.LasData(header)
    las.X, las.Y, las.Z = (rng.integers(-10**5, 10**5, 50) for _ in range(3))
    las.red, las.green, las.blue = (rng.integers(0, 256, 50) * 257 for _ in range(3))
    las.intensity, las.classification = rng.integers(0, 65536, 50), rng.integers(0, 20, 50)
    las.gps_time, las.reflectance, las.beam = rng.random(50) * 1e9, rng.random(50), rng.integers(0, 99, (50, 3))
    las.return_number, las.number_of_returns, las.synthetic = rng.integers(1, 5, 50), np.full(50, 5), rng.integers(0, 2, 50)
    las.write(tmp_path / "survey.las")
    return tmp_path / "survey.las"


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_a_survey_comes_back_point_for_point(survey, suffix):
    write(read(survey), survey.with_name(f"copy.{suffix}"))
    theirs, ours = laspy.read(survey), laspy.read(survey.with_name(f"copy.{suffix}"))
    assert ours.header.are_points_compressed == (suffix == "laz")
    for name in theirs.point_format.dimension_names:
        assert np.array_equal(np.asarray(theirs[name]), np.asarray(ours[name])), name
    assert ours.header.point_format == theirs.header.point_format
    assert ours.header.version == theirs.header.version
    assert np.array_equal(ours.header.scales, theirs.header.scales)
    assert np.array_equal(ours.header.offsets, theirs.header.offsets)
    assert ours.header.vlrs.get("WktCoordinateSystemVlr")[0].record_data_bytes() == WKT
    assert ours.header.global_encoding.wkt


def test_a_survey_becomes_a_cloud_with_small_numbers_and_bytes_of_colour(survey):
    cloud, theirs = read(survey), laspy.read(survey)
    assert np.abs(cloud.world_xyz - theirs.xyz).max() < 1e-4
    assert np.array_equal(cloud.rgb[:, 0], np.asarray(theirs.red) // 257)
    assert np.array_equal(cloud.intensity, theirs.intensity)
    assert cloud.attributes["classification"].dtype == np.uint8
    assert cloud.attributes["beam"].shape == (50, 3)
    assert cloud.metadata["las"]["vlrs"][0][:2] == ("LASF_Projection", 2112)


def test_records_behind_the_points_survive(survey):
    las = laspy.read(survey)
    las.evlrs = laspy.vlrs.vlrlist.VLRList([laspy.VLR("pc3d", 7, "late", b"x" * 70_000)])
    las.write(survey.with_name("late.las"))
    write(read(survey.with_name("late.las")), survey.with_name("copy.las"))
    assert laspy.read(survey.with_name("copy.las")).evlrs[0].record_data_bytes() == b"x" * 70_000


@pytest.mark.parametrize(("point_format", "version"), [
    *[(i, "1.2") for i in range(4)], *[(i, "1.3") for i in range(6)], *[(i, "1.4") for i in range(11)]])
def test_every_point_format_reads_and_writes(tmp_path, point_format, version):
    las = laspy.LasData(laspy.LasHeader(point_format=point_format, version=version))
    las.X, las.Y, las.Z = [1, 2], [3, 4], [5, 6]
    las.write(tmp_path / "a.las")
    cloud = read(tmp_path / "a.las")
    write(cloud.replace(rgb=np.full((2, 3), 7), labels=np.array([-1, 4])), tmp_path / "b.las")
    back = read(tmp_path / "b.las")
    assert np.array_equal(back.world_xyz, cloud.world_xyz)
    assert back.rgb.tolist() == [[7] * 3] * 2
    assert back.labels.tolist() == [-1, 4]


def test_eight_bit_colours_stay_eight_bit(survey):
    las = laspy.read(survey)
    las.red = las.green = las.blue = np.arange(50)
    las.write(survey)
    write(read(survey), survey.with_name("copy.las"))
    assert read(survey).rgb[49].tolist() == [49] * 3
    assert np.array_equal(laspy.read(survey.with_name("copy.las")).red, np.arange(50))


def test_black_colours_are_no_colours(survey):
    las = laspy.read(survey)
    las.red = las.green = las.blue = np.zeros(50, np.uint16)
    las.write(survey)
    assert read(survey).rgb is None


def test_a_cloud_from_elsewhere_keeps_all_its_columns(tmp_path, scan):
    write(scan.replace(faces=None), tmp_path / "a.laz")
    back = read(tmp_path / "a.laz")
    assert np.abs(back.world_xyz - scan.world_xyz).max() < 1e-4
    for name in ("rgb", "normals", "intensity", "labels", "instances", "superpoints"):
        assert np.array_equal(getattr(back, name), getattr(scan, name)), name
    for name, values in scan.attributes.items():
        assert np.array_equal(back.attributes[name], values), name
        assert back.attributes[name].dtype == values.dtype, name


def test_points_that_left_the_files_grid_get_a_new_one(survey):
    moved = read(survey)
    moved = moved.replace(origin=moved.origin + 1e8)
    write(moved, survey.with_name("moved.las"))
    assert np.abs(read(survey.with_name("moved.las")).world_xyz - moved.world_xyz).max() < 1e-4


def test_what_las_cannot_hold_is_refused_by_name(tmp_path):
    cloud = PointCloud(np.zeros((2, 3), np.float32))
    with pytest.raises(DataError, match=r"LAS cannot hold attribute 'x{40}'"):
        write(cloud.replace(attributes={"x" * 40: np.zeros(2)}), tmp_path / "a.las")
    with pytest.raises(DataError, match="LAS cannot hold attribute 'name'"):
        write(cloud.replace(attributes={"name": np.array(["a", "b"])}), tmp_path / "a.las")
    assert list(tmp_path.iterdir()) == []


def patch(offset: int, code: str, value: object):
    def apply(data: bytes) -> bytes:
        changed = bytearray(data)
        struct.pack_into(code, changed, offset, value)
        return bytes(changed)
    return apply


BROKEN = {
    "signature": (patch(0, "<4s", b"LASX"), "not a LAS file"),
    "header_cut": (lambda data: data[:200], "header is cut off"),
    "points_cut": (lambda data: data[:-1], "too short for its 50 points"),
    "points_gone": (lambda data: data[:600], "do not fit the file"),
    "points_offset": (patch(96, "<I", 2**31), "offsets do not fit"),
    "points_inside_header": (patch(96, "<I", 100), "offsets do not fit"),
    "record_count": (patch(100, "<I", 10**6), "offsets do not fit"),
    "unknown_point_format": (patch(104, "<B", 99), ""),
    "row_of_no_bytes": (patch(105, "<H", 0), "points of 0 bytes"),
    "row_too_short": (patch(105, "<H", 21), ""),
    "no_points": (patch(247, "<Q", 0), "holds no points"),
    "count_too_high": (patch(247, "<Q", 51), "too short for its 51 points"),
    "zero_scale": (patch(131, "<d", 0.0), "scale or offset make no sense"),
    "nan_scale": (patch(131, "<d", float("nan")), "scale or offset make no sense"),
    "infinite_offset": (patch(155, "<d", float("inf")), "scale or offset make no sense"),
    "late_records": (patch(243, "<I", 3), "record behind the points"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.filterwarnings("ignore")
def test_a_broken_las_file_is_refused_with_its_fault(survey, name):
    change, words = BROKEN[name]
    survey.write_bytes(change(survey.read_bytes()))
    with pytest.raises(FormatError) as caught:
        read(survey)
    assert str(survey) in str(caught.value)
    assert words in str(caught.value)


@pytest.fixture
def packed(survey):
    """The survey as LAZ."""
    write(read(survey), survey.with_name("packed.laz"))
    return survey.with_name("packed.laz")


def find_laszip(data: bytes) -> int:
    """Position of the contents of the laszip record."""
    return data.index(b"laszip encoded") + 52


def change_chunk_count(data: bytes) -> bytes:
    points_at = struct.unpack_from("<I", data, 96)[0]
    return patch(struct.unpack_from("<q", data, points_at)[0] + 4, "<I", 3_000_000_000)(data)


def change_layer_size(data: bytes) -> bytes:
    row = struct.unpack_from("<H", data, 105)[0]
    return patch(struct.unpack_from("<I", data, 96)[0] + 8 + row + 4, "<I", 4_000_000_000)(data)


# Each of these made lazrs 0.8 ask for gigabytes; the first two ended the process.
LAZ_BOMBS = {
    "chunk_count": (change_chunk_count, "table of chunks makes no sense; got 3000000000 chunks"),
    "chunk_points": (lambda data: patch(find_laszip(data) + 12, "<I", 800_000_000)(data),
                     "chunk is larger than the whole file"),
    "layer_size": (change_layer_size, "chunk 0: the layers of a chunk do not fit it"),
    "item_size": (lambda data: patch(find_laszip(data) + 36, "<H", 60_000)(data), "laszip record does not fit the points"),
    "table_place": (lambda data: patch(struct.unpack_from("<I", data, 96)[0], "<q", 2**60)(data),
                    "table of chunks makes no sense"),
    "no_laszip_record": (lambda data: data.replace(b"laszip encoded", b"laszip forgotte"[:14]), "does not say how"),
    "cut": (lambda data: data[:-40], "table of chunks makes no sense"),
}


@pytest.mark.parametrize("name", LAZ_BOMBS)
def test_a_laz_bomb_is_refused_before_lazrs_believes_it(packed, name):
    change, words = LAZ_BOMBS[name]
    packed.write_bytes(change(packed.read_bytes()))
    with pytest.raises(FormatError) as caught:
        read(packed)
    assert words in str(caught.value)


def test_laz_of_several_chunks_reads_whole(tmp_path):
    xyz = np.random.default_rng(0).integers(-9999, 9999, (120_000, 3)) * 1e-3
    write(PointCloud.from_world(xyz), tmp_path / "a.laz")
    assert np.abs(read(tmp_path / "a.laz").world_xyz - xyz).max() < 1e-4


@pytest.mark.parametrize(("name", "values"), [
    ("classification", [300, 1]), ("user_data", [0.5, 1]), ("return_number", [17, 1]), ("scan_angle", [40_000, 0])])
def test_a_dimension_that_cannot_hold_an_attribute_is_named(tmp_path, name, values):
    with pytest.raises(DataError, match=rf"a\.las: dimension '{name}' of LAS cannot hold this attribute"):
        write(PointCloud(np.zeros((2, 3)), attributes={name: np.array(values)}), tmp_path / "a.las")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["X", "red", "label", "intensity_float"])
def test_an_attribute_cannot_take_the_place_of_another_column(tmp_path, name):
    cloud = PointCloud(np.zeros((2, 3)), rgb=np.full((2, 3), 9), labels=np.zeros(2), intensity=np.array([0.5, 1]),
                       attributes={name: np.array([7, 8])})
    with pytest.raises(DataError, match=f"attribute '{name}' has the name of another column"):
        write(cloud, tmp_path / "a.las")


def test_points_that_are_not_finite_are_not_written(tmp_path):
    with pytest.raises(DataError, match=r"a\.las:row 1: LAS keeps whole numbers"):
        write(PointCloud(np.array([[0, 0, 0], [np.nan, 0, 0]])), tmp_path / "a.las")

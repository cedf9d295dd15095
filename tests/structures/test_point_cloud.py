from __future__ import annotations

import numpy as np
import pytest

from pc3d.errors import DataError
from pc3d.structures import PointCloud
from pc3d.structures.point_cloud import COLUMNS


def full_cloud(rng: np.random.Generator, n: int = 20) -> PointCloud:
    """A cloud with every column; ``attributes['row']`` numbers the rows."""
    return PointCloud(
        xyz=rng.normal(size=(n, 3)), origin=np.array([5e5, 5e6, 100.0]), rgb=rng.integers(0, 256, (n, 3)),
        normals=rng.normal(size=(n, 3)), intensity=rng.random(n), labels=rng.integers(-1, 3, n),
        instances=rng.integers(-1, 4, n),
        superpoints=np.arange(n) // 2, faces=rng.integers(0, n, (30, 3)), attributes={"row": np.arange(n)}, metadata={"a": 1})


@pytest.mark.parametrize("index", [
    slice(3, 11, 2), np.array([5, 0, 5, 19]), np.arange(20) % 3 == 0, [], -1, slice(0, 0)], ids=str)
def test_an_index_selects_the_same_rows_of_every_column(rng: np.random.Generator, index) -> None:
    cloud = full_cloud(rng)
    rows = np.atleast_1d(np.arange(20)[index])
    part = cloud[index]
    assert len(part) == len(rows)
    for name in COLUMNS:
        if name != "superpoints":
            np.testing.assert_array_equal(getattr(part, name), getattr(cloud, name)[rows])
    np.testing.assert_array_equal(part.attributes["row"], rows)
    np.testing.assert_array_equal(part.origin, cloud.origin)
    assert part.metadata == {"a": 1}


def test_superpoints_of_a_part_are_dense_and_group_the_same_points(rng: np.random.Generator) -> None:
    part = full_cloud(rng)[[19, 3, 18, 2, 7]]
    assert part.superpoints is not None
    assert part.superpoints.tolist() == [2, 0, 2, 0, 1]


def test_faces_of_a_part_join_the_same_corners_and_lose_those_with_a_missing_one() -> None:
    cloud = PointCloud(xyz=np.arange(12).reshape(4, 3), faces=np.array([[0, 1, 2], [1, 2, 3]]))
    part = cloud[[3, 2, 1]]
    assert part.faces is not None
    assert part.faces.tolist() == [[2, 1, 0]]
    assert part.xyz[part.faces[0]].tolist() == cloud.xyz[[1, 2, 3]].tolist()


def test_map_coordinates_keep_their_millimetres(rng: np.random.Generator) -> None:
    world = np.array([500_000.0, 5_000_000.0, 100.0]) + rng.random((50, 3)) * 30
    cloud = PointCloud.from_world(world)
    assert cloud.xyz.dtype == np.float32
    np.testing.assert_allclose(cloud.world_xyz, world, atol=1e-5, rtol=0)
    np.testing.assert_allclose(cloud[10:].world_xyz, world[10:], atol=1e-5, rtol=0)


def test_a_room_near_zero_keeps_its_coordinates_as_they_are(rng: np.random.Generator) -> None:
    world = rng.normal(size=(10, 3)).astype(np.float32)
    cloud = PointCloud.from_world(world)
    assert not cloud.origin.any()
    np.testing.assert_array_equal(cloud.xyz, world)


@pytest.mark.parametrize("middle", [500_000, -500_000])
def test_float32_map_coordinates_move_into_the_origin_without_losing_a_bit(rng: np.random.Generator, middle: float) -> None:
    world = (rng.normal(size=(50, 3)) * 300 + [middle, 5_000_000, 1]).astype(np.float32)
    cloud = PointCloud.from_world(world)
    np.testing.assert_array_equal(cloud.world_xyz, world)
    assert np.abs(cloud.xyz).max() < 3000


def test_a_broken_row_does_not_move_the_origin() -> None:
    cloud = PointCloud.from_world(np.array([[np.nan, 0, 0], [5e5, 5e6, 1], [-np.inf, 0, 0]]))
    assert cloud.origin.tolist() == [5e5, 5e6, 1]
    with pytest.raises(DataError, match="row 0"):
        cloud.validate()


@pytest.mark.parametrize("count", [0, 1])
def test_tiny_clouds_work(count: int) -> None:
    cloud = PointCloud.from_world(np.zeros((count, 3)), labels=np.zeros(count))
    assert len(cloud) == len(cloud[:]) == count
    assert cloud.validate(min_points=count) is cloud


@pytest.mark.parametrize(("columns", "message"), [
    ({"rgb": np.zeros((4, 3))}, "column 'rgb' does not fit"),
    ({"labels": np.zeros((5, 1))}, "column 'labels' does not fit"),
    ({"xyz": np.zeros(5)}, "column 'xyz' does not fit"),
    ({"xyz": np.zeros((5, 2))}, "column 'xyz' does not fit"),
    ({"attributes": {"a": np.zeros(3)}}, "attribute 'a' does not fit"),
    ({"origin": np.zeros(2)}, "origin must be one point"),
    ({"faces": np.zeros((3, 4))}, "triangles"),
    ({"rgb": np.full((5, 3), 0.5)}, "row 0: column 'rgb'.*0 to 255"),
    ({"rgb": np.full((5, 3), 256)}, "column 'rgb' holds values"),
    ({"labels": np.array([0, 1, np.nan, 3, 4])}, "row 2: column 'labels'"),
    ({"superpoints": np.full(5, 2**63, dtype=np.uint64)}, "column 'superpoints' holds"),
])
def test_columns_that_do_not_fit_are_refused(columns: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        PointCloud(**{"xyz": np.zeros((5, 3)), **columns})


@pytest.mark.parametrize(("column", "value"), [("xyz", np.inf), ("normals", np.nan), ("intensity", -np.inf)])
def test_validate_names_the_first_bad_row(rng: np.random.Generator, column: str, value: float) -> None:
    cloud = full_cloud(rng)
    getattr(cloud, column)[[7, 12]] = value
    with pytest.raises(DataError, match=rf"scan\.ply:row 7: 2 rows of '{column}' are not finite") as caught:
        cloud.validate(source="scan.ply")
    advice = str(caught.value).split("points out: ")[1].rstrip(".")
    eval(advice, {"np": np, "cloud": cloud}).validate()     # what is advised is enough


def test_validate_names_the_first_bad_face_superpoint_and_origin(rng: np.random.Generator) -> None:
    cloud = full_cloud(rng)
    with pytest.raises(DataError, match="face 1"):
        cloud.replace(faces=np.array([[0, 1, 2], [0, 20, 2]])).validate()
    with pytest.raises(DataError, match="row 3"):
        cloud.replace(superpoints=np.where(np.arange(20) == 3, -1, 0)).validate()
    with pytest.raises(DataError, match="origin"):
        cloud.replace(origin=np.array([0, np.nan, 0])).validate()
    with pytest.raises(DataError, match="too few points; got 20; expected at least 21"):
        cloud.validate(min_points=21)
    assert cloud.validate() is cloud


def test_its_repr_says_what_it_holds(rng: np.random.Generator) -> None:
    assert repr(PointCloud(xyz=np.zeros((2, 3)))) == "PointCloud(2 points; xyz only)"
    assert "30 faces; rgb, normals, intensity" in repr(full_cloud(rng))

"""Large scans in overlapping squares."""

import numpy as np
import pytest

from pc3d.transforms import cut_tiles
from pc3d.transforms.tiles import OVERLAP, SLACK


def points(width: float, depth: float, count: int = 3000) -> np.ndarray:
    return (np.random.default_rng(0).random((count, 3)) * [width, depth, 3]).astype(np.float32)


@pytest.mark.parametrize("size", [None, 8.0])
def test_a_scan_that_fits_is_one_tile_of_all_rows(size):
    tiles = cut_tiles(points(SLACK * 8 - 0.01, 5), size)
    assert len(tiles) == 1
    np.testing.assert_array_equal(tiles[0], np.arange(3000))
    assert [len(tile) for tile in cut_tiles(np.zeros((0, 3), np.float32), size)] == [0]


@pytest.mark.parametrize(("width", "depth", "size"), [(40, 25, 8.0), (18, 3, 8.0), (30, 30, 3.0), (100, 10.4, 20.0)])
def test_tiles_are_small_and_what_is_no_wider_than_the_overlap_lies_whole_in_one(width, depth, size):
    xyz = points(width, depth)
    tiles = cut_tiles(xyz, size)
    assert len(tiles) > 1
    inside = np.zeros((len(tiles), len(xyz)), bool)
    for number, rows in enumerate(tiles):
        assert (np.diff(rows) > 0).all()
        assert np.ptp(xyz[rows, :2], axis=0).max() <= SLACK * size
        inside[number, rows] = True
    assert inside.any(axis=0).all()
    near = (np.abs(xyz[:, None, :2] - xyz[None, :, :2]) <= min(OVERLAP, size / 2)).all(axis=2)
    together = inside.T.astype(np.float32) @ inside > 0
    assert together[near].all()


def test_squares_without_points_are_left_out():
    corners = np.concatenate([points(4, 4, 50), points(4, 4, 50) + np.float32(60)])
    assert sorted(len(rows) for rows in cut_tiles(corners, 8.0)) == [50, 50]


def test_points_far_away_cost_no_more_than_their_own_squares():
    xyz = np.concatenate([points(4, 4, 50), [[3e30, 0, 0], [2e9, -1e12, 1]]]).astype(np.float32)
    assert sorted(len(rows) for rows in cut_tiles(xyz, 8.0)) == [1, 1, 50]


def test_rows_at_the_ends_are_in_a_square_whatever_is_rounded(rng):
    for length, size in zip(rng.uniform(40, 200, 500), rng.uniform(1, 20, 500)):
        xyz = np.array([[0, 0, 0], [length / 2, 0, 0], [length, 0, 0]], np.float32) + rng.normal(size=3).astype(np.float32)
        assert np.unique(np.concatenate(cut_tiles(xyz, size))).tolist() == [0, 1, 2]

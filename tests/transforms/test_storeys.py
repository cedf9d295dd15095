import numpy as np
import pytest

from pc3d.structures import PointCloud
from pc3d.transforms import random_window, wall_to_wall


def room(rng, size, count=400):
    return PointCloud(xyz=rng.random((count, 3)) * [*size, 2.5] - [50, -3, 1], labels=np.zeros(count),
                      instances=rng.integers(-1, 5, count), superpoints=np.arange(count) // 10)


@pytest.fixture
def rooms(rng):
    return [room(rng, size) for size in ((3, 4), (5, 2), (1, 6), (4, 4), (2, 2))]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def boxes(storey, rooms):
    ends = np.cumsum([len(each) for each in rooms])
    parts = [storey.xyz[end - len(each):end] for each, end in zip(rooms, ends)]
    return [(part.min(axis=0), part.max(axis=0)) for part in parts]


def test_rooms_keep_their_shape_and_height_and_do_not_overlap(rooms):
    storey = wall_to_wall(rooms)
    places = boxes(storey, rooms)
    for each, (low, high) in zip(rooms, places):
        assert np.allclose(high - low, np.ptp(each.xyz, axis=0), atol=1e-5)
        assert low[2] == each.xyz[:, 2].min()
    for number, (low, high) in enumerate(places):
        for other_low, other_high in places[:number]:
            assert np.any((low[:2] >= other_high[:2] + 0.19) | (other_low[:2] >= high[:2] + 0.19))


def test_instances_and_superpoints_of_two_rooms_are_different_ones(rooms):
    storey = wall_to_wall(rooms)
    assert storey.superpoints.max() + 1 == len(np.unique(storey.superpoints)) == 5 * 40
    assert len(np.unique(storey.instances)) == 1 + 5 * 5        # -1 stays what it is
    assert np.array_equal(storey.instances < 0, np.concatenate([each.instances for each in rooms]) < 0)


def test_a_column_that_one_room_lacks_is_left_out(rooms):
    with_colours = [each.replace(rgb=np.full((len(each), 3), 7)) for each in rooms]
    assert wall_to_wall(with_colours).rgb.shape == (2000, 3)
    assert wall_to_wall([*with_colours[1:], rooms[0]]).rgb is None


@pytest.mark.parametrize("side", [1.5, 4.0, 100.0])
def test_a_window_is_a_square_that_holds_all_there_is_in_it(rooms, rng, side):
    storey = wall_to_wall(rooms)
    inside, whole = random_window(storey, side, rng), np.ptp(storey.xyz[:, :2], axis=0)
    assert len(inside) > 0
    assert np.all(np.ptp(inside.xyz[:, :2], axis=0) <= np.minimum(whole, side) + 1e-5)
    low, high = inside.xyz.min(axis=0)[:2], inside.xyz.max(axis=0)[:2]
    assert len(inside) == np.sum(np.all((storey.xyz[:, :2] >= low) & (storey.xyz[:, :2] <= high), axis=1))
    assert (len(inside) == len(storey)) == (side == 100.0)


def test_windows_show_parts_of_all_rooms_and_mostly_of_several(rooms, rng):
    storey = wall_to_wall(rooms)
    storey = storey.replace(labels=np.repeat(np.arange(5), 400))
    seen = [np.unique(random_window(storey, 4.0, rng).labels) for _ in range(50)]
    assert set(np.concatenate(seen)) == set(range(5))
    assert sum(len(labels) > 1 for labels in seen) > 25

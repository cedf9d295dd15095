"""A scan seen from its four sides."""

import numpy as np
import pytest

from pc3d.structures import PointCloud
from pc3d.transforms import view


@pytest.fixture
def cloud():
    rng = np.random.default_rng(0)
    return PointCloud(xyz=rng.normal(size=(9, 3)), normals=rng.normal(size=(9, 3)), labels=np.arange(9))


def test_view_0_is_the_cloud_itself(cloud):
    assert view(cloud, 0) is cloud


@pytest.mark.parametrize(("index", "degrees"), [(1, 180), (2, 90), (3, 270)])
def test_views_are_quarter_turns_about_z_to_the_bit(cloud, index, degrees):
    c, s = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
    turned = view(cloud, index)
    np.testing.assert_array_equal(turned.xyz, cloud.xyz @ turn.T)
    np.testing.assert_array_equal(turned.normals, cloud.normals @ turn.T)
    np.testing.assert_array_equal(turned.labels, cloud.labels)


def test_a_cloud_without_normals_turns(cloud):
    assert view(cloud.replace(normals=None), 2).normals is None


def test_every_second_view_is_without_colours_where_asked(cloud):
    cloud = cloud.replace(rgb=np.full((9, 3), 7, np.uint8))
    assert [view(cloud, index, grey=True).rgb is None for index in range(4)] == [False, True, False, True]
    assert all(view(cloud, index).rgb is not None for index in range(4))

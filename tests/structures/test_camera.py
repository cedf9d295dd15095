from __future__ import annotations

import numpy as np
import pytest

from pc3d.errors import DataError
from pc3d.structures import Camera, Frame


def test_a_camera_and_its_matrix_are_the_same() -> None:
    matrix = np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]])
    camera = Camera.from_matrix(matrix, 640, 480)
    np.testing.assert_array_equal(camera.matrix, matrix)
    assert Camera.from_matrix(np.pad(matrix, (0, 1)), 640, 480) == camera


@pytest.mark.parametrize("change", [{"width": 0}, {"fx": 0.0}, {"fy": -1.0}, {"cx": np.nan}])
def test_intrinsics_that_make_no_sense_are_refused(change: dict) -> None:
    values = {"width": 4, "height": 3, "fx": 1.0, "fy": 1.0, "cx": 2.0, "cy": 1.5}
    with pytest.raises(DataError, match="intrinsics"):
        Camera(**{**values, **change})


def frame(pose: np.ndarray, read_rgb) -> Frame:
    camera = Camera(4, 3, 1.0, 1.0, 2.0, 1.5)
    return Frame("f7", camera, camera, pose, read_rgb, lambda: np.ones((3, 4), np.float32))


def test_images_are_read_when_asked_for_and_not_kept() -> None:
    reads = []
    one = frame(np.eye(4), lambda: reads.append(1) or np.zeros((3, 4, 3), np.uint8))
    assert reads == []
    assert one.rgb.shape == (3, 4, 3)
    assert one.depth.dtype == np.float32
    assert one.rgb is not one.rgb
    assert reads == [1, 1, 1]


def test_a_frame_without_a_pose_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="frame f7"):
        frame(np.full((4, 4), -np.inf), None)

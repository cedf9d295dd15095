"""Lenses bend as OpenCV says, come back, and never show what lies beyond their edge."""

from __future__ import annotations

import numpy as np
import pytest

from pc3d.errors import DataError
from pc3d.structures import Camera, Lens

LENSES = {"radial": Lens((0.1, -0.05, 0.01)), "tangential": Lens((-0.2, 0.05), (0.003, -0.002)),
          "rational": Lens((0.3, 0.1, 0.02, 0.25, 0.05, 0.01)), "fisheye": Lens((0.02, -0.01, 0.003, -0.0005), fisheye=True)}


@pytest.mark.parametrize("name", LENSES)
def test_a_bent_point_comes_back(name):
    angle = np.linspace(0, 2 * np.pi, 40)
    ideal = np.concatenate([r * np.stack([np.cos(angle), np.sin(angle)], axis=1) for r in (0.0, 0.1, 0.5, 0.9)])
    np.testing.assert_allclose(LENSES[name].undistort(LENSES[name].distort(ideal)), ideal, atol=2e-6)


def test_values_are_those_of_opencvs_formulas():
    x, y = 0.3, -0.2
    r2 = x * x + y * y
    radial = (1 + 0.1 * r2 - 0.05 * r2**2 + 0.01 * r2**3) / (1 + 0.02 * r2)
    lens = Lens((0.1, -0.05, 0.01, 0.02), (0.003, -0.002))
    expected = [x * radial + 2 * 0.003 * x * y - 0.002 * (r2 + 2 * x * x),
                y * radial + 0.003 * (r2 + 2 * y * y) - 0.004 * x * y]
    np.testing.assert_allclose(lens.distort(np.array([[x, y]]))[0], expected, rtol=1e-12)
    fisheye, theta = Lens((0.02, -0.01), fisheye=True), np.arctan(np.sqrt(r2))
    length = theta * (1 + 0.02 * theta**2 - 0.01 * theta**4)
    np.testing.assert_allclose(np.linalg.norm(fisheye.distort(np.array([[x, y]]))), length, rtol=1e-12)


def test_a_lens_that_folds_back_shows_nothing_beyond_the_fold():
    lens = Lens((-0.3,))                                  # r - 0.3 r^3 turns at r = 1.054
    assert lens.max_radius == pytest.approx(np.sqrt(1 / 0.9), abs=2e-3)
    assert np.isnan(lens.distort(np.array([[1.2, 0.0]]))).all()
    pixel = Camera(100, 100, 50, 50, 50, 50, lens).project(np.array([[0, 0, 1.0], [2.4, 0, 2.0], [0, 0, -1.0]]))
    np.testing.assert_allclose(pixel[0], [50, 50])
    assert np.isnan(pixel[1:]).all()


def test_coefficients_that_are_none_are_refused():
    with pytest.raises(DataError, match="no lens coefficients"):
        Lens((np.nan,))
    with pytest.raises(DataError, match="of a fisheye 4"):
        Lens((0, 0, 0, 0, 0.0), fisheye=True)

"""The check finds the one reading of poses and depth that fits, names it in the words the options take, and admits defeat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pc3d.errors import ConfigError, DataError, FormatError
from pc3d.lift import FrameMasks, Lifter
from pc3d.lift.conventions import ALIGNED, Convention, check_conventions, find_alignments, resolve_alignment
from pc3d.structures import PointCloud

OPENGL = np.diag([1.0, -1, -1, 1])
TURN = np.array([[0.0, -1, 0, 0.7], [1, 0, 0, -0.3], [0, 0, 1, 0.2], [0, 0, 0, 1]])


def spoil(frame, *, world_to_camera=False, opengl=False, depth_scale=1.0):
    """The frame as another convention would have written it."""
    pose = frame.T_world_camera @ OPENGL if opengl else frame.T_world_camera
    depth = frame.depth / np.float32(depth_scale)
    return replace(frame, T_world_camera=np.linalg.inv(pose) if world_to_camera else pose, read_depth=lambda: depth)


@pytest.mark.parametrize("world_to_camera", [False, True])
@pytest.mark.parametrize("opengl", [False, True])
@pytest.mark.parametrize("depth_scale", [1.0, 1000.0, 0.2])
def test_the_right_reading_stands_out(scene, world_to_camera, opengl, depth_scale):
    frames = [spoil(f, world_to_camera=world_to_camera, opengl=opengl, depth_scale=depth_scale) for f in scene.frames[::3]]
    result = check_conventions(frames, scene.cloud)
    assert result.best is not None
    assert result.best.convention == Convention(world_to_camera, opengl, depth_scale)
    assert result.best.share > 0.95
    text = str(result.best.convention)
    assert Convention.parse(text) == result.best.convention
    assert result.advice() == (f"add --convention {text}" if text else "poses and depth fit the scan as they are read")
    fixed = result.best.convention.apply(frames[0])
    np.testing.assert_allclose(fixed.T_world_camera, scene.frames[0].T_world_camera, atol=1e-9)
    np.testing.assert_allclose(fixed.depth, scene.frames[0].depth, rtol=1e-5)


def test_a_turned_scan_is_found_by_its_own_note_or_by_scannets_file(scene, tmp_path):
    xyz = scene.cloud.xyz @ TURN[:3, :3].T + TURN[:3, 3]
    numbers = " ".join(map(str, TURN.ravel()))
    cloud = scene.cloud.replace(xyz=xyz.astype(np.float32), metadata={"ply": {"comments": [f"{ALIGNED} {numbers}"]}})
    result = check_conventions(scene.frames[::4], cloud, find_alignments(cloud))
    assert result.best.alignment == "scan"
    assert result.advice().startswith("poses and depth fit")    # because it is taken by itself
    np.testing.assert_allclose(resolve_alignment("auto", find_alignments(cloud)), TURN)

    (tmp_path / "scene0000_00.txt").write_text(f"appVersion = 1\naxisAlignment = {numbers} \n")
    bare = cloud.replace(metadata={})
    known = find_alignments(bare, tmp_path / "scene0000_00_vh_clean_2.ply")
    assert check_conventions(scene.frames[::4], bare, known).advice() == "add --alignment axis"
    np.testing.assert_allclose(resolve_alignment("axis", known), TURN)
    np.testing.assert_allclose(resolve_alignment("none", known), np.eye(4))
    with pytest.raises(ConfigError, match="expected auto, none, axis or a file"):
        resolve_alignment("scan", known)


def test_of_several_scenes_notes_that_of_the_scan_counts(tmp_path):
    for name, value in (("scene0000", 1), ("scene0000_00", 2), ("scene0001_00", 3)):
        (tmp_path / f"{name}.txt").write_text(f"axisAlignment = {f'{value} ' * 16}\n")
    (tmp_path / "scene0002_00.txt").mkdir()
    for name, value in (("scene0000_00_vh_clean_2.ply", 2), ("scene0001_00.ply", 3)):
        assert find_alignments(PointCloud(xyz=np.zeros((1, 3), np.float32)), tmp_path / name)["axis"][0, 0] == value


def test_a_note_that_is_no_matrix_is_refused_with_its_place(scene, tmp_path):
    with pytest.raises(FormatError, match="comment T_aligned_world: this is no 4x4 matrix; got '1 2'"):
        find_alignments(scene.cloud.replace(metadata={"ply": {"comments": [f"{ALIGNED} 1 2"]}}))
    (tmp_path / "a.txt").write_text("axisAlignment = 1 x\n")
    with pytest.raises(FormatError, match=r"a\.txt: this is no 4x4 matrix; got '1 x'"):
        find_alignments(scene.cloud, tmp_path / "a.ply")


def test_a_world_of_another_scale_is_lifted_as_it_is_checked(scene):
    """The frames' world has units of half a metre, depth too."""
    T_scan_world = np.block([[2 * TURN[:3, :3], np.array([[1.0], [2], [3]])], [0, 0, 0, 1]])
    unit = np.linalg.inv(T_scan_world)
    frames = []
    for frame in scene.frames[::4]:
        pose = frame.T_world_camera.copy()
        pose[:3] = unit[:3] @ pose
        pose[:3, :3] *= 2
        frames.append(replace(frame, T_world_camera=pose, read_depth=lambda depth=frame.depth: depth / 2))
    assert check_conventions(frames, scene.cloud, {"file": T_scan_world}).advice() == "add --alignment file"
    as_given, turned = Lifter(scene.cloud), Lifter(scene.cloud)
    for given, frame in zip(scene.frames[::4], frames):
        as_given.add(given, FrameMasks.empty())
        turned.add(Convention().apply(frame, T_scan_world), FrameMasks.empty())
    seen, expected = turned.votes().visible, as_given.votes().visible
    assert abs(seen - expected).sum() < 0.01 * expected.sum()
    with pytest.raises(DataError, match="must not mirror"):
        frames[0].moved(np.diag([1.0, 1, -1, 1]))


def test_frames_of_another_place_fit_in_no_way(scene):
    rng = np.random.default_rng(0)
    elsewhere = [replace(f, T_world_camera=f.T_world_camera + np.pad(rng.uniform(-9, 9, (3, 1)), ((0, 1), (3, 0))))
                 for f in scene.frames[::3]]
    result = check_conventions(elsewhere, scene.cloud)
    assert result.best is None
    assert "no reading fits" in result.advice()


def test_without_depth_there_is_nothing_to_check(scene):
    with pytest.raises(DataError, match="the check needs depth, and no frame has any"):
        check_conventions([replace(scene.frames[0], read_depth=None)], scene.cloud)


def test_unknown_words_are_refused():
    assert Convention.parse("c2w, opencv") == Convention()
    for text in ("w2cc", "depth=0", "depth=abc"):
        with pytest.raises(ConfigError, match="unknown convention"):
            Convention.parse(text)

"""Posed RGB-D folders: pairs, order, units, and poses that are none."""

from __future__ import annotations

import numpy as np
import pytest

from pc3d.errors import DataError, FileError, FormatError
from pc3d.io import read_frames

Image = pytest.importorskip("PIL.Image")

K = np.array([[50.0, 0, 8], [0, 51, 6], [0, 0, 1]])


def pose_of(frame: int) -> np.ndarray:
    angle = 0.1 * frame
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[:3, 3] = frame, 0, 1
    return pose


@pytest.fixture
def folder(tmp_path):
    """11 frames 0..10 of 16x12 pixels; frame i is red i, and i00 millimetres deep."""
    for name in ("color", "depth"):
        (tmp_path / name).mkdir()
    for i in range(11):
        rgb = np.zeros((12, 16, 3), np.uint8)
        rgb[..., 0] = i
        Image.fromarray(rgb).save(tmp_path / f"color/{i}.png")
        Image.fromarray(np.full((12, 16), 100 * i, np.uint16)).save(tmp_path / f"depth/{i}.png")
    np.savetxt(tmp_path / "K.txt", K)
    np.savetxt(tmp_path / "poses.txt", [pose_of(i).ravel() for i in range(11)])
    return tmp_path


def test_frames_come_in_the_order_of_their_numbers_with_metres_and_red_first(folder):
    frames = read_frames(folder)
    assert [frame.name for frame in frames] == [str(i) for i in range(11)]
    for i, frame in enumerate(frames):
        assert frame.rgb[0, 0].tolist() == [i, 0, 0]
        assert np.allclose(frame.depth, 0.1 * i)
        assert frame.depth.dtype == np.float32
        assert np.allclose(frame.T_world_camera, pose_of(i))
    assert (frames[0].camera.width, frames[0].camera.height, frames[0].camera.fy, frames[0].camera.cx) == (16, 12, 51, 8)


def test_images_are_read_only_when_asked_for(folder):
    frames = read_frames(folder)
    (folder / "color/5.png").unlink()
    (folder / "depth/6.png").write_bytes(b"no image")
    assert frames[4].rgb.shape == (12, 16, 3)
    with pytest.raises(FileError, match=r"5\.png"):
        _ = frames[5].rgb
    with pytest.raises(FormatError, match=r"6\.png: the image cannot be read"):
        _ = frames[6].depth


@pytest.mark.parametrize("layout", ["rows_of_4", "rows_of_12", "pose_folder"])
def test_poses_may_be_laid_out_in_other_ways(folder, layout):
    poses = np.stack([pose_of(i) for i in range(11)])
    if layout == "pose_folder":
        (folder / "poses.txt").unlink()
        (folder / "pose").mkdir()
        for i, pose in enumerate(poses):
            np.savetxt(folder / f"pose/{i}.txt", pose)
    else:
        np.savetxt(folder / "poses.txt", poses.reshape(-1, 4) if layout == "rows_of_4" else poses[:, :3].reshape(-1, 12))
    assert np.allclose([frame.T_world_camera for frame in read_frames(folder)], poses)


def test_frames_without_a_pose_are_left_out_and_counted(folder):
    poses = np.stack([pose_of(i) for i in range(11)])
    poses[2], poses[7], poses[9] = -np.inf, np.nan, 2 * poses[9]     # ScanNet's mark, a lost pose, no rotation
    np.savetxt(folder / "poses.txt", poses.reshape(11, 16))
    reasons = r"2 \(pose not finite \(tracking lost\)\), 1 \(pose not rigid\)"
    with pytest.warns(UserWarning, match=f"3 of 11 frames are left out: {reasons}"):
        frames = read_frames(folder)
    assert [frame.name for frame in frames] == ["0", "1", "3", "4", "5", "6", "8", "10"]
    assert frames[2].rgb[0, 0, 0] == 3


def test_depth_of_another_resolution_gets_scaled_or_its_own_intrinsics(folder):
    for path in (folder / "depth").iterdir():
        Image.fromarray(np.zeros((6, 8), np.uint16)).save(path)
    camera = read_frames(folder)[0].depth_camera
    assert (camera.width, camera.fx, camera.fy, camera.cx) == (8, 25, 25.5, 3.75)   # middles of pixels, not corners
    np.savetxt(folder / "K_depth.txt", 2 * K)
    assert read_frames(folder)[0].depth_camera.fx == 100


def test_scannets_names_of_the_same_folder_work(folder):
    (folder / "intrinsic").mkdir()
    (folder / "K.txt").unlink()
    for name in ("color", "depth"):
        matrix = np.eye(4)
        matrix[:3, :3] = K
        np.savetxt(folder / f"intrinsic/intrinsic_{name}.txt", matrix)
    assert read_frames(folder)[0].camera.fx == 50


def rename_all(folder, pattern):
    """Give every image another number."""
    for path in list(folder.iterdir()):
        path.rename(folder / pattern.format(f"{int(path.stem):03}"))


def test_a_frame_without_depth_or_with_a_broken_first_image_costs_only_itself(folder):
    (folder / "depth/3.png").unlink()
    (folder / "color/0.png").write_bytes(b"\x89PNG")
    with pytest.warns(UserWarning, match=r"1 of 11 frames are left out: 1 \(no depth image\)"):
        frames = read_frames(folder)
    assert [frame.name for frame in frames] == ["0", "1", "2", "4", "5", "6", "7", "8", "9", "10"]
    assert frames[3].rgb[0, 0, 0] == 4
    assert frames.skipped == {"3": "no depth image"}


def test_without_a_depth_folder_frames_are_colour_only(folder):
    for path in (folder / "depth").iterdir():
        path.unlink()
    (folder / "depth").rmdir()
    frame = read_frames(folder)[2]
    assert not frame.has_depth
    with pytest.raises(DataError, match="frame 2: the frame has no depth image"):
        _ = frame.depth


BROKEN = {
    "no_color": (lambda f: (f / "color").rename(f / "pictures"), FormatError, "no known layout of posed images"),
    "empty_depth": (lambda f: [p.unlink() for p in (f / "depth").iterdir()], FileError, "holds no such files"),
    "no_intrinsics": (lambda f: (f / "K.txt").unlink(), FileError, "no camera intrinsics; expected one of K.txt"),
    "no_poses": (lambda f: (f / "poses.txt").unlink(), FileError, "poses.txt: there is no such file"),
    "one_pose_missing": (lambda f: np.savetxt(f / "poses.txt", np.zeros((10, 16))), FormatError, "11 colour images, 10 poses"),
    "names_do_not_pair": (lambda f: rename_all(f / "depth", "1{}.png"), FormatError, "do not pair up"),
    "two_of_a_number": (lambda f: (f / "color/01.png").write_bytes(b"x"), FormatError, "two files belong to one frame"),
    "pose_rows_of_5": (lambda f: np.savetxt(f / "poses.txt", np.zeros((11, 5))), FormatError, "no poses; got 11 rows of 5"),
    "pose_words": (lambda f: (f / "poses.txt").write_text("here and there"), FormatError, "not rows of numbers"),
    "poses_empty": (lambda f: (f / "poses.txt").write_text(""), FormatError, "the file is empty"),
    "poses_blank": (lambda f: (f / "poses.txt").write_text("\n\n"), FormatError, "holds no numbers"),
    "all_poses_lost": (lambda f: np.savetxt(f / "poses.txt", np.full((11, 16), -np.inf)), FormatError,
                       "no frame can be used; got 11 frames: 11 (pose not"),
    "intrinsics_shape": (lambda f: np.savetxt(f / "K.txt", np.zeros((2, 2))), FormatError, "no camera intrinsics"),
    "intrinsics_zero": (lambda f: np.savetxt(f / "K.txt", np.zeros((3, 3))), FormatError, "no camera intrinsics"),
    "all_images_broken": (lambda f: [p.write_bytes(b"\x89PNG") for p in (f / "color").iterdir()], FormatError,
                          "image cannot be read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_refused_with_its_fault(folder, name):
    action, error, words = BROKEN[name]
    action(folder)
    with pytest.raises(error) as caught:
        read_frames(folder)
    assert str(folder) in str(caught.value)
    assert words in str(caught.value)


def test_images_that_differ_from_the_first_are_refused(folder):
    frames = read_frames(folder)
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(folder / "color/1.png")
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(folder / "depth/1.png")
    with pytest.raises(FormatError, match=r"another size than the first; got 4x3; expected 16x12"):
        _ = frames[1].rgb
    with pytest.raises(FormatError, match="no depth image; got uint8"):
        _ = frames[1].depth

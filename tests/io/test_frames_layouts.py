"""The same four views in every layout: whatever a file says of poses, axes, units and pixels, the frames are the same."""

from __future__ import annotations

import contextlib
import json
import struct
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest

from pc3d.errors import ConfigError, DataError, FileError, FormatError, Pc3dError
from pc3d.io import read_frames, write_sens
from pc3d.io.frames import LAYOUTS
from pc3d.io.frames.poses import OPENGL
from pc3d.structures import Camera, Frame, Lens
from tests.io.test_fuzz import damage

Image = pytest.importorskip("PIL.Image")

WIDTH, HEIGHT = 24, 16
CAMERA = Camera(WIDTH, HEIGHT, 20.0, 21.0, 11.0, 7.5)
K = CAMERA.matrix
COUNT = 4


def pose_of(i: int) -> np.ndarray:
    """Turned about a slanted axis, so that no convention can be mistaken for another."""
    x, y = 0.3 + 0.2 * i, 0.1 + 0.15 * i
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    pose = np.eye(4)
    pose[:3, :3] = about_x @ about_y
    pose[:3, 3] = 1 + i, 2, 3
    return pose


POSES = np.stack([pose_of(i) for i in range(COUNT)])
INVERSES = np.linalg.inv(POSES)


def rgb_of(i: int) -> np.ndarray:
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgb[..., 0], rgb[..., 2] = 40 * i, 200
    return rgb


def depth_of(i: int) -> np.ndarray:
    """Metres in steps that every unit can hold nearly."""
    return np.full((HEIGHT, WIDTH), 1 + 0.5 * i, np.float32)


def quaternion(rotation: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return np.array([w, x, y, z])


def save_images(folder, colour="color/{}.png", depth="depth/{}.png", unit=0.001):
    for i in range(COUNT):
        for path, values in ((colour, rgb_of(i)), (depth, np.rint(depth_of(i) / unit).astype(np.uint16))):
            if path is not None:
                target = folder / path.format(i)
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(target)


def write_folder(folder):
    save_images(folder)
    np.savetxt(folder / "K.txt", K)
    np.savetxt(folder / "poses.txt", POSES.reshape(-1, 16))


def write_scannet(folder):
    save_images(folder, "data/color/{}.png", "data/depth/{:06d}.png")
    (folder / "data/pose").mkdir()
    (folder / "data/intrinsics").mkdir()
    for i, pose in enumerate(POSES):
        np.savetxt(folder / f"data/pose/{i}.txt", pose)
    np.savetxt(folder / "data/intrinsics/intrinsic_color.txt", np.block([[K, np.zeros((3, 1))], [0, 0, 0, 1]]))


def write_flat(folder):
    save_images(folder, "{:05d}.jpg", "{:05d}.png")
    for i, pose in enumerate(POSES):
        np.savetxt(folder / f"{i:05d}.txt", pose)
    np.savetxt(folder / "intrinsic.txt", K)


def write_named(folder):
    save_images(folder, "frame-{:06d}.color.jpg", "frame-{:06d}.depth.png")
    for i, pose in enumerate(POSES):
        np.savetxt(folder / f"frame-{i:06d}.pose.txt", pose)
    np.savetxt(folder / "camera-intrinsics.txt", K)


def write_json(folder):
    save_images(folder, "{}.png", "d{}.png")
    frames = [{"file_path": f"{i}.png", "depth_file_path": f"d{i}.png", "transform_matrix": pose.tolist()}
              for i, pose in enumerate(POSES)]
    shared = {"axes": "opencv", "fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
    (folder / "frames.json").write_text(json.dumps({**shared, "frames": frames}))


def write_nerfstudio(folder):
    save_images(folder, "images/{}.png", "depth/{}.png")
    frames = [{"file_path": f"images/{i}.png", "depth_file_path": f"depth/{i}.png",
               "transform_matrix": (pose @ OPENGL).tolist(), "fl_x": K[0, 0], "fl_y": K[1, 1]} for i, pose in enumerate(POSES)]
    shared = {"camera_model": "OPENCV", "w": WIDTH, "h": HEIGHT, "cx": K[0, 2] + 0.5, "cy": K[1, 2] + 0.5, "k1": 0.0}
    (folder / "transforms.json").write_text(json.dumps({**shared, "frames": frames}))


def write_sens_file(folder):
    write_sens(folder / "scan.sens", [Frame(str(i), CAMERA, CAMERA, POSES[i], lambda i=i: rgb_of(i), lambda i=i: depth_of(i))
                                      for i in range(COUNT)])


def write_replica(folder):
    save_images(folder, "results/frame{:06d}.jpg", "results/depth{:06d}.png", unit=1 / 6553.5)
    np.savetxt(folder / "traj.txt", POSES.reshape(-1, 16))
    camera = {"w": WIDTH, "h": HEIGHT, "fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2], "scale": 6553.5}
    (folder / "cam_params.json").write_text(json.dumps({"camera": camera}))


def write_tum(folder):
    save_images(folder, "rgb/{}.png", "depth/{}.png", unit=1 / 5000)
    np.savetxt(folder / "K.txt", K)
    (folder / "rgb.txt").write_text("# time file\n" + "".join(f"{i + 0.01} rgb/{i}.png\n" for i in range(COUNT)))
    (folder / "depth.txt").write_text("".join(f"{i - 0.01} depth/{i}.png\n" for i in range(COUNT)))
    rows = [[i, *pose[:3, 3], *np.roll(quaternion(pose[:3, :3]), -1)] for i, pose in enumerate(POSES)]
    np.savetxt(folder / "groundtruth.txt", rows)


def write_arkit(folder):
    from scipy.spatial.transform import Rotation

    save_images(folder, "lowres_wide/41_{}.500.png", "lowres_depth/41_{}.501.png")
    (folder / "lowres_wide_intrinsics").mkdir()
    for i in range(COUNT):
        np.savetxt(folder / f"lowres_wide_intrinsics/41_{i}.500.pincam", [[WIDTH, HEIGHT, K[0, 0], K[1, 1], K[0, 2], K[1, 2]]])
    np.savetxt(folder / "lowres_wide.traj", [[i + 0.5, *Rotation.from_matrix(m[:3, :3]).as_rotvec(), *m[:3, 3]]
                                             for i, m in enumerate(INVERSES)])


def open3d_camera(matrix) -> dict:
    return {"width": WIDTH, "height": HEIGHT, "intrinsic_matrix": matrix.T.ravel().tolist()}


def write_open3d_log(folder):
    save_images(folder, "image/{}.jpg")
    (folder / "camera_primesense.json").write_text(json.dumps(open3d_camera(K)))
    text = "".join(f"{i} {i} {i + 1}\n" + "\n".join(" ".join(map(str, row)) for row in pose) + "\n"
                   for i, pose in enumerate(POSES))
    (folder / "trajectory.log").write_text(text)


def write_open3d_json(folder):
    save_images(folder, "color/{}.jpg")
    views = [{"extrinsic": m.T.ravel().tolist(), "intrinsic": open3d_camera(K)} for m in INVERSES]
    (folder / "trajectory.json").write_text(json.dumps({"parameters": views}))


def write_colmap_text(folder):
    save_images(folder, "images/{}.png", None)
    (folder / "sparse/0").mkdir(parents=True)
    (folder / "sparse/0/cameras.txt").write_text(
        f"# cameras\n1 PINHOLE {WIDTH} {HEIGHT} {K[0, 0]} {K[1, 1]} {K[0, 2] + 0.5} {K[1, 2] + 0.5}\n")
    lines = [f"{i + 1} {' '.join(map(str, quaternion(m[:3, :3])))} {' '.join(map(str, m[:3, 3]))} 1 {i}.png\n\n"
             for i, m in enumerate(INVERSES)]
    (folder / "sparse/0/images.txt").write_text("# images\n" + "".join(reversed(lines)))


def write_colmap_binary(folder):
    save_images(folder, "images/{}.png", None)
    camera = struct.pack("<QiiQQ8d", 1, 7, 4, WIDTH, HEIGHT, K[0, 0], K[1, 1], K[0, 2] + 0.5, K[1, 2] + 0.5, 0, 0, 0, 0)
    (folder / "cameras.bin").write_bytes(camera)
    images = struct.pack("<Q", COUNT)
    for i, m in enumerate(INVERSES):
        images += struct.pack("<i7di", i, *quaternion(m[:3, :3]), *m[:3, 3], 7) + f"{i}.png".encode() + b"\0"
        images += struct.pack("<Q", 2) + bytes(48)
    (folder / "images.bin").write_bytes(images)


def write_scannetpp(folder):
    save_images(folder, "iphone/rgb/frame_{:06d}.jpg", None)
    folder = folder / "iphone"
    record = {f"frame_{i:06d}": {"pose": np.eye(4).tolist(), "aligned_pose": pose.tolist(), "timestamp": float(i),
                                 "intrinsic": Camera(WIDTH, HEIGHT, *K[[0, 1, 0, 1], [0, 1, 2, 2]]).resized(1920, 1440)
                                 .matrix.tolist()} for i, pose in enumerate(POSES)}
    (folder / "pose_intrinsic_imu.json").write_text(json.dumps(record))
    with (folder / "depth.bin").open("wb") as file:
        for i in range(COUNT):
            press = zlib.compressobj(wbits=-15)
            content = press.compress(np.full((192, 256), 1 + 0.5 * i, "<f4").tobytes()) + press.flush()
            file.write(struct.pack("<I", len(content)) + content)


WRITERS = {
    "json": ("json", write_json), "sens": ("sens", write_sens_file), "nerfstudio": ("nerfstudio", write_nerfstudio),
    "scannet++": ("scannet++", write_scannetpp), "arkitscenes": ("arkitscenes", write_arkit),
    "replica": ("replica", write_replica), "tum": ("tum", write_tum), "open3d log": ("open3d", write_open3d_log),
    "open3d json": ("open3d", write_open3d_json), "folder": ("folder", write_folder), "scannet": ("folder", write_scannet),
    "flat": ("folder", write_flat), "named": ("folder", write_named),
    "colmap text": ("colmap", write_colmap_text), "colmap binary": ("colmap", write_colmap_binary),
}


def test_every_layout_is_written_here():
    assert {layout for layout, _ in WRITERS.values()} == set(LAYOUTS)


@pytest.mark.parametrize("name", WRITERS)
def test_a_layout_is_recognised_and_gives_the_same_frames(name, tmp_path):
    layout, write = WRITERS[name]
    write(tmp_path)
    frames = read_frames(tmp_path)
    assert frames.layout == layout
    assert len(frames) == COUNT
    for i, frame in enumerate(frames):
        np.testing.assert_allclose(frame.T_world_camera, POSES[i], atol=2e-6)
        camera = frame.camera
        assert (camera.width, camera.height, camera.lens) == (WIDTH, HEIGHT, None)
        np.testing.assert_allclose(camera.matrix, K, atol=1e-5)
        assert np.abs(frame.rgb.astype(int) - rgb_of(i)).max() <= 8    # some are JPEG
        if layout == "colmap":
            assert not frame.has_depth
        else:
            assert frame.depth.dtype == np.float32
            np.testing.assert_allclose(frame.depth, 1 + 0.5 * i, atol=1e-3)
            assert frame.depth.shape == (frame.depth_camera.height, frame.depth_camera.width)


def write_rig(folder, kind, pairs) -> None:
    """The four views under names of their own, in folders of several cameras."""
    {"colmap": write_colmap_text, "nerfstudio": write_nerfstudio, "tum": write_tum}[kind](folder)
    images, listing = {"colmap": ("images", "sparse/0/images.txt"), "nerfstudio": ("images", "transforms.json"),
                       "tum": ("rgb", "rgb.txt")}[kind]
    text = (folder / listing).read_text()
    for i, name in enumerate(pairs):
        (folder / images / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / images / f"{i}.png").rename(folder / images / name)
        before = "" if kind == "colmap" else f"{images}/"
        text = text.replace(f"{before}{i}.png", before + name)
    (folder / listing).write_text(text)


@pytest.mark.parametrize("kind", ["colmap", "nerfstudio", "tum"])
@pytest.mark.parametrize(("images", "names"), [
    (["cam0/a.png", "cam0/b.png", "cam1/a.png", "cam1/c.png"], ["cam0/a", "cam0/b", "cam1/a", "cam1/c"]),
    (["x/cam0/a.png", "x/cam1/a.png", "y/cam0/a.png", "y/cam1/a.png"], ["x/cam0/a", "x/cam1/a", "y/cam0/a", "y/cam1/a"]),
    (["cam0/a.png", "cam0/b.png", "cam1/c.png", "cam1/d.1.png"], ["a", "b", "c", "d.1"]),
    (["a.png", "cam0/a.png", "cam0/b.png", "cam1/a.png"], ["a", "cam0/a", "cam0/b", "cam1/a"]),
    (["cam0/a.jpg", "cam0/a.png", "cam1/b.png", "cam1/c.png"], ["cam0/a.jpg", "cam0/a.png", "cam1/b.png", "cam1/c.png"])])
def test_images_of_several_cameras_have_names_of_their_own(kind, images, names, tmp_path):
    write_rig(tmp_path, kind, images)
    frames = read_frames(tmp_path)
    assert [frame.name for frame in frames] == names
    for i, frame in enumerate(frames):
        np.testing.assert_allclose(frame.T_world_camera, POSES[i], atol=2e-6)
        assert np.abs(frame.rgb.astype(int) - rgb_of(i)).max() <= 8


def test_a_frame_that_is_listed_again_is_left_out_and_told(tmp_path):
    write_nerfstudio(tmp_path)
    content = json.loads((tmp_path / "transforms.json").read_text())
    content["frames"][3]["file_path"] = content["frames"][1]["file_path"]
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=r"1 of 4 frames are left out: 1 \(another frame has its name\)"):
        assert [frame.name for frame in read_frames(tmp_path)] == ["0", "1", "2"]


def test_colours_and_depth_of_other_sizes_keep_their_own_cameras(tmp_path):
    write_scannetpp(tmp_path)
    frame = read_frames(tmp_path)[0]
    assert (frame.depth_camera.width, frame.depth_camera.height) == (256, 192)
    corner = frame.camera.rays(np.array([[-0.5, -0.5], [WIDTH - 0.5, HEIGHT - 0.5]]))
    np.testing.assert_allclose(frame.depth_camera.rays(np.array([[-0.5, -0.5], [255.5, 191.5]])), corner, atol=1e-9)


def test_lenses_are_read(tmp_path):
    write_colmap_text(tmp_path)
    (tmp_path / "sparse/0/cameras.txt").write_text(f"1 OPENCV_FISHEYE {WIDTH} {HEIGHT} 20 21 12 8 0.1 0.01 0 0\n")
    assert read_frames(tmp_path)[0].camera.lens == Lens((0.1, 0.01, 0.0, 0.0), fisheye=True)
    (tmp_path / "sparse/0/cameras.txt").write_text(f"1 FOV {WIDTH} {HEIGHT} 20 21 12 8 0.1\n")
    with pytest.raises(FormatError, match="camera model is not known; got FOV"):
        read_frames(tmp_path)


def test_tum_leaves_out_what_has_no_partner_in_time(tmp_path):
    write_tum(tmp_path)
    (tmp_path / "depth.txt").write_text("0.0 depth/0.png\n1.0 depth/1.png\n3.0 depth/3.png\n")
    with pytest.warns(UserWarning, match="1 of 4 frames are left out"):
        assert read_frames(tmp_path).skipped == {"2": "no depth image within 50 ms"}


# ----------------------------------------------------------------------------------------------------------------- .sens


def test_sens_reads_one_image_at_a_time_and_leaves_out_lost_poses(tmp_path):
    write_sens_file(tmp_path)
    path = tmp_path / "scan.sens"
    content = bytearray(path.read_bytes())
    second = content.index(POSES[1].astype("<f4").tobytes())
    content[second:second + 64] = np.full(16, -np.inf, "<f4").tobytes()
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="1 of 4 frames are left out"):
        frames = read_frames(path)
    assert [frame.name for frame in frames] == ["0", "2", "3"]
    assert frames.skipped == {"1": "pose not finite (tracking lost)"}
    assert frames[1].timestamp == pytest.approx(2 / 30, abs=1e-5)
    np.testing.assert_allclose(frames[1].depth, 2.0, atol=1e-6)


SENS_FAULTS = {
    "another version": (lambda c: c[:0] + struct.pack("<I", 3) + c[4:], "no .sens file of version 4; got version 3"),
    "cut in the header": (lambda c: c[:200], "header: the file ends too early"),
    "cut in a frame": (lambda c: c[:len(c) - 400], "frame 3: the file ends"),
    "more frames than bytes": (lambda c: c[:311] + struct.pack("<Q", 2**40) + c[319:], "promises more frames"),
    "occipital's depth": (lambda c: c[:287] + struct.pack("<i", 2) + c[291:], "depth occi"),
}


@pytest.mark.parametrize("name", SENS_FAULTS)
def test_a_broken_sens_file_is_refused_with_its_fault(name, tmp_path):
    write_sens_file(tmp_path)
    path = tmp_path / "scan.sens"
    change, words = SENS_FAULTS[name]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(FormatError) as caught:
        read_frames(path)
    assert words in str(caught.value)


def test_a_damaged_depth_image_in_a_sens_file_costs_only_its_frame(tmp_path):
    write_sens_file(tmp_path)
    path = tmp_path / "scan.sens"
    content = bytearray(path.read_bytes())
    packed = zlib.compress(np.rint(depth_of(2) * 1000).astype("<u2").tobytes())
    place = content.index(packed)
    content[place:place + 8] = b"\0" * 8
    path.write_bytes(content)
    frames = read_frames(path)
    assert frames[1].depth.shape == (HEIGHT, WIDTH)
    with pytest.raises(FormatError, match="frame 2: the depth image is damaged"):
        _ = frames[2].depth


# ---------------------------------------------------------------------------------------------------------------- faults


def test_what_is_no_layout_lists_the_known_ones(tmp_path):
    with pytest.raises(FormatError, match=r"no known layout.*a \.sens file.*transforms\.json"):
        read_frames(tmp_path)
    with pytest.raises(ConfigError, match="unknown layout of frames; got 'kitti'"):
        read_frames(tmp_path, "kitti")
    with pytest.raises(FileError, match="no such file or folder"):
        read_frames(tmp_path / "nowhere")


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def change_bytes(path, before, after):
    path.write_bytes(path.read_bytes().replace(before, after))


FAULTS = {
    "json list": (write_json, lambda f: (f / "frames.json").write_text("[]"), "there is no list of frames"),
    "json text": (write_json, lambda f: (f / "frames.json").write_text("{"), "the file is not valid json"),
    "json pose": (write_json, lambda f: (f / "frames.json").write_text('{"frames": [{"file_path": "0.png"}]}'),
                  "frame 0: a frame lacks what it needs; got KeyError: 'transform_matrix'"),
    "json axes": (write_json, lambda f: change_json(f / "frames.json", lambda c: c["frames"][1].update(axes="up")),
                  "frame 1: a frame lacks what it needs; got ValueError: axes 'up', known are opencv and opengl"),
    "tum nothing": (write_tum, lambda f: (f / "rgb.txt").write_text("# time file\n"), "the list names no images"),
    "json unit": (write_json, lambda f: change_json(f / "frames.json", lambda c: c.update(depth_unit="mm")),
                  "frame 0: a frame lacks what it needs"),
    "scannet++ list": (write_scannetpp, lambda f: (f / "iphone/pose_intrinsic_imu.json").write_text("[1]"),
                       "there are no poses by frame; got a list"),
    "replica list": (write_replica, lambda f: (f / "cam_params.json").write_text("[1]"), "these are no camera parameters"),
    "replica word": (write_replica, lambda f: (f / "cam_params.json").write_text('{"camera": {"fx": "far"}}'),
                     "these are no camera parameters"),
    "tum bytes": (write_tum, lambda f: (f / "rgb.txt").write_bytes(b"0.0 rgb/\xff.png\n"), "not text in UTF-8"),
    "open3d bytes": (write_open3d_log, lambda f: (f / "trajectory.log").write_bytes(b"0 0 \xff\n"), "not text in UTF-8"),
    "colmap bytes": (write_colmap_text, lambda f: (f / "sparse/0/images.txt").write_bytes(b"1 \xff\n"), "not text in UTF-8"),
    "colmap name": (write_colmap_binary, lambda f: change_bytes(f / "images.bin", b".png\0", b"\xff\xfe\xfd\xfc\0"),
                    "no frame can be used; got 4 frames: 4 (no colour image)"),
    "tum line": (write_tum, lambda f: (f / "rgb.txt").write_text("one\n"), "no timestamp and file name"),
    "colmap cut": (write_colmap_binary, lambda f: (f / "images.bin").write_bytes((f / "images.bin").read_bytes()[:-30]),
                   "the file ends inside an image"),
    "open3d log": (write_open3d_log, lambda f: (f / "trajectory.log").write_text("0 0 0\n1 2\n"), "this is no trajectory"),
    "video only": (write_scannetpp, lambda f: (f / "iphone/rgb").rename(f / "iphone/other"), "Extract them: ffmpeg"),
    "depth.bin": (write_scannetpp, lambda f: (f / "iphone/depth.bin").write_bytes(b"\1\0\0\0abc"), "not packed frame by frame"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_list_is_refused_with_its_fault(name, tmp_path):
    write, change, words = FAULTS[name]
    write(tmp_path)
    change(tmp_path)
    with pytest.raises(FileError) as caught:
        read_frames(tmp_path)
    assert words in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WRITERS)
def test_damaged_layouts_raise_only_our_errors(name, tmp_path):
    WRITERS[name][1](tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".png", ".jpg"))
    rng = np.random.default_rng(5)
    for path in files:
        content = path.read_bytes()
        for _ in range(8 if len(files) > 2 else 30):
            path.write_bytes(damage(content, rng))
            with contextlib.suppress(Pc3dError):
                for frame in read_frames(tmp_path):
                    assert frame.depth.ndim == 2 if frame.has_depth else frame.rgb.ndim == 3
        path.write_bytes(content)


def test_a_list_counts_from_pixel_middles_and_each_frame_may_have_its_own_unit_and_axes(tmp_path):
    write_json(tmp_path)

    def change(content):
        del content["axes"]     # opencv is what is meant then
        content["frames"][1]["depth_unit"] = 0.002
        content["frames"][2] |= {"axes": "opengl", "transform_matrix": (POSES[2] @ OPENGL).tolist()}

    change_json(tmp_path / "frames.json", change)
    frames = read_frames(tmp_path)
    for i, frame in enumerate(frames):
        np.testing.assert_allclose(frame.camera.matrix, K)
        np.testing.assert_allclose(frame.T_world_camera, POSES[i], atol=1e-12)
        np.testing.assert_allclose(frame.depth, (1 + 0.5 * i) * (2 if i == 1 else 1), atol=1e-3)


def test_depth_may_be_an_array_and_must_be_one(tmp_path):
    write_json(tmp_path)
    change_json(tmp_path / "frames.json", lambda c: c["frames"][0].update(depth_file_path="d.npy"))
    np.save(tmp_path / "d.npy", depth_of(2))
    np.testing.assert_array_equal(read_frames(tmp_path)[0].depth, depth_of(2))
    for content, words in ((np.zeros(5), "no depth image; got float64"), (np.array([None]), "cannot be read")):
        np.save(tmp_path / "d.npy", content)
        with pytest.raises(FormatError, match=words):
            read_frames(tmp_path)


@pytest.mark.parametrize("name", ["sens", "scannet++"])
def test_a_depth_image_that_unpacks_to_far_more_than_its_pixels_is_refused_unpacked(name, tmp_path):
    pytest.importorskip("lz4")
    WRITERS[name][1](tmp_path)
    path = tmp_path / ("scan.sens" if name == "sens" else "iphone/depth.bin")
    press = zlib.compressobj(wbits=15 if name == "sens" else -15)
    bomb = press.compress(bytes(100_000_000)) + press.flush()
    if name == "sens":
        packed = zlib.compress(np.rint(depth_of(3) * 1000).astype("<u2").tobytes())
        head, _, tail = path.read_bytes().rpartition(packed)
        size = head.rindex(struct.pack("<Q", len(packed)))
        path.write_bytes(head[:size] + struct.pack("<Q", len(bomb)) + head[size + 8:] + bomb + tail)
    else:
        path.write_bytes((struct.pack("<I", len(bomb)) + bomb) * COUNT)
    frame = read_frames(tmp_path)[3]
    tracemalloc.start()
    with pytest.raises(FormatError, match="the depth image is damaged"):
        _ = frame.depth
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_a_damaged_lz4_depth_costs_only_its_frame(tmp_path):
    pytest.importorskip("lz4")
    write_scannetpp(tmp_path)
    path = tmp_path / "iphone/depth.bin"
    content = bytearray(path.read_bytes())
    content[4:8] = b"\xff" * 4
    path.write_bytes(content)
    frames = read_frames(tmp_path)
    with pytest.raises(FormatError, match=r"depth\.bin:frame_000000: the depth image is damaged"):
        _ = frames[0].depth
    assert frames[1].depth.max() == 1.5


def test_sens_writes_far_depth_as_none_and_refuses_what_it_has_no_room_for(tmp_path):
    def frame(camera, depth=1.0):
        return Frame("a", camera, CAMERA, POSES[0], lambda: rgb_of(0), lambda: np.full((HEIGHT, WIDTH), depth, np.float32))

    write_sens(tmp_path / "a.sens", [frame(CAMERA, 70.0), frame(CAMERA, np.nan), frame(CAMERA, 65.0)])
    assert [shot.depth.max() for shot in read_frames(tmp_path / "a.sens")] == [0, 0, 65]
    for cameras in ((CAMERA, CAMERA.resized(WIDTH, HEIGHT + 1)), (replace(CAMERA, lens=Lens((0.1,))),)):
        with pytest.raises(DataError, match="one pinhole camera"):
            write_sens(tmp_path / "b.sens", [frame(camera) for camera in cameras])
    assert not (tmp_path / "b.sens").exists()

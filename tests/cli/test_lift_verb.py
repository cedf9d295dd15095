"""``pc3d lift``: a scan, a folder of frames and a folder of masks in; painted points, a table and what was skipped out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pc3d import io, viz
from pc3d.cli import main
from pc3d.structures import PointCloud
from pc3d.structures.palette import distinct_colors
from pc3d.viz import panels

Image = pytest.importorskip("PIL.Image")
WIDTH, HEIGHT, FOCAL = 64, 48, 50.0


def plate_at(x, y) -> np.ndarray:
    """0 and 1 on the plates, -1 elsewhere."""
    inside = (np.abs(np.abs(x) - 0.6) < 0.3) & (np.abs(y) < 0.3)
    return np.where(inside, (x > 0).astype(int), -1)


@pytest.fixture
def folder(tmp_path):
    """A wall 2 m ahead with two raised plates on it, seen by six cameras that move sideways; frame 4 has no depth image."""
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(-1.5, 1.5, 0.03), np.arange(-1.0, 1.0, 0.03), indexing="ij"))
    plate = plate_at(x, y)
    xyz = np.stack([x, y, np.where(plate >= 0, 1.8, 2.0)], axis=1).astype(np.float32)
    superpoints = np.unique(np.stack([plate, np.floor(x / 0.5), np.floor(y / 0.5)], 1), axis=0, return_inverse=True)[1]
    io.write(PointCloud(xyz=xyz, superpoints=superpoints.reshape(-1)), tmp_path / "scan.ply")
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    poses = []
    for i in range(6):
        pose = np.eye(4)
        pose[0, 3] = 0.1 * (i - 2.5)
        at = (u - 31.5) / FOCAL * 1.8 + pose[0, 3], (v - 23.5) / FOCAL * 1.8
        mask = plate_at(*at) + 1
        images = {"frames/color": np.zeros((HEIGHT, WIDTH, 3), np.uint8), "masks": mask.astype(np.uint8),
                  "frames/depth": np.where(mask > 0, 1800, 2000).astype(np.uint16)}
        for kind, image in images.items():
            (tmp_path / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / kind / f"{i}.png")
        (tmp_path / f"masks/{i}.json").write_text(json.dumps([{"id": 1, "label": "picture"}, {"id": 2, "label": "window"}]))
        poses.append(pose)
    (tmp_path / "frames/depth/4.png").unlink()
    np.savetxt(tmp_path / "frames/K.txt", [[FOCAL, 0, 31.5], [0, FOCAL, 23.5], [0, 0, 1]])
    np.savetxt(tmp_path / "frames/poses.txt", np.reshape(poses, (6, 16)))
    return tmp_path


def run(folder, *more) -> int:
    return main(["lift", str(folder / "scan.ply"), str(folder / "frames"), "-o", str(folder / "out"),
                 "--segmenter", f"masks:{folder / 'masks'}", *more])


@pytest.mark.parametrize("method", ["hierarchical", "consensus", "region"])
def test_two_plates_are_found_on_the_points_of_the_file(folder, method, capsys):
    assert run(folder, "--method", method, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert sorted(record["label"] for record in report["instances"]) == ["picture", "window"]
    assert report["frames"] == 5
    assert report["skipped"] == {"4": "no depth image"}
    cloud, instances = io.read_result(folder / "out")
    scan = io.read(folder / "scan.ply")
    assert np.array_equal(cloud.xyz, scan.xyz)
    for row, mask in enumerate(instances.point_masks):
        side = 0.6 if instances.classes[instances.labels[row]] == "window" else -0.6
        inside = (np.abs(scan.xyz[:, 0] - side) < 0.3) & (np.abs(scan.xyz[:, 1]) < 0.3)
        assert (mask & inside).sum() / (mask | inside).sum() > 0.9
    assert set(instances.evidence) >= {"num_frames", "num_masks", "num_votes", "best_frames", "label_votes"}


def test_poses_that_put_the_depth_beside_the_scan_are_told(folder, capsys):
    assert run(folder) == 0
    assert "warning" not in capsys.readouterr().err
    poses = np.loadtxt(folder / "frames/poses.txt").reshape(6, 4, 4)
    poses[:, 2, 3] = 0.5
    np.savetxt(folder / "frames/poses.txt", poses.reshape(6, 16))
    run(folder)
    assert "warning: " in (told := capsys.readouterr().err)
    assert "0% of the depth of the frames lies on the scan" in told
    assert f"pc3d frames check {folder / 'frames'} {folder / 'scan.ply'}" in told


def test_the_summary_says_what_was_counted_and_left_out(folder, capsys):
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(folder / "masks/2.png")
    assert run(folder, "--every", "2", "--png") == 0
    text = capsys.readouterr().out
    assert "3 frames, 4 masks; 1 frames without masks" in text
    assert "left out: 1 (no depth image)" in text
    assert "window" in text
    assert (folder / "out/instances.png").stat().st_size > 1000


def test_an_unknown_method_is_refused_before_any_frame_is_looked_at(folder, capsys):
    assert run(folder, "--method", "magic") == 4
    shown = capsys.readouterr().err
    assert "unknown way to associate masks; got 'magic'" in shown
    assert "lifting frames" not in shown


def test_where_nothing_is_found_the_next_step_is_named(folder, capsys):
    assert run(folder, "--min-score", "1", "--png") == 0
    text = capsys.readouterr().out
    assert "Nothing was found. A lower --min-score shows" in text
    assert f"pc3d frames check {folder / 'frames'} {folder / 'scan.ply'}" in text
    assert f"wrote {folder / 'out'}/instances.ply, .json, .npz and .png" in text


def test_wrong_conventions_are_met_with_the_check_and_right_ones_are_applied(folder, capsys):
    poses = np.loadtxt(folder / "frames/poses.txt").reshape(6, 4, 4)
    poses[:, 2, 3] = 5.0                                        # far behind the wall
    np.savetxt(folder / "frames/poses.txt", poses.reshape(6, 16))
    assert run(folder) == 3
    assert "no frame sees the scan" in capsys.readouterr().err
    poses[:, 2, 3] = 0
    np.savetxt(folder / "frames/poses.txt", (np.linalg.inv(poses) @ np.diag([1.0, -1, -1, 1])).reshape(6, 16))
    for path in (folder / "frames/depth").iterdir():
        Image.fromarray((np.asarray(Image.open(path)) * 5).astype(np.uint16)).save(path)
    assert run(folder, "--convention", "opengl,depth=0.2", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["instances"]) == 2


class Plates:
    """A 2D model that can be asked: the plate at a pixel, of a camera that looks along z."""

    def prompt(self, frame, points=None, labels=None, box=None):
        from pc3d.lift import FrameMasks

        v, u = np.mgrid[:HEIGHT, :WIDTH]
        seen = plate_at((u - 31.5) / FOCAL * 1.8 + frame.T_world_camera[0, 3], (v - 23.5) / FOCAL * 1.8)
        middle = np.rint(points[0] if box is None else np.add(*np.reshape(box, (2, 2))) / 2).astype(int)
        return FrameMasks.from_masks((seen == seen[middle[1], middle[0]])[None], np.array([0.8]))


@pytest.mark.parametrize("meant", [("--click", "0.6,0.1,1.8"), ("--click", "5000"), ("--point", "3:46,24"),
                                   ("--box", "3:42,16,55,32")])
def test_one_object_is_lifted_where_it_is_pointed_at(folder, meant, monkeypatch, capsys):
    monkeypatch.setattr("pc3d.lift.segmenters.make_segmenter", lambda *_: Plates())
    assert run(folder, *meant, "--views", "3", "--json") == 0
    (record,) = json.loads(capsys.readouterr().out)["instances"]
    _, instances = io.read_result(folder / "out")
    scan = io.read(folder / "scan.ply")
    inside = (np.abs(scan.xyz[:, 0] - 0.6) < 0.3) & (np.abs(scan.xyz[:, 1]) < 0.3)
    (mask,) = instances.point_masks
    assert (mask & inside).sum() / (mask | inside).sum() > 0.8
    assert record["label"] == "object"


@pytest.fixture
def rig(folder):
    """The same six views as those of two cameras with three images each, and their masks."""
    poses = np.loadtxt(folder / "frames/poses.txt").reshape(6, 4, 4).tolist()
    records = []
    for i, pose in enumerate(poses):
        name = f"cam{i % 2}/{i // 2:04d}"
        for kind in ("frames/color", "masks"):
            (folder / kind / name).parent.mkdir(exist_ok=True)
            for path in (folder / kind).glob(f"{i}.*"):
                path.rename(folder / kind / f"{name}{path.suffix}")
        records.append({"file_path": f"color/{name}.png", "transform_matrix": pose})
    shared = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": 31.5, "cy": 23.5}
    (folder / "frames/frames.json").write_text(json.dumps({**shared, "frames": records}))
    return folder


def test_the_masks_of_several_cameras_are_lifted(rig, capsys):
    assert run(rig, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["frames"], summary["skipped"]) == (6, {})
    assert sorted(record["label"] for record in summary["instances"]) == ["picture", "window"]


def test_a_point_is_of_the_image_of_the_camera_that_it_names(rig, monkeypatch, capsys):
    monkeypatch.setattr("pc3d.lift.segmenters.make_segmenter", lambda *_: Plates())
    assert run(rig, "--point", "cam1/0001:46,24", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["instances"]) == 1
    assert run(rig, "--point", "0001:46,24") == 3
    assert "several frames have that name; got 0001; expected one of cam0/0001, cam1/0001" in capsys.readouterr().err
    assert run(rig, "--point", "cam2/0001:46,24") == 3
    assert "no such frame; got cam2/0001; expected one of cam0/0000, cam1/0000, " in capsys.readouterr().err


def test_what_is_not_of_the_object_reaches_the_model(folder, monkeypatch, capsys):
    asked = []

    class Asked(Plates):
        def prompt(self, frame, points=None, labels=None, box=None):
            asked.append((frame.name, labels))
            return super().prompt(frame, points, labels, box)

    monkeypatch.setattr("pc3d.lift.segmenters.make_segmenter", lambda *_: Asked())
    scan = io.read(folder / "scan.ply")
    away = int(np.argmin(np.abs(scan.xyz[:, :2] - 0.1).sum(axis=1)))
    for beside in (("--not-click", ",".join(map(str, scan.xyz[away]))), ("--not-click", str(away))):
        asked.clear()
        assert run(folder, "--click", "0.6,0.1,1.8", *beside, "--views", "20") == 0
        assert any(labels is not None and labels.tolist() == [1, 0] for _, labels in asked)
    asked.clear()
    assert run(folder, "--point", "3:46,24", "--not-point", "3:20,24") == 0
    assert asked[0][0] == "3"
    assert asked[0][1].tolist() == [1, 0]
    assert run(folder, "--not-point", "3:20,24") == 4
    assert "nothing says which object is meant" in capsys.readouterr().err
    assert run(folder, "--click", "0.6,0.1,1.8", "--not-point", "3:20") == 4
    assert run(folder, "--click", "0.6,0.1,1.8", "--not-click", "0.6,0.1,-1.8") == 3


def test_places_that_are_none_are_said(folder, monkeypatch, capsys):
    assert run(folder, "--click", "0.6,0.1") == 4
    assert "this is no place; got '0.6,0.1'; expected x,y,z, or the row of a point" in capsys.readouterr().err
    assert run(folder, "--point", "3:a,b") == 4
    assert run(folder, "--click", "0.6,0.1,1.8") == 4
    assert "cannot be asked for one object; got MaskFolder" in capsys.readouterr().err
    monkeypatch.setattr("pc3d.lift.segmenters.make_segmenter", lambda *_: Plates())
    assert run(folder, "--click", "0.6,0.1,-1.8") == 3
    assert "off the scan" in capsys.readouterr().err


def test_words_that_mean_nothing_are_usage_or_config_errors(folder, capsys):
    assert run(folder, "--method", "magic") == 4
    assert run(folder, "--alignment", "nowhere.txt") == 4
    assert run(folder, "--convention", "left-handed") == 4
    assert run(folder, "--segmenter", "cat:x") == 4
    assert "unknown source of masks" in capsys.readouterr().err
    assert run(folder, "--device", "foo") == 5
    assert "unknown device" in capsys.readouterr().err


def test_segment_with_frames_says_where_an_instance_comes_from(folder, capsys):
    given = ["segment", str(folder / "scan.ply"), "-o", str(folder / "fused"), "--min-score", "0.1"]
    frames = ["--frames", str(folder / "frames"), "--segmenter", f"masks:{folder / 'masks'}"]
    assert main([*given, *frames, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    found = {record["label"]: record for record in report["instances"]}
    assert {"picture", "window"} <= found.keys()
    assert found["window"]["evidence"]["source"] in ("images", "both")
    assert found["window"]["evidence"]["num_frames"] == 5
    assert (report["frames"], report["skipped"]) == (5, {"4": "no depth image"})
    on_disk = json.loads((folder / "fused/instances.json").read_text())["instances"]
    assert on_disk == report["instances"]
    assert main([*given, *frames]) == 0
    text = capsys.readouterr().out
    assert "5 frames, 10 masks; found by the network" in text
    assert "left out: 1 (no depth image)" in text


def test_frames_and_their_masks_go_together(folder, capsys):
    given = ["segment", str(folder / "scan.ply"), "-o", str(folder / "fused")]
    for half in (["--frames", str(folder / "frames")], ["--segmenter", f"masks:{folder / 'masks'}"]):
        assert main([*given, *half]) == 4
        assert "go together" in capsys.readouterr().err


def test_the_picture_shows_the_masks_in_the_colours_of_their_objects(folder, capsys):
    assert run(folder, "--png") == 0
    cloud, instances = io.read_result(folder / "out")
    picture = np.asarray(Image.open(folder / "out/instances.png").convert("RGB")).astype(int)
    alone = viz.draw_panels(cloud, instances)
    assert np.array_equal(picture[-len(alone):], alone)
    tiles = picture[:-len(alone)]
    for color in distinct_colors(len(instances)):
        shade = 0.35 * 110 + 0.65 * color.astype(int)       # the images are black
        assert (np.abs(tiles - shade).max(axis=2) < 3).sum() > 500
    capsys.readouterr()


def test_true_objects_are_not_named_by_the_classes_of_the_masks(folder, capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr("pc3d.viz.panels.make_layers", lambda *args, make=panels.make_layers, **more: drawn.append(
        make(*args, **more)) or drawn[-1])
    scan = io.read(folder / "scan.ply")
    own = np.zeros(len(scan), dtype=np.int64)               # class 0 of the scan, whatever its name
    io.write(scan.replace(labels=own, instances=own), folder / "scan.ply")
    assert run(folder, "--png") == 0
    truth = next(layer for layer in drawn[0] if layer.title == "Truth")
    assert set(truth.names) == {"object"}
    assert io.read_result(folder / "out")[0].labels is not None    # and are kept
    capsys.readouterr()


def test_masks_are_lifted_and_drawn_without_their_images_where_those_cannot_be_read(folder, capsys):
    for image in (folder / "frames/color").iterdir():
        image.write_bytes(image.read_bytes()[:60])
    assert run(folder, "--png") == 0
    assert (folder / "out/instances.png").stat().st_size > 1000
    capsys.readouterr()

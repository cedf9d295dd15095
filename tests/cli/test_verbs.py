"""Every verb on tiny input, called as from the shell."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from pc3d import io
from pc3d.cli import demo, doctor, main, op_checks
from pc3d.config import ModelConfig, build
from pc3d.engine import Segmenter, confident
from pc3d.io.ply import read_ply
from pc3d.models import Proposals, save_model
from pc3d.models import build as build_model
from pc3d.structures import Instances, PointCloud
from pc3d.viz import panels

CLASSES = ("box", "ball")


def make_scan(rng: np.random.Generator) -> PointCloud:
    """A floor and a box on it, 900 points with truth and one column of their own."""
    floor = np.column_stack([rng.random((500, 2)) * 2, np.zeros(500)])
    box = rng.random((400, 3)) * 0.5 + 0.3
    labels = np.repeat([-1, 0], [500, 400])
    return PointCloud(xyz=np.concatenate([floor, box]), rgb=rng.integers(0, 256, (900, 3)), labels=labels, instances=labels,
                      attributes={"row": np.arange(900, dtype=np.int32)})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny untrained network on disk."""
    config = build(ModelConfig, {
        "classes": CLASSES, "backbone": {"channels": [8, 16], "block_reps": 1, "voxel_size": 0.1},
        "decoder": {"num_layers": 2, "num_queries": 8, "d_model": 32, "num_heads": 2, "d_ffn": 32},
        "inference": {"min_points": 1}}, where="test")
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(build_model(config), path)
    return path


@pytest.fixture
def scan(tmp_path: Path, rng: np.random.Generator) -> Path:
    path = tmp_path / "scan.ply"
    io.write(make_scan(rng), path)
    return path


def test_segment_writes_a_result_whose_rows_are_the_scans(scan: Path, model: Path, tmp_path: Path,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "my out"
    assert main(["segment", str(scan), "-o", str(out), "--model", str(model), "--device", "cpu"]) == 0
    assert f"pc3d view '{out}'\n" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"instances.ply", "instances.json", "instances.npz"}
    result = io.read(out / "instances.ply")
    np.testing.assert_array_equal(result.xyz, io.read(scan).xyz)
    np.testing.assert_array_equal(result.attributes["row"], np.arange(900))


def test_segment_prints_json_and_nothing_else_on_stdout(scan: Path, model: Path, tmp_path: Path,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", str(scan), "-o", str(tmp_path / "out"), "--model", str(model), "--json", "--device", "cpu"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["num_points"] == 900
    assert {"loading", "reading", "network"} <= report["seconds"].keys()
    assert all({"id", "label", "score", "num_points", "box"} <= record.keys() for record in report["instances"])


def noisy_instances(views: Sequence[Proposals], point_to_superpoint: torch.Tensor, config: ModelConfig) -> Instances:
    """What a network typically lists: one mask under two classes, one it is unsure of, one it does not believe in."""
    masks = np.eye(views[0].masks.shape[1], dtype=bool)[[0, 0, 1, 2]]
    return Instances.from_masks(masks, [0, 1, 1, 0], [0.3, 0.9, 0.15, 0.02], config.classes,
                                point_to_superpoint.numpy())


@pytest.mark.parametrize("verb", ["segment", "demo"])
def test_every_output_shows_the_same_confident_instances(
        verb: str, scan: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.modules["pc3d.engine.segment"], "to_instances", noisy_instances)
    expected = confident(Segmenter.from_pretrained(model, "cpu")(io.read(scan)).instances, 0.1)
    assert expected.scores.tolist() == pytest.approx([0.9, 0.15])
    drawn = []
    make_layers = panels.make_layers

    def spy(cloud: PointCloud, instances: Instances | None, color_by: panels.ColorBy) -> list[panels.Layer]:
        drawn.extend(make_layers(cloud, instances, color_by=color_by))
        return drawn

    monkeypatch.setattr(panels, "make_layers", spy)
    monkeypatch.setattr("pc3d.cli.demo.ROOM", scan)
    arguments = ["segment", str(scan), "--png", "--json"] if verb == "segment" else ["demo"]
    out = tmp_path / "out"
    assert main([*arguments, "-o", str(out), "--model", str(model), "--device", "cpu", "--min-score", "0.1"]) == 0
    shown = capsys.readouterr().out
    if verb == "segment":
        assert [record["id"] for record in json.loads(shown)["instances"]] == list(range(len(expected)))
    else:
        assert f": {len(expected)} instances found" in shown
    assert drawn[-1].title == "Prediction"
    assert drawn[-1].scores == expected.scores.tolist()
    assert len(json.loads((out / "instances.json").read_text())["instances"]) == len(expected)
    instances = io.read_result(out)[1]
    np.testing.assert_array_equal(instances.bits, expected.bits)
    np.testing.assert_array_equal(instances.labels, expected.labels)
    ply = read_ply(out / "instances.ply").instances
    np.testing.assert_array_equal(ply, expected.to_labels()[0])


def test_average_precision_of_the_demo_sees_every_instance(scan: Path, model: Path, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(sys.modules["pc3d.engine.segment"], "to_instances", noisy_instances)
    monkeypatch.setattr("pc3d.cli.demo.ROOM", scan)
    monkeypatch.setattr("pc3d.metrics.InstanceAP.add", lambda self, labels, ids, instances: seen.append(len(instances)))
    main(["demo", "-o", str(tmp_path / "out"), "--model", str(model), "--device", "cpu", "--min-score", "1"])
    assert seen == [4]


@pytest.mark.parametrize(("arguments", "words"), [
    (["segment", "SCAN", "-o", "FILE"], "this is a file"), (["demo", "-o", "FILE"], "this is a file"),
    (["superpoints", "SCAN", "-o", "x.obj"], "unknown file type"), (["view", "SCAN", "--png", "x.jpg"], "expected one of .png"),
    (["reconstruct", "SCAN", "-o", "x.obj"], "unknown file type"),
    (["convert", "SCAN", "-o", "x.pth", "--classes", "a"], "expected one of .safetensors")])
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_read(
        arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "afile").touch()
    places = {"FILE": str(tmp_path / "afile"), "SCAN": str(tmp_path / "there_is_none.ply")}
    monkeypatch.chdir(tmp_path)
    assert main([places.get(argument, argument) for argument in arguments]) == 3
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["scan", "model", "frames", "demo", "superpoints", "convert"])
def test_a_failed_run_leaves_no_empty_folder_and_takes_nothing_that_was_there(scan: Path, broken: str, tmp_path: Path) -> None:
    words = {"scan": ["segment", str(tmp_path / "none.ply")], "model": ["segment", str(scan), "--model", str(scan)],
             "demo": ["demo", "--model", str(scan)], "superpoints": ["superpoints", str(tmp_path / "none.ply")],
             "convert": ["convert", str(scan), "--classes", "a"],
             "frames": ["lift", str(scan), str(tmp_path / "none"), "--segmenter", "regions:felzenszwalb"]}[broken]
    out = {"superpoints": "out.ply", "convert": "out.safetensors"}.get(broken, "out")
    assert main([*words, "-o", str(tmp_path / "new" / out)]) in (3, 4)
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    assert main([*words, "-o", str(tmp_path / "old" / out)]) in (3, 4)
    assert list((tmp_path / "old").iterdir()) == []


def test_the_demo_names_the_command_that_runs_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    monkeypatch.setattr("sys.executable", str(python))
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert demo.own_command() == f"{python} -m pc3d"
    pc3d = python.with_name("pc3d")
    pc3d.touch()
    assert demo.own_command() == str(pc3d)
    monkeypatch.chdir(tmp_path)
    assert demo.own_command() == "env/bin/pc3d"
    monkeypatch.setattr("shutil.which", lambda name: "/elsewhere/pc3d")
    assert demo.own_command() == "env/bin/pc3d"
    monkeypatch.setattr("shutil.which", lambda name: str(pc3d))
    assert demo.own_command() == "pc3d"


def test_segment_names_the_known_networks(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", str(scan), "-o", str(tmp_path / "out"), "--model", "relation3d-snth"]) == 3
    assert "relation3d-synth" in capsys.readouterr().err


def test_view_draws_a_result_and_a_scan_without_a_display(scan: Path, model: Path, tmp_path: Path) -> None:
    assert main(["segment", str(scan), "-o", str(tmp_path / "out"), "--model", str(model), "--png", "--device", "cpu"]) == 0
    assert (tmp_path / "out" / "instances.png").read_bytes().startswith(b"\x89PNG")
    for what in (tmp_path / "out", scan):
        assert main(["view", str(what), "--png", str(tmp_path / "a.png")]) == 0
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
        (tmp_path / "a.png").unlink()


def test_the_demo_tells_the_whole_story(scan: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("pc3d.cli.demo.ROOM", scan)
    out = tmp_path / "demo"
    assert main(["demo", "-o", str(out), "--model", str(model), "--device", "cpu"]) == 0
    story = capsys.readouterr().out
    assert "box" in story        # the class that is in the room
    assert "ball" not in story   # and not the one that is absent
    for words in ("AP50", "seconds: loading", "superpoints", "network", "Now your own scan"):
        assert words in story
    assert {path.name for path in out.iterdir()} >= {"scan.ply", "instances.ply", "instances.json", "instances.npz", "demo.png"}
    assert main(["demo", "-o", str(out), "--model", str(model), "--device", "cpu", "--json"]) == 0
    assert "ap50" in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("paint", [[], ["--paint"]])
def test_superpoints_adds_a_column_and_keeps_the_others(scan: Path, tmp_path: Path, paint: list[str]) -> None:
    assert main(["superpoints", str(scan), "-o", str(tmp_path / "s.ply"), *paint]) == 0
    before, after = io.read(scan), io.read(tmp_path / "s.ply")
    assert after.superpoints is not None
    np.testing.assert_array_equal(after.attributes["row"], before.attributes["row"])
    assert before.rgb is not None
    assert after.rgb is not None
    assert (before.rgb == after.rgb).all() == (not paint)


def test_train_shows_the_resolved_config_and_stops(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("train: {epochs: 7}\n")
    assert main(["train", str(config), "train.lr=1e-5", "--show-config"]) == 0
    shown = capsys.readouterr().out
    assert "epochs: 7" in shown
    assert "lr: 1.0e-05" in shown


def test_train_and_eval_go_from_a_dataset_to_numbers(tmp_path: Path, rng: np.random.Generator,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    root, run = tmp_path / "data", tmp_path / "run"
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        io.write(make_scan(rng), root / split / "scan.ply")
    (root / "classes.json").write_text(json.dumps(CLASSES))
    config = tmp_path / "tiny.yaml"
    config.write_text("model:\n  backbone: {channels: [8, 16], block_reps: 1, voxel_size: 0.1}\n"
                      "  decoder: {num_layers: 1, num_queries: 4, d_model: 16, num_heads: 2, d_ffn: 16}\n"
                      "  inference: {min_points: 1}\naugment: {elastic: []}\n")
    overrides = [f"data.root={root}", f"train.output={run}", "train.epochs=1", "train.batch_size=1", "train.device=cpu"]
    assert main(["train", str(config), *overrides, "--dry-run"]) == 0
    assert not run.exists()
    assert re.search(r"memory +[\d.]+ GiB(.|\n)*epoch +\d+ min \d\d s, estimated", capsys.readouterr().out)
    assert main(["train", str(config), *overrides]) == 0
    assert re.search(r"mean  .*(.|\n)*best\.safetensors.*curves\.png, best_scan\.png, worst_scan\.png", capsys.readouterr().out)
    assert {"curves.png", "best_scan.png", "worst_scan.png"} <= {path.name for path in run.iterdir()}
    assert main(["train", str(config), *overrides, "--resume"]) == 0
    assert main(["train", str(config), *overrides, "train.epochs=11", "--profile"]) == 0
    shown = capsys.readouterr().out
    for stage in ("waiting for data", "decoder", "backward", "a step"):
        assert re.search(rf"^ *{stage} +[\d.]+ ms", shown, re.M)
    assert main(["eval", str(run / "config.yaml"), str(run / "best.safetensors"), "--json", "--device", "cpu"]) == 0
    assert {"ap", "ap50", "ap25"} <= json.loads(capsys.readouterr().out).keys()


def test_convert_looks_at_the_file_and_then_asks_for_the_class_names(scan: Path, tmp_path: Path,
                                                                     capsys: pytest.CaptureFixture[str]) -> None:
    def convert(path: Path) -> tuple[int, str]:
        code = main(["convert", str(path), "-o", str(tmp_path / "a.safetensors")])
        return code, capsys.readouterr().err

    torch.save({"pooling_linear.0.weight": torch.zeros(1)}, tmp_path / "a.pth")
    code, words = convert(tmp_path / "a.pth")
    assert (code, "--classes" in words) == (4, True)
    code, words = convert(scan)
    assert (code, "not a torch checkpoint" in words) == (4, True)
    assert convert(tmp_path / "there_is_none.pth")[0] == 3


def test_rows_that_are_not_finite_are_left_out_by_the_command_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scan.xyz").write_text("0 0 0\nnan 0 0\n0 1 0\n")
    assert main(["segment", "scan.xyz", "-o", "out"]) == 3
    command = re.search(r'python -c "(.*)"', capsys.readouterr().err)
    assert command is not None
    with pytest.warns(UserWarning, match="1 of 3 points"):
        exec(command[1])
    assert len(io.read("finite.ply")) == 2


def test_doctor_proves_every_op(capsys: pytest.CaptureFixture[str]) -> None:
    report = doctor.examine()
    from pc3d.ops._library import REFERENCES

    assert {op["name"] for op in report["ops"]} == set(REFERENCES) == set(op_checks.CHECKS)
    assert [op for op in report["ops"] if op["problem"]] == []
    doctor.print_report(report)
    assert "Ops, each run on a tiny input" in capsys.readouterr().out
    json.dumps(report, allow_nan=False)


def test_doctor_sees_a_kernel_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    op_checks.prove_ops()
    from pc3d.ops._library import REFERENCES

    monkeypatch.setitem(REFERENCES, "knn", lambda xyz, k: torch.zeros(len(xyz), k, dtype=torch.int64))
    proof = op_checks.prove("knn")
    assert not proof.ok
    assert proof.problem == "differs from the reference"


def test_doctor_does_not_call_an_op_well_that_it_never_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    op_checks.prove_ops()
    monkeypatch.delitem(op_checks.CHECKS, "knn")
    proof = op_checks.prove("knn")
    assert not proof.ok
    assert "not proven" in (proof.problem or "")


def test_doctor_goes_on_when_a_kernel_throws_and_ends_with_5(monkeypatch: pytest.MonkeyPatch,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(op_checks.CHECKS, "knn", lambda generator: (torch.zeros(0, 7), 3))
    monkeypatch.setattr(doctor, "packages", list)
    assert main(["doctor", "--json"]) == 5
    report = json.loads(capsys.readouterr().out)
    assert any(problem.startswith("op knn:") for problem in report["problems"])


def test_doctor_says_how_to_build_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pc3d.ops._library.native_error", lambda: "_C.abi3.so was not built")
    state = doctor.native_library()
    assert state["loaded"] is False
    assert "make native" in doctor._native_line(state)


@pytest.mark.parametrize(("packed", "archs"), [(0, []), (80090, [80, 90]), (75, [75]), (80090120, [80, 90, 120])])
def test_archs_unpack_in_order(packed: int, archs: list[int]) -> None:
    assert doctor._unpack(packed) == archs


def test_two_outputs_differ_by_their_largest_difference() -> None:
    one, nan = torch.tensor([1.0, 2.0]), torch.tensor([1.0, float("nan")])
    assert op_checks.difference((one, one.long()), (one + 0.25, one.long())) == 0.25
    assert op_checks.difference(one, nan) == float("inf")
    assert op_checks.difference(nan, nan) == 0.0
    assert op_checks.difference(one, one[:1]) == float("inf")

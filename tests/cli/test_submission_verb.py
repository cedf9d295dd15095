"""``pc3d eval --submission`` and ``pc3d submission``: from a prepared split to an archive and back to its AP."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pc3d.cli import main
from pc3d.cli.evaluate import print_scores
from pc3d.config import ModelConfig, build
from pc3d.data.benchmarks import ID_COLUMNS, benchmark_ids, ids_of_classes
from pc3d.data.prepared import write_scene
from pc3d.errors import ConfigError
from pc3d.io import read_instances
from pc3d.metrics import InstanceAP, InstanceAPResult
from pc3d.models import build as build_model
from pc3d.models import save_model
from pc3d.structures import PointCloud
from pc3d.superpoints import complete

CLASSES = tuple(benchmark_ids("scannetv2"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config, an untrained network, two labelled scans and one without labels."""
    root = tmp_path_factory.mktemp("eval")
    rng = np.random.default_rng(0)
    (root / "data").mkdir()
    (root / "data" / "classes.json").write_text(json.dumps(CLASSES))
    for scene, split in (("scene0000_00", "val"), ("scene0001_00", "val"), ("scene0707_00", "test")):
        floor = np.column_stack([rng.random((500, 2)) * 2, np.zeros(500)])
        cloud = complete(PointCloud(xyz=np.concatenate([floor, rng.random((400, 3)) * 0.5 + 0.3]),
                                    rgb=rng.integers(0, 256, (900, 3)), labels=np.repeat([-1, 2], [500, 400]),
                                    instances=np.repeat([-1, 0], [500, 400])))
        cloud = cloud.replace(labels=None, instances=None) if split == "test" else cloud
        write_scene(cloud, root / "data" / split / scene, {})
    model = {"classes": CLASSES, "backbone": {"channels": [8, 16], "block_reps": 1, "voxel_size": 0.1},
             "decoder": {"num_layers": 2, "num_queries": 8, "d_model": 32, "num_heads": 2, "d_ffn": 32},
             "inference": {"min_points": 1, "topk": 20}}
    torch.manual_seed(0)
    save_model(build_model(build(ModelConfig, model, where="test")), root / "tiny.safetensors")
    tree = {"model": {"inference": model["inference"]}, "data": {"root": str(root / "data")}}
    (root / "config.yaml").write_text(json.dumps(tree))  # json is yaml
    return root


def evaluate(files: Path, *options: str) -> int:
    return main(["eval", str(files / "config.yaml"), str(files / "tiny.safetensors"), *options, "--device", "cpu", "--json"])


def test_ap_of_the_submission_is_the_ap_of_the_evaluation(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "sub"
    assert evaluate(files, "--submission", str(folder), "--save-predictions", str(tmp_path / "npz")) == 0
    own = json.loads(capsys.readouterr().out)
    common = [str(folder), "--root", str(files / "data"), "--split", "val"]
    assert main(["submission", "score", *common, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == pytest.approx(own, abs=1e-12, nan_ok=True)
    assert {path.name for path in (tmp_path / "npz").iterdir()} == {"scene0000_00.npz", "scene0001_00.npz"}
    lines = (folder / "scene0000_00.txt").read_text().splitlines()
    assert len(read_instances(tmp_path / "npz" / "scene0000_00.npz")) == len(lines)
    assert main(["submission", "check", *common]) == 0
    assert "2 scenes with" in capsys.readouterr().out


def test_a_split_without_labels_is_written_checked_and_zipped(files: Path, tmp_path: Path,
                                                              capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "test"
    assert evaluate(files, "data.val_split=test", "--submission", str(folder)) == 0
    assert json.loads(capsys.readouterr().out)["ap"] is None
    assert main(["submission", "zip", str(folder), "--root", str(files / "data")]) == 0
    assert (tmp_path / "test.zip").is_file()
    shutil.rmtree(folder / "predicted_masks")
    lines = (folder / "scene0707_00.txt").read_text()
    assert main(["submission", "check", str(folder), "--root", str(files / "data")]) == (3 if lines else 0)


def test_predictions_of_several_splits_do_not_overwrite_each_other(files: Path, tmp_path: Path,
                                                                   capsys: pytest.CaptureFixture) -> None:
    root = tmp_path / "data"
    shutil.copytree(files / "data", root)
    shutil.copytree(root / "val", root / "other")  # scenes of the same names, as rooms of S3DIS's areas have
    assert evaluate(files, f"data.root={root}", "data.val_split=val,other", "--save-predictions", str(tmp_path / "npz")) == 0
    assert len(list((tmp_path / "npz/val").iterdir())) == len(list((tmp_path / "npz/other").iterdir())) == 2
    assert "wrote" in capsys.readouterr().err


def test_scores_are_told_in_words_where_there_are_none_and_by_groups_on_scannet200(capsys: pytest.CaptureFixture) -> None:
    print_scores(InstanceAP(CLASSES).result(), as_json=False)
    assert "nothing to score" in capsys.readouterr().out
    names = tuple(benchmark_ids("scannet200"))
    per_class = dict.fromkeys(names, (np.nan, np.nan, np.nan)) | {"chair": (0.5, 0.6, 0.7), "table": (0.1, 0.2, 0.3)}
    result = InstanceAPResult(0.3, 0.4, 0.5, per_class)
    print_scores(result, as_json=True)
    numbers = json.loads(capsys.readouterr().out)
    assert [numbers[f"{key}_head"] for key in ("ap", "ap50", "ap25")] == pytest.approx([0.3, 0.4, 0.5])
    assert numbers["ap_common"] is numbers["ap_tail"] is None
    print_scores(result, as_json=False)
    assert [line.split() for line in capsys.readouterr().out.splitlines()[-5:-2]] == [
        ["head", "30.0", "40.0", "50.0"], ["common", "-", "-", "-"], ["tail", "-", "-", "-"]]


def test_without_labels_there_is_nothing_to_score(files: Path, tmp_path: Path) -> None:
    assert evaluate(files, "data.val_split=test") == 3


def test_classes_of_no_benchmark_are_refused_before_anything_is_computed(files: Path, tmp_path: Path) -> None:
    other = tmp_path / "data"
    shutil.copytree(files / "data", other)
    (other / "classes.json").write_text('["box"]')
    assert evaluate(files, f"data.root={other}", "--submission", str(tmp_path / "sub")) == 4
    assert not (tmp_path / "sub").exists()


@pytest.mark.parametrize(("name", "count", "first"), [("scannetv2", 18, 3), ("scannet200", 198, 2), ("scannetpp", 84, 3)])
def test_ids_are_the_benchmarks_own(name: str, count: int, first: int) -> None:
    ids = benchmark_ids(name)
    assert len(ids) == len(set(ids.values())) == count
    assert next(iter(ids.values())) == first
    assert ids_of_classes(tuple(ids)) == ids
    assert name in ID_COLUMNS


def test_an_unknown_benchmark_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="scannetv2, scannet200, scannetpp"):
        benchmark_ids("nuscenes")

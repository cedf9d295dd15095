"""From the raw folder of each data set to AP with one command, by a tiny network that has learned nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from pc3d.cli import main
from pc3d.config import ModelConfig, build
from pc3d.data.recipes import open_recipe
from pc3d.models import build as build_model
from pc3d.models import save_model
from pc3d.structures import PointCloud
from pc3d.synth import export_s3dis, export_scannet, export_scannetpp
from pc3d.synth.export_scannet import finish_scannet
from pc3d.synth.export_scannetpp import finish_scannetpp
from tests.data.conftest import tiny_room

TINY = {"backbone": {"channels": [8, 16], "block_reps": 1, "voxel_size": 0.1}, "inference": {"min_points": 1},
        "decoder": {"num_layers": 2, "num_queries": 8, "d_model": 32, "num_heads": 2, "d_ffn": 32}}


def scannet(room: PointCloud, raw: Path) -> None:
    export_scannet(room, raw / "scans" / "scene0000_01")
    finish_scannet(raw, "val", ["scene0000_01"])


def scannetpp(room: PointCloud, raw: Path) -> None:
    export_scannetpp(room, raw / "data" / "b000000000")
    finish_scannetpp(raw, "val", ["b000000000"])


def s3dis(room: PointCloud, raw: Path) -> None:
    export_s3dis(room, raw / "Area_5" / "office_1")


@pytest.mark.parametrize(("dataset", "export", "split", "classes"), [
    ("scannetv2", scannet, "val", {"desk", "chair"}), ("scannet200", scannet, "val", {"desk", "chair", "ceiling"}),
    ("scannetpp", scannetpp, "val", {"table", "chair"}), ("s3dis", s3dis, "Area_5", {"table", "chair", "wall", "clutter"})])
def test_one_command_leads_from_the_raw_folder_to_ap(dataset: str, export: Callable[[PointCloud, Path], None], split: str,
                                                     classes: set[str], tmp_path: Path, capsys) -> None:
    raw = tmp_path / "raw"
    export(tiny_room(side=12), raw)
    torch.manual_seed(0)
    network = build_model(build(ModelConfig, {**TINY, "classes": open_recipe(dataset, raw).classes}, where="test"))
    save_model(network, tmp_path / "tiny.safetensors")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({
        "model": {"inference": {"min_points": 1}}, "data": {"root": str(tmp_path / "out"), "val_split": split}}))
    assert main(["eval", str(tmp_path / "config.yaml"), str(tmp_path / "tiny.safetensors"), "--raw", dataset, str(raw),
                 "--device", "cpu", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    scored = {key.removeprefix("ap/") for key, value in result.items() if key.startswith("ap/") and value is not None}
    assert classes <= scored
    assert 0 <= result["ap"] <= 1
    own = {"mprec", "mrec", "mcov", "mwcov", "prec/chair", "rec/chair", "cov/chair", "wcov/chair"}
    assert own & result.keys() == (own if dataset == "s3dis" else set())
    assert json.loads((tmp_path / "out/manifest.json").read_text())["splits"][split]["scenes"] == 1


def test_a_faulty_scene_is_reported_the_rest_evaluated_and_the_exit_code_tells(tmp_path: Path, capsys) -> None:
    raw = tmp_path / "raw"
    scannet(tiny_room(side=12), raw)
    export_scannet(tiny_room(side=12), raw / "scans" / "scene0001_01")
    finish_scannet(raw, "val", ["scene0001_01"])
    (raw / "scans/scene0000_01/scene0000_01.aggregation.json").write_text("{")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": {"root": str(tmp_path / "out"), "val_split": "val"}}))
    code = main(["eval", str(tmp_path / "config.yaml"), "relation3d-synth", "--raw", "scannetv2", str(raw), "--device", "cpu"])
    shown = capsys.readouterr()
    assert code == 3
    assert "val/scene0000_01: " in shown.err
    assert "aggregation.json: the file is not valid json" in shown.err
    assert "AP50" in shown.out

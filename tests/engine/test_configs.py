"""Every config that ships builds its network and trains, on generated scans of its classes."""

import json
from pathlib import Path

import pytest
import torch

from pc3d.config import SIZES, ModelConfig, load_config
from pc3d.engine import evaluate, train
from pc3d.engine.trial import dry_run
from pc3d.errors import ConfigError
from pc3d.metrics import InstanceAP
from pc3d.models import build

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("relation3d_*.yaml"))
SMALL = ["model.backbone.channels=[8, 16]", "model.backbone.block_reps=1", "model.decoder.d_model=32",
         "model.decoder.num_heads=2", "model.decoder.d_ffn=32", "model.decoder.num_layers=2", "model.decoder.num_queries=8"]
HERE = ["data.workers=0", "train.batch_size=2", "train.device=cpu", "model.backbone.voxel_size=0.1", "augment.elastic=[]"]


def parameters(model: ModelConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(model).parameters())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem.removeprefix("relation3d_"))
def test_every_config_dry_runs(path, dataset, tmp_path):
    config = load_config(path, HERE + ([] if "init: " in path.read_text() else SMALL))
    classes = config.model.classes or ("box", "ball")
    if not config.model.classes and config.train.init:
        classes = ("chair", "table")  # not those of the network that it starts from
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    for split, source in ((config.data.train_split, "train"), (config.data.val_split, "val")):
        for name in split.split(","):
            (tmp_path / name).symlink_to(dataset / source)
    found = dry_run(config.with_overrides([f"data.root={tmp_path}"]))
    assert len(found.losses) == 2
    assert all(0 < loss < 1000 for loss in found.losses)
    assert found.memory > 0
    assert list(tmp_path.glob("*/config.yaml")) == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem.removeprefix("relation3d_"))
def test_every_config_builds_as_it_is(path):
    config = load_config(path).model
    assert parameters(config.model_copy(update={"classes": config.classes or ("box", "ball")})) > 1e6


def test_sizes_and_ablations_change_the_network_of_any_config():
    path = next(path for path in CONFIGS if path.stem == "relation3d_scannetv2")
    count = {size: parameters(load_config(path, [f"model.size={size}"]).model) for size in SIZES}
    assert count["small"] < count["medium"] / 2 < count["medium"] < count["large"] / 2
    assert count["medium"] == parameters(load_config(path).model)
    assert load_config(path, ["model.size=small", "model.decoder.num_layers=2"]).model.decoder.num_layers == 2
    for switch in ("asam", "clsr", "rsa"):
        assert parameters(load_config(path, [f"model.decoder.{switch}=false"]).model) < count["medium"]


def test_a_base_is_read_first_and_a_circle_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("model: {setting: paper}\ntrain: {lr: 0.1, epochs: 3}\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\ntrain: {lr: 0.2}\nmodel:\n")
    config = load_config(tmp_path / "b.yaml", ["train.seed=5"])
    assert (config.train.lr, config.train.epochs, config.train.seed) == (0.2, 3, 5)
    assert config.model.loss.final_dice == "sum"
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    with pytest.raises(ConfigError, match=r"its own base; got b\.yaml -> a\.yaml -> b\.yaml"):
        load_config(tmp_path / "b.yaml")
    (tmp_path / "b.yaml").write_text("base: [a.yaml]\n")
    with pytest.raises(ConfigError, match="base names one other config file"):
        load_config(tmp_path / "b.yaml")


def test_folds_are_predicted_each_by_its_own_network_and_counted_as_one(config, dataset, tmp_path, monkeypatch):
    run = train(config.with_overrides(["train.epochs=6", "train.eval_every=6"]))
    for split in ("train", "val"):
        for suffix in (".safetensors", ".json"):
            (tmp_path / f"{split}{suffix}").symlink_to((run / "last.safetensors").with_suffix(suffix))
    seen = []
    add = InstanceAP.add
    monkeypatch.setattr(InstanceAP, "add", lambda self, *scan: (seen.append(len(scan[0])), add(self, *scan))[1])
    both = config.with_overrides(["data.val_split='train, val'"])
    assert evaluate(both, tmp_path / "{split}.safetensors") == evaluate(both, run / "last.safetensors")
    assert len(seen) == 2 * 6

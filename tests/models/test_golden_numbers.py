"""Relation3D in float64 against numbers of the authors' implementation, weights filled by a rule on the released names."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pc3d.config import BackboneConfig, DecoderConfig, ModelConfig, paper_settings
from pc3d.losses import Criterion
from pc3d.losses.contrastive import state_loss
from pc3d.models import Relation3D, build
from pc3d.models.convert import from_released, released_name, to_released
from pc3d.nn.rsa import query_boxes
from pc3d.ops import segment_pool
from pc3d.structures import Relation3DOutput, Targets

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "relation3d_small_float64.json").read_text())
NUM_SUPERPOINTS, NUM_POINTS, NUM_INSTANCES = (37, 23), (400, 260), (5, 3)
TERMS = {"cls": "cls_loss", "center": "bbox_loss", "score": "score_loss", "bce": "mask_bce_loss", "dice": "mask_dice_loss"}


def frac(x: Any) -> Any:
    return x - np.floor(x)


def fill(name: str, shape: torch.Size) -> Tensor:
    """The rule of the golden numbers for one released tensor."""
    i = np.arange(max(int(np.prod(shape)), 1), dtype=np.float64)
    u = 2 * frac(np.sin((i + 1) * 12.9898 + zlib.crc32(name.encode()) % 1000 * 0.7233) * 43758.5453) - 1
    if name.endswith("running_var"):
        value = 1 + 0.2 * u
    elif name.endswith("gauss_B"):
        value = 1.5 * u
    elif name.endswith("refpoint_embed.weight"):
        value = 1.7 * u
    elif len(shape) == 1:
        value = float(name.endswith(".weight")) + 0.1 * u
    else:
        value = u * np.sqrt(3 / (np.prod(shape) / shape[0]))
    if name.endswith("decoder.norm.weight"):
        value = value * 0.3
    return torch.from_numpy(value).reshape(shape)


@pytest.fixture(scope="module")
def model() -> Relation3D:
    """The small network of the golden numbers."""
    config = paper_settings(ModelConfig(
        classes=tuple(f"class {i}" for i in range(18)), backbone=BackboneConfig(channels=(8, 16, 24, 32, 40)),
        decoder=DecoderConfig(num_queries=12, d_model=32, num_heads=4, d_ffn=64)))
    network = build(config).double()
    released = {name: fill(name, tensor.shape) if tensor.is_floating_point() else tensor
                for name, tensor in to_released(network.state_dict()).items()}
    network.load_state_dict(from_released(released))
    return network.eval()


def scan_points(scan: int) -> tuple[Tensor, Tensor]:
    """Coordinates (N, 3) and superpoints (N,) of golden scan 1 or 2."""
    i = np.arange(NUM_POINTS[scan - 1], dtype=np.float64)
    xyz = np.stack([4 * frac(i * 0.61803398875 + scan * 0.1) - 2, 3 * frac(i * 0.41421356237 + scan * 0.2) - 1.5,
                    2 * frac(i * 0.73205080757 + scan * 0.3) - 1], axis=1)
    superpoints = ((7919 * i + 13 * scan) % NUM_SUPERPOINTS[scan - 1]).astype(np.int64)
    superpoints[:NUM_SUPERPOINTS[scan - 1]] = np.arange(NUM_SUPERPOINTS[scan - 1])
    return torch.from_numpy(xyz), torch.from_numpy(superpoints)


@pytest.fixture(scope="module")
def scans() -> dict[str, Tensor]:
    """Both golden scans packed: point features (660, 8), superpoint ids, centroids (60, 3)."""
    (xyz0, ids0), (xyz1, ids1) = scan_points(1), scan_points(2)
    xyz, ids = torch.cat([xyz0, xyz1]), torch.cat([ids0, ids1 + NUM_SUPERPOINTS[0]])
    i, c = torch.arange(len(ids), dtype=torch.float64)[:, None], torch.arange(8, dtype=torch.float64)[None]
    features = (torch.sin(ids[:, None] * (0.9 + 0.37 * c) + c) + 0.4 * torch.sin(0.11 * i * (c + 1) + c)).relu()
    return {"features": features, "ids": ids, "centroids": segment_pool(xyz, ids, 60, "mean")}


@pytest.fixture(scope="module")
def targets(scans: dict[str, Tensor]) -> tuple[Targets, ...]:
    """The golden ground truth."""
    result = []
    for b, centroids in enumerate(scans["centroids"].split(NUM_SUPERPOINTS)):
        instance = (31 * torch.arange(NUM_SUPERPOINTS[b]) + 7 * b) % (NUM_INSTANCES[b] + 1) - 1
        masks = instance[None] == torch.arange(NUM_INSTANCES[b])[:, None]
        centers = torch.stack([centroids[mask].mean(dim=0) for mask in masks])
        result.append(Targets((5 * torch.arange(NUM_INSTANCES[b]) + b) % 18, masks, centers, instance))
    return tuple(result)


def decode(model: Relation3D, scans: dict[str, Tensor]) -> Relation3DOutput:
    """All layers of the decoder, the rest of the network in its own mode."""
    superpoints = model.asam(scans["features"], scans["ids"], 60)
    training = model.decoder.training
    model.decoder.train()
    output = model.decoder(superpoints, scans["centroids"], list(NUM_SUPERPOINTS))
    model.decoder.train(training)
    return output


@pytest.fixture(scope="module")
def output(model: Relation3D, scans: dict[str, Tensor]) -> Relation3DOutput:
    with torch.no_grad():
        return decode(model, scans)


def assert_golden(tensor: Tensor, golden: dict[str, Any]) -> None:
    """Sum, absolute sum and first values to the nine decimals that are stored."""
    flat = tensor.double().flatten()
    assert len(flat) == golden.get("n", len(flat))
    got = torch.stack([flat.sum(), flat.abs().sum(), *flat[:len(golden["first"])]]).tolist()
    assert got == pytest.approx([golden["sum"], golden["abs"], *golden["first"]], abs=2e-9, rel=1e-12)


def test_superpoints_are_the_published_ones(model: Relation3D, scans: dict[str, Tensor]) -> None:
    assert_golden(scans["centroids"], GOLDEN["pos"])
    with torch.no_grad():
        assert_golden(model.asam(scans["features"], scans["ids"], 60), GOLDEN["asam"])


def test_memory_after_each_layer_is_the_published_one(output: Relation3DOutput) -> None:
    assert len(output.memory) == len(GOLDEN["memory"]) == 7
    for state, golden in zip(output.memory, GOLDEN["memory"]):
        assert_golden(torch.cat(state), golden)


@pytest.mark.parametrize("index", range(6))
def test_heads_of_each_layer_are_the_published_ones(output: Relation3DOutput, index: int) -> None:
    layer, golden = output.layers[index], GOLDEN["layers"][index]
    assert_golden(layer.class_logits, golden["labels"])
    assert_golden(layer.scores, golden["scores"])
    assert_golden(layer.centers, golden["bboxes"])
    assert_golden(layer.masks[0], golden["masks_scene0"])
    assert_golden(layer.masks[1], golden["masks_scene1"])


def test_relations_of_the_last_layer_are_the_published_ones(model: Relation3D, scans: dict[str, Tensor],
                                                            output: Relation3DOutput) -> None:
    boxes = query_boxes(output.layers[4].masks[0], scans["centroids"][:37], min_size=0.0)
    assert_golden(boxes, GOLDEN["box_last_but_one_scene0"])
    assert model.decoder.relation is not None
    assert_golden(model.decoder.relation(boxes).detach(), GOLDEN["rel_bias_last_scene0"])


def test_relation_loss_of_each_state_is_the_published_one(output: Relation3DOutput, targets: tuple[Targets, ...]) -> None:
    losses = [state_loss(state, targets, "one_instance").item() for state in output.memory]
    assert losses == pytest.approx(GOLDEN["l_cont_each"], rel=1e-12)


def test_every_loss_term_is_the_published_one(model: Relation3D, output: Relation3DOutput,
                                              targets: tuple[Targets, ...]) -> None:
    losses = Criterion(model.config.loss, 18)(output, targets)
    for index in range(6):
        prefix = "" if index == 5 else f"layer_{index}_"
        for ours, theirs in TERMS.items():
            golden = GOLDEN["loss_terms"][prefix + theirs]
            assert losses[f"layer{index}.{ours}"].item() == pytest.approx(golden, rel=1e-12), ours
    assert losses["contrastive"].item() == pytest.approx(GOLDEN["loss_terms"]["sim_loss"], rel=1e-12)
    assert losses["loss"].item() == pytest.approx(GOLDEN["loss"], rel=1e-12)


def test_loss_with_training_batch_norm_is_the_published_one(model: Relation3D, scans: dict[str, Tensor],
                                                            targets: tuple[Targets, ...]) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    with torch.no_grad():
        losses = Criterion(model.config.loss, 18)(decode(model, scans), targets)
    model.load_state_dict(before)
    model.eval()
    assert losses["loss"].item() == pytest.approx(GOLDEN["loss_train_mode"], rel=1e-12)


def test_backbone_is_the_published_one(model: Relation3D) -> None:
    golden = GOLDEN["backbone"]
    i = torch.arange(700)
    coords = torch.stack([i % 2, 7 * i % 17, (11 * i + i // 17) % 13, (5 * i + i // 29) % 19], dim=1).unique(dim=0).int()
    row, k = torch.arange(len(coords), dtype=torch.float64)[:, None], torch.arange(9, dtype=torch.float64)[None]
    assert len(coords) == golden["n_voxels"]
    with torch.no_grad():
        voxels = model.backbone(torch.sin(row * (0.21 + 0.13 * k) + k), coords, golden["spatial_shape"], 2)
    assert_golden(voxels, golden["output_layer"])


def test_golden_names_are_the_released_ones(model: Relation3D) -> None:
    names = {released_name(name) for name in model.state_dict()}
    assert {"decoder.refpoint_embed.weight", "mlp.2.bias", "decoder.decoder.layers_cross.0.norm3.weight"} <= names

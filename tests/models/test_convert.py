from pathlib import Path

import pytest
import torch

from pc3d.config import BackboneConfig, DecoderConfig, ModelConfig, paper_settings
from pc3d.errors import CheckpointError
from pc3d.models import build, convert_checkpoint, load_model
from pc3d.models.convert import DEAD, find_state_dict, from_released, our_name, released_name, to_released

RELEASED = [line.split("\t") for line in
            (Path(__file__).parents[1] / "golden" / "relation3d_state_dict.txt").read_text().splitlines()]
CLASSES = ("chair", "table")
CONFIG = paper_settings(ModelConfig(
    classes=CLASSES, backbone=BackboneConfig(channels=(4, 8, 12), block_reps=2),
    decoder=DecoderConfig(num_queries=3, d_model=8, num_heads=2, d_ffn=16, num_layers=2)))


def full_state() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return build(ModelConfig(classes=tuple(map(str, range(18))))).state_dict()


def test_every_released_tensor_has_its_place_or_is_dead() -> None:
    ours, seen = full_state(), set()
    for name, _, _ in RELEASED:
        if not name.startswith(DEAD):
            assert our_name(name) in ours, name
            assert released_name(our_name(name)) == name
            seen.add(our_name(name))
    assert seen == set(ours)


def test_released_shapes_are_ours() -> None:
    converted = to_released(full_state())
    for name, shape, _ in RELEASED:
        if not name.startswith(DEAD):
            assert str(tuple(converted[name].shape)) == shape, name


def test_dead_parameters_are_the_counted_ones() -> None:
    dead = 0
    for name, shape, kind in RELEASED:
        if kind == "param" and name.startswith(DEAD):
            dead += torch.Size(int(n) for n in shape.strip("()").split(",") if n.strip()).numel()
    assert dead == 1_238_948


def test_round_trip_is_exact() -> None:
    torch.manual_seed(0)
    state = build(CONFIG).state_dict()
    back = from_released(to_released(state))
    assert list(back) == list(state)
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_pointwise_convolution_reads_its_buffer_as_in_by_out() -> None:
    name = "unet.blocks_tail.block0.i_branch.0.weight"
    buffer, x = torch.randn(3, 1, 1, 1, 6), torch.randn(5, 6)
    ours = from_released({name: buffer})["backbone." + name]
    torch.testing.assert_close(x @ ours.flatten(1).T, x @ buffer.view(6, 3))


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s},
                                  lambda s: {"model": {"module." + name: t for name, t in s.items()}, "meta": {"epoch": 1}}])
def test_released_file_becomes_a_model_that_loads(tmp_path: Path, wrap) -> None:
    torch.manual_seed(0)
    model = build(CONFIG)
    dead = {"coords_linear.0.weight": torch.zeros(3, 3), "criterion.loss_weight": torch.ones(5)}
    released = {**to_released(model.state_dict()), **dead}
    torch.save(wrap(released), tmp_path / "released.pth")
    report = convert_checkpoint(tmp_path / "released.pth", tmp_path / "ours", CLASSES)
    assert report.ignored == tuple(dead)
    assert len(report.converted) == len(model.state_dict())
    loaded = load_model(tmp_path / "ours.safetensors")
    assert loaded.config == CONFIG
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_wrong_number_of_classes_is_refused(tmp_path: Path) -> None:
    torch.save(to_released(build(CONFIG).state_dict()), tmp_path / "released.pth")
    with pytest.raises(CheckpointError, match="2"):
        convert_checkpoint(tmp_path / "released.pth", tmp_path / "ours", ("chair",))


def test_tensor_without_a_place_is_named(tmp_path: Path) -> None:
    torch.save({**to_released(build(CONFIG).state_dict()), "extra.weight": torch.zeros(1)}, tmp_path / "released.pth")
    with pytest.raises(CheckpointError, match=r"extra\.weight"):
        convert_checkpoint(tmp_path / "released.pth", tmp_path / "ours", CLASSES)


@pytest.mark.parametrize("content", [{"weights": torch.zeros(2)}, {"model": [1, 2]}, torch.zeros(3)])
def test_other_files_are_refused(tmp_path: Path, content) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth"):
        convert_checkpoint(tmp_path / "other.pth", tmp_path / "ours", CLASSES)


def test_data_parallel_prefix_is_removed() -> None:
    assert list(find_state_dict({"module.mlp.0.bias": torch.zeros(1)}, where="x")) == ["mlp.0.bias"]

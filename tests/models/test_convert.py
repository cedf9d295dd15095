from pathlib import Path

import pytest
import torch

from pc3d.config import BackboneConfig, DecoderConfig, ModelConfig, paper_settings
from pc3d.errors import CheckpointError
from pc3d.models import Relation3D, build, convert_checkpoint, load_model
from pc3d.models.convert import DEAD, ConversionReport, find_state_dict, from_released, our_name, released_name, to_released
from pc3d.models.layouts import find_layouts

RELEASED = [line.split("\t") for line in
            (Path(__file__).parents[1] / "golden" / "relation3d_state_dict.txt").read_text().splitlines()]
CLASSES = ("chair", "table")
CONFIG = paper_settings(ModelConfig(
    classes=CLASSES, backbone=BackboneConfig(channels=(4, 8, 12), block_reps=2),
    decoder=DecoderConfig(num_queries=3, d_model=8, num_heads=2, d_ffn=16, num_layers=2)))


def convert(folder: Path, state: dict[str, torch.Tensor], model: ModelConfig | None = None) -> ConversionReport:
    torch.save({"state_dict": state}, folder / "released.pth")
    return convert_checkpoint(folder / "released.pth", folder / "ours", CLASSES, model)


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
    assert dict(report.ignored).keys() == dead.keys()
    assert len(report.loaded) + len(report.adapted) == len(model.state_dict())
    assert not report.missing
    loaded = load_model(tmp_path / "ours.safetensors")
    assert loaded.config == CONFIG
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_wrong_number_of_classes_is_refused(tmp_path: Path) -> None:
    torch.save(to_released(build(CONFIG).state_dict()), tmp_path / "released.pth")
    with pytest.raises(CheckpointError, match="2"):
        convert_checkpoint(tmp_path / "released.pth", tmp_path / "ours", ("chair",))


def test_every_tensor_is_told_of(tmp_path: Path) -> None:
    state = {**to_released(build(CONFIG).state_dict()), "extra.weight": torch.zeros(1)}
    report = convert(tmp_path, state)
    told = [*report.loaded, *dict(report.adapted), *dict(report.ignored)]
    assert sorted(told) == sorted(state)
    assert dict(report.ignored)["extra.weight"] == "no such tensor in this network"
    lines = report.lines()
    assert len(lines) == len(state) + 1
    assert lines[-1] == f"Relation3D checkpoint: {len(state) - 1 - 2} loaded, 2 adapted, 1 ignored, 0 missing"


def test_a_checkpoint_that_lacks_a_tensor_is_no_whole_network(tmp_path: Path) -> None:
    state = to_released(build(CONFIG).state_dict())
    del state["decoder.out_bbox.2.bias"]
    with pytest.raises(CheckpointError, match=r"lacks tensors.*decoder\.heads\.center\.2\.bias"):
        convert(tmp_path, state)
    report = convert(tmp_path, state, CONFIG)
    assert report.missing == ("decoder.heads.center.2.bias",)


@pytest.mark.parametrize("content", [{"weights": torch.zeros(2)}, {"model": [1, 2]}, torch.zeros(3)])
def test_other_files_are_refused(tmp_path: Path, content) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth"):
        convert_checkpoint(tmp_path / "other.pth", tmp_path / "ours", CLASSES)


#: Layout of a file -> how the axes of a [out, x, y, z, in] kernel lie in it.
STORED = {"[x, y, z, in, out]": (1, 2, 3, 4, 0), "[y, z, in, out, x]": (2, 3, 4, 0, 1), "[out, in, x, y, z]": (0, 4, 1, 2, 3)}


def make(seed: int = 0) -> tuple[Relation3D, dict[str, torch.Tensor]]:
    """A network, and its kernels as matrices that mean what they say, [out, x, y, z, in], under the released names."""
    torch.manual_seed(seed)
    model = build(CONFIG)
    state = to_released(model.state_dict())
    return model, {name: model.state_dict()[our_name(name)] if tensor.dim() == 5 else tensor for name, tensor in state.items()}


@pytest.mark.parametrize("layout", STORED)
def test_kernels_of_other_layouts_become_the_same_network(tmp_path: Path, layout: str) -> None:
    model, state = make()
    stored = {name: t.permute(STORED[layout]).contiguous() if t.dim() == 5 else t for name, t in state.items()}
    for config in (None, CONFIG):
        report = convert(tmp_path, stored, config)
        assert dict(report.adapted) == {name: f"from {layout}" for name, t in state.items() if t.dim() == 5}
        loaded = load_model(tmp_path / "ours.safetensors").state_dict()
        assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())


def test_a_kernel_as_wide_as_it_is_deep_is_laid_out_as_the_others() -> None:
    wanted = {"a": (3, 3, 3, 3, 3), "b": (4, 3, 3, 3, 8), "c": (4, 3, 3, 3, 4)}
    assert find_layouts({"a": torch.zeros(3, 3, 3, 3, 3), "b": torch.zeros(3, 3, 3, 8, 4), "c": torch.zeros(3, 3, 3, 4, 4)},
                        wanted) == dict.fromkeys("abc", "[x, y, z, in, out]")
    assert find_layouts({"a": torch.zeros(3, 3, 3, 3, 3), "b": torch.zeros(4, 3, 3, 3, 8), "c": torch.zeros(5, 3, 3, 3, 4)},
                        wanted) == dict.fromkeys("ab", "[out, x, y, z, in]")


@pytest.mark.parametrize(("family", "mark"), [
    ("SSTNet backbone", {}), ("SPFormer", {"decoder.query.weight": torch.zeros(4, 8)})])
def test_a_six_channel_backbone_starts_a_nine_channel_network(tmp_path: Path, family: str, mark: dict) -> None:
    _, state = make()
    backbone = {name: t for name, t in state.items() if name.startswith(("input_conv.", "unet.", "output_layer."))}
    stem = backbone["input_conv.0.weight"] = backbone["input_conv.0.weight"][..., :6].clone()
    stored = {name: t.permute(1, 2, 3, 4, 0) if t.dim() == 5 else t for name, t in backbone.items()}
    report = convert(tmp_path, {**stored, **mark, "linear.0.weight": torch.zeros(2, 2)}, CONFIG)
    assert report.family == family
    assert "the 6 shared input channels" in dict(report.adapted)["input_conv.0.weight"]
    assert dict(report.ignored) == dict.fromkeys([*mark, "linear.0.weight"], f"belongs to {family} alone")
    assert all(name.startswith(("asam.", "decoder.")) for name in report.missing)
    loaded = load_model(tmp_path / "ours.safetensors").state_dict()
    assert torch.equal(loaded["backbone.input_conv.0.weight"][..., :6], stem)
    assert loaded["backbone.input_conv.0.weight"][..., 6:].abs().sum() > 0
    assert all(torch.equal(t, loaded["backbone." + name]) for name, t in backbone.items() if name != "input_conv.0.weight")


def test_maft_brings_its_decoder_and_leaves_asam_clsr_and_relations_fresh(tmp_path: Path) -> None:
    _, state = make()
    own = ("mlp.", "pooling_linear", "decoder.decoder.layers_cross.", "decoder.decoder.position_relation_embedding.")
    maft = {name: t for name, t in to_released(build(CONFIG).state_dict()).items() if not name.startswith(own)}
    report = convert(tmp_path, {**maft, "decoder.x_mask.0.weight": torch.zeros(8, 4)}, CONFIG)
    assert report.family == "MAFT"
    assert set(report.missing) == {our_name(name) for name in state if name.startswith(own)}
    assert dict(report.ignored) == {"decoder.x_mask.0.weight": "Relation3D does not use it"}


def test_more_queries_and_other_classes_keep_what_is_shared(tmp_path: Path) -> None:
    model, _ = make()
    larger = CONFIG.with_overrides(["decoder.num_queries=5", "classes=[a, b, c]"])
    report = convert(tmp_path, to_released(model.state_dict()), larger)
    assert "the 3 shared queries" in dict(report.adapted)["decoder.refpoint_embed.weight"]
    assert set(dict(report.ignored)) == {"decoder.out_cls.2.weight", "decoder.out_cls.2.bias"}
    assert set(report.missing) == {"decoder.heads.classes.2.weight", "decoder.heads.classes.2.bias"}


def test_a_backbone_alone_asks_for_a_network_and_one_of_another_width_is_refused(tmp_path: Path) -> None:
    _, state = make()
    backbone = {name: t for name, t in state.items() if name.startswith("unet.")}
    with pytest.raises(CheckpointError, match=r"only a part.*--config"):
        convert(tmp_path, backbone)
    with pytest.raises(CheckpointError, match="no kernel of the backbone fits"):
        convert(tmp_path, {name: t for name, t in backbone.items() if "conv_branch" in name},
                CONFIG.with_overrides(["backbone.channels=[6, 10, 14]"]))
    assert not (tmp_path / "ours.safetensors").exists()


def test_data_parallel_prefix_is_removed() -> None:
    assert list(find_state_dict({"module.mlp.0.bias": torch.zeros(1)}, where="x")) == ["mlp.0.bias"]

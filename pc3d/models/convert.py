"""Released weights to ours: Relation3D whole, and the parts of its relatives that it can start from.

Two tensors change shape on the way. spconv 2.x multiplies a 1x1 convolution by its [out, 1, 1, 1, in] buffer read as
[in, out], without transposing; ours holds the matrix that was meant. The 1x1 convolution of RSA is a linear layer here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pc3d.config import BackboneConfig, DecoderConfig, ModelConfig, paper_settings
from pc3d.errors import CheckpointError, ConfigError, explain
from pc3d.models.checkpoint import read_foreign, save_model
from pc3d.models.layouts import LAYOUTS, OURS, find_layouts
from pc3d.models.relation3d import Relation3D, build

#: Released prefix, ours.
PARTS = (
    ("input_conv.", "backbone.input_conv."),
    ("unet.", "backbone.unet."),
    ("output_layer.", "backbone.output_layer."),
    ("pooling_linear.", "asam.mean_weight."),
    ("pooling_linear1.", "asam.max_weight."),
    ("mlp.", "asam.merge."),
    ("decoder.input_proj.", "decoder.input_proj."),
    ("decoder.refpoint_embed.weight", "decoder.reference_points"),
    ("decoder.key_position_embedding.", "decoder.memory_encoding."),
    ("decoder.decoder.position_embedding.", "decoder.query_encoding."),
    ("decoder.decoder.ref_point_head.layers.0.", "decoder.query_point.0."),
    ("decoder.decoder.ref_point_head.layers.1.", "decoder.query_point.2."),
    ("decoder.decoder.bbox_embed.layers.0.", "decoder.shift.0."),
    ("decoder.decoder.bbox_embed.layers.1.", "decoder.shift.2."),
    ("decoder.decoder.bbox_embed.layers.2.", "decoder.shift.4."),
    ("decoder.decoder.norm.", "decoder.norm."),
    ("decoder.decoder.position_relation_embedding.pos_proj.0.", "decoder.relation.project."),
    ("decoder.decoder.position_relation_embedding.pos_func.", "decoder.relation.encoding."),
    ("decoder.out_cls.", "decoder.heads.classes."),
    ("decoder.out_score.", "decoder.heads.score."),
    ("decoder.out_bbox.", "decoder.heads.center."),
    ("decoder.decoder.layers_cross.0.", "decoder.clsr."),
    ("decoder.decoder.layers.", "decoder.layers."),
)

#: The same inside a decoder layer and inside CLSR.
LAYER_PARTS = (
    ("relative_pos_query_table", "cross_attention.query_table"),
    ("relative_pos_key_table", "cross_attention.key_table"),
    ("relative_pos_value_table", "cross_attention.value_table"),
    ("sa_qcontent_proj.", "self_attention.query_content."),
    ("sa_qpos_proj.", "self_attention.query_position."),
    ("sa_kcontent_proj.", "self_attention.key_content."),
    ("sa_kpos_proj.", "self_attention.key_position."),
    ("sa_v_proj.", "self_attention.value."),
    ("self_attn.out_proj.", "self_attention.out."),
    ("ca_qpos_proj.", "point_code."),
    ("ca_qcontent_proj.", "cross_attention.query_content."),
    ("ca_qpos_sine_proj.", "cross_attention.query_position."),
    ("ca_kcontent_proj.", "cross_attention.key_content."),
    ("ca_kpos_proj.", "cross_attention.key_position."),
    ("ca_v_proj.", "cross_attention.value."),
    ("cross_attn.out_proj.", "cross_attention.out."),
    ("linear1.", "ffn.0."),
    ("linear2.", "ffn.3."),
    ("norm1.", "self_norm."),
    ("norm2.", "cross_norm."),
    ("norm3.", "ffn_norm."),
)

#: Released tensors that never reach an output of Relation3D (checked: their gradients are zero), and settings kept as buffers.
DEAD = ("coords_linear.", "decoder.x_mask.", "decoder.decoder.layers_cross.0.norm1.",
        "decoder.decoder.layers_cross.0.ca_qpos_proj.", "decoder.decoder.layers_cross.1.", "criterion.")


#: Families of checkpoints, told by a tensor that only they have, and the parts that Relation3D shares with each.
BACKBONE = ("input_conv.", "unet.", "output_layer.")
FAMILIES = (
    ("Relation3D", "pooling_linear.0.weight", ("",)),
    ("MAFT", "decoder.decoder.layers.0.relative_pos_query_table", ("",)),
    ("SPFormer", "decoder.query.weight", BACKBONE),
    ("SSTNet backbone", "unet.blocks.block0.conv_branch.0.weight", BACKBONE),
)


@dataclass(frozen=True)
class ConversionReport:
    """What became of a checkpoint: the fate of each of its tensors, and ours that it has nothing for."""

    family: str
    config: ModelConfig
    loaded: tuple[str, ...]               # released names taken as they are
    adapted: tuple[tuple[str, str], ...]  # released name, what was changed
    ignored: tuple[tuple[str, str], ...]  # released name, why
    missing: tuple[str, ...]              # our names, which keep fresh weights

    def lines(self) -> list[str]:
        """One line for each tensor, and their number last."""
        count = ", ".join(f"{len(getattr(self, kind))} {kind}" for kind in ("loaded", "adapted", "ignored", "missing"))
        return [*(f"loaded   {name}" for name in self.loaded), *(f"adapted  {name}: {how}" for name, how in self.adapted),
                *(f"ignored  {name}: {why}" for name, why in self.ignored),
                *(f"missing  {name}: fresh weights" for name in self.missing), f"{self.family} checkpoint: {count}"]


def convert_checkpoint(src: str | Path, dst: str | Path, classes: tuple[str, ...] = (),
                       model: ModelConfig | None = None) -> ConversionReport:
    """Convert released weights into a pc3d model at ``dst``.

    Without ``model`` the file must be a whole Relation3D checkpoint; the network is read off its shapes and gets the
    paper's settings and ``classes``. With ``model`` that network takes what fits it, from Relation3D, MAFT, SPFormer or an
    SSTNet backbone; the rest stays fresh, to be trained from there. Raises CheckpointError where nothing of the backbone fits,
    and ConfigError without names of classes.
    """
    released = find_state_dict(read_foreign(src), where=src)
    family, shared = _family(released, where=src)
    if not classes and (model is None or not model.classes):
        raise ConfigError(explain("the class names are needed: a checkpoint holds only their number", where=src,
                                  do="Give --classes chair,table,... or a --config with model.classes."))
    if model is None and family != "Relation3D":
        raise CheckpointError(explain(f"a {family} checkpoint is only a part of a Relation3D network", where=src,
                                      do="Name the network that it is to start: --config CONFIG."))
    config = model or read_config(released, classes, where=src)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(config)
    report = _adopt(network, released, shared, family)
    if model is None and report.missing:
        raise CheckpointError(explain("this checkpoint lacks tensors of the network", where=src, got=", ".join(report.missing)))
    taken = (*report.loaded, *dict(report.adapted))
    if not any(name.startswith(BACKBONE) and released[name].dim() == 5 for name in taken):
        raise CheckpointError(explain("no kernel of the backbone fits the network", where=src,
                                      got="; ".join(f"{name}: {why}" for name, why in report.ignored[:3]),
                                      do="Check model.size and model.backbone of the config."))
    save_model(network, dst)
    return report


def _family(released: Mapping[str, Tensor], *, where: object) -> tuple[str, tuple[str, ...]]:
    """Which family a checkpoint is of, and the prefixes of what it shares with Relation3D."""
    for family, mark, shared in FAMILIES:
        if mark in released:
            return family, shared
    raise CheckpointError(explain("not a checkpoint that pc3d knows", where=where, got=", ".join(list(released)[:4]),
                                  expected=f"one of {', '.join(name for name, _, _ in FAMILIES)}"))


def _adopt(network: Relation3D, released: Mapping[str, Tensor], shared: tuple[str, ...], family: str) -> ConversionReport:
    """Give a network what fits of a checkpoint, and say what became of each tensor."""
    ours = network.state_dict()
    wanted = {name: _released_shape(our_name(name), ours) for name in released if our_name(name) in ours}
    layouts = find_layouts(released, wanted)
    loaded: list[str] = []
    adapted: dict[str, str] = {}
    ignored: dict[str, str] = {}
    filled = set()
    for name, tensor in released.items():
        if name.startswith(DEAD):
            ignored[name] = "Relation3D does not use it"
        elif not name.startswith(shared):
            ignored[name] = f"belongs to {family} alone"
        elif name not in wanted:
            ignored[name] = "no such tensor in this network"
        else:
            target = our_name(name)
            fitting, how = _fit(target, tensor, ours[target], layouts.get(name))
            if fitting is None:
                ignored[name] = how
                continue
            ours[target].copy_(fitting)
            filled.add(target)
            if how:
                adapted[name] = how
            else:
                loaded.append(name)
    missing = tuple(name for name in ours if name not in filled)
    return ConversionReport(family, network.config, tuple(loaded), tuple(adapted.items()), tuple(ignored.items()), missing)


def _fit(ours: str, tensor: Tensor, like: Tensor, layout: str | None) -> tuple[Tensor | None, str]:
    """A released tensor as ours and what was changed, "" for nothing; or None and why it does not fit."""
    changes = []
    if layout is not None and layout != OURS:
        tensor = tensor.permute(LAYOUTS[layout])
        changes.append(f"from {layout}")
    if layout == OURS or tensor.dim() != 5:
        turned = _from_released(ours, tensor)
        if turned is not tensor and tensor.dim() == 5:
            changes.append("1x1 buffer read as [in, out]")
        tensor = turned
    if tensor.shape == like.shape:
        return tensor, ", ".join(changes)
    was = f"{tuple(tensor.shape)} for {tuple(like.shape)}"
    if ours == "backbone.input_conv.0.weight" and tensor.shape[:-1] == like.shape[:-1]:
        fitting, count = like.clone(), min(tensor.shape[-1], like.shape[-1])
        fitting[..., :count] = tensor[..., :count]
        return fitting, ", ".join([*changes, f"the {count} shared input channels of {was}"])
    if ours == "decoder.reference_points" and tensor.shape[1:] == like.shape[1:]:
        fitting, count = like.clone(), min(len(tensor), len(like))
        fitting[:count] = tensor[:count]
        return fitting, f"the {count} shared queries of {was}"
    return None, f"has another shape, {was}"


def _released_shape(ours: str, state: Mapping[str, Tensor]) -> tuple[int, ...]:
    return tuple(_to_released(ours, state[ours]).shape)


def find_state_dict(checkpoint: Any, *, where: object) -> dict[str, Tensor]:
    """The tensors of a checkpoint, nested under "model" or "state_dict" or bare, without the "module." of data parallel."""
    for key in ("model", "state_dict"):
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
    if not isinstance(checkpoint, Mapping) or not all(isinstance(value, Tensor) for value in checkpoint.values()):
        raise CheckpointError(explain("no state dict in this file", where=where, got=type(checkpoint).__name__,
                                      expected='tensors by name, bare or under "model" or "state_dict"'))
    return {str(name).removeprefix("module."): tensor for name, tensor in checkpoint.items()}


def from_released(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict from a released one; dead tensors are left out, unknown names stay as they are."""
    return {name: _from_released(name, tensor) for name, tensor in
            ((our_name(name), tensor) for name, tensor in tensors.items() if not name.startswith(DEAD))}


def to_released(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The released state dict of ours, without the dead tensors."""
    return {released_name(name): _to_released(name, tensor) for name, tensor in tensors.items()}


def our_name(released: str) -> str:
    """Our name of a released tensor."""
    return _rename(released, PARTS, LAYER_PARTS)


def released_name(ours: str) -> str:
    """The released name of one of our tensors."""
    return _rename(ours, [pair[::-1] for pair in PARTS], [pair[::-1] for pair in LAYER_PARTS])


def read_config(released: Mapping[str, Tensor], classes: tuple[str, ...], *, where: object) -> ModelConfig:
    """The config whose network has these tensors, with the paper's settings."""
    try:
        shape = {name: tuple(tensor.shape) for name, tensor in released.items()}
        channels = _count(shape, "unet{}.blocks.block0.conv_branch.0.weight", ".u")
        table = shape["decoder.decoder.layers.0.relative_pos_query_table"]
        decoder = DecoderConfig(
            num_layers=len([n for n in shape if n.startswith("decoder.decoder.layers.") and n.endswith("norm3.bias")]),
            num_queries=shape["decoder.refpoint_embed.weight"][0], d_model=shape["decoder.decoder.norm.weight"][0],
            num_heads=table[0], d_ffn=shape["decoder.decoder.layers.0.linear1.weight"][0], grid_length=table[2] // 6)
        backbone = BackboneConfig(channels=channels, block_reps=len([
            name for name in shape if name.startswith("unet.blocks.") and name.endswith("conv_branch.0.bias")]))
        num_inputs = released["input_conv.0.weight"].numel() // (27 * channels[0])  # in whatever layout
        num_classes = shape["decoder.out_cls.2.weight"][0] - 1
    except (KeyError, IndexError) as error:
        raise CheckpointError(explain("not a Relation3D checkpoint", where=where, got=f"no tensor {error}")) from error
    if len(classes) != num_classes:
        raise CheckpointError(explain("class names do not fit the checkpoint", where=where, got=f"{len(classes)} names",
                                      expected=f"{num_classes}"))
    return paper_settings(ModelConfig(classes=tuple(classes), use_normals=num_inputs == 9, use_rgb=num_inputs >= 6,
                                      backbone=backbone, decoder=decoder))


def _count(shape: Mapping[str, tuple[int, ...]], pattern: str, step: str) -> tuple[int, ...]:
    """First sizes of ``pattern`` with step, step step, ... filled in, as far as there are such tensors."""
    sizes: list[int] = []
    while (name := pattern.format(step * len(sizes))) in shape:
        sizes.append(shape[name][0])
    return tuple(sizes)


def _rename(name: str, parts: Any, layer_parts: Any) -> str:
    for before, after in parts:
        if not name.startswith(before):
            continue
        rest = name.removeprefix(before)
        if not before.endswith(("layers.", "clsr.", "layers_cross.0.")):
            return str(after + rest)
        index, rest = _split_index(rest) if before.endswith("layers.") else ("", rest)
        inner = next((new + rest.removeprefix(old) for old, new in layer_parts if rest.startswith(old)), rest)
        return str(after + index + inner)
    return name


def _split_index(rest: str) -> tuple[str, str]:
    index, _, rest = rest.partition(".")
    return f"{index}.", rest


def _from_released(ours: str, tensor: Tensor) -> Tensor:
    if ours.endswith("i_branch.0.weight"):
        out_channels, in_channels = tensor.shape[0], tensor.shape[-1]
        return tensor.reshape(in_channels, out_channels).T.reshape(tensor.shape).contiguous()
    return tensor.flatten(1) if ours == "decoder.relation.project.weight" else tensor


def _to_released(ours: str, tensor: Tensor) -> Tensor:
    if ours.endswith("i_branch.0.weight"):
        return tensor.flatten(1).T.reshape(tensor.shape).contiguous()
    return tensor[:, :, None, None] if ours == "decoder.relation.project.weight" else tensor

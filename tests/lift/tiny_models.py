"""2D models of their real architectures, tiny and with random weights, saved as checkpoint folders; and images for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pc3d.structures import Camera, Frame

transformers = pytest.importorskip("transformers")

VISION = {"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64,
          "patch_size": 8, "window_size": 4, "global_attn_indexes": [1], "num_pos_feats": 8, "mlp_dim": 32}
PROMPT = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4}
PROMPT2 = {**PROMPT, "hidden_size": 128, "patch_size": 16}
PROMPT3 = {**PROMPT, "hidden_size": 128, "image_size": 56, "patch_size": 14}
DECODER = {"hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "attention_downsample_rate": 2,
           "iou_head_hidden_dim": 16, "iou_head_depth": 2}
# the memory of a tracker has 64 channels whatever its config says, and the rest must have more
WIDE_DECODER = {**DECODER, "hidden_size": 128}
HIERA = {"model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1, "image_size": [64, 64],
         "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
         "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [4, 2, 2, 2], "global_attention_blocks": [3],
         "window_positional_embedding_background_size": [4, 4]}
PYRAMID = {"backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 128}
VIT3 = {"model_type": "sam3_vit_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "window_size": 2, "global_attn_indexes": [1],
        "pretrain_image_size": 28}
VISION3 = {"model_type": "sam3_vision_model", "backbone_config": VIT3, "scale_factors": [4.0, 2.0, 1.0, 0.5], **PYRAMID}


def make_sam(config, model, **decoder):
    return model(config(vision_config=VISION, prompt_encoder_config=PROMPT, mask_decoder_config={**DECODER, **decoder}))


def make_sam2():
    vision = {"backbone_config": HIERA, "backbone_channel_list": [64, 32, 16, 8], **PYRAMID}
    return transformers.Sam2Model(transformers.Sam2Config(
        vision_config=vision, prompt_encoder_config=PROMPT2, mask_decoder_config=WIDE_DECODER))


# a short memory, so that a few frames go beyond its reach
MEMORY = {"num_maskmem": 3, "max_object_pointers_in_encoder": 4, "memory_attention_hidden_size": 128,
          "memory_attention_num_layers": 1, "memory_attention_feed_forward_hidden_size": 16,
          "memory_attention_rope_feat_sizes": [4, 4], "memory_encoder_hidden_size": 128, "mask_downsampler_embed_dim": 128,
          "memory_fuser_embed_dim": 128, "memory_fuser_intermediate_dim": 16, "memory_fuser_num_layers": 1}


def make_tracker():
    """The part of SAM 3 that follows objects through a video, as a config."""
    return {"vision_config": VISION3, "prompt_encoder_config": PROMPT3,
            "mask_decoder_config": WIDE_DECODER, "image_size": 56, **MEMORY}


def make_sam3():
    tracker = make_tracker()
    return transformers.Sam3TrackerModel(transformers.Sam3TrackerConfig(
        **{name: tracker[name] for name in ("vision_config", "prompt_encoder_config", "mask_decoder_config")}))


def make_mask_former(config, model, **more):
    swin = transformers.SwinConfig(image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
                                   out_features=["stage1", "stage2", "stage3", "stage4"])
    names = {0: "wall", 1: "chair", 2: "table"}
    return model(config(backbone_config=swin, id2label=names, **more))


def make_mask2former():
    return make_mask_former(
        transformers.Mask2FormerConfig, transformers.Mask2FormerForUniversalSegmentation, hidden_dim=32, feature_size=32,
        mask_feature_size=32, encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=16,
        encoder_feedforward_dim=16, num_queries=7)


def make_maskformer():
    detr = transformers.DetrConfig(d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, num_queries=7,
                                   decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, use_timm_backbone=False,
                                   use_pretrained_backbone=False, backbone=None, backbone_config=transformers.ResNetConfig())
    return make_mask_former(transformers.MaskFormerConfig, transformers.MaskFormerForInstanceSegmentation,
                            decoder_config=detr, fpn_feature_size=32, mask_feature_size=32)


def make_oneformer():
    return make_mask_former(
        transformers.OneFormerConfig, transformers.OneFormerForUniversalSegmentation, hidden_dim=32, conv_dim=32, mask_dim=32,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=16, encoder_feedforward_dim=16,
        query_dec_layers=1, num_queries=7, text_encoder_width=16, text_encoder_num_layers=1, text_encoder_vocab_size=60)


def make_eomt():
    return transformers.EomtForUniversalSegmentation(transformers.EomtConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=8, num_blocks=1, num_queries=6,
        num_upscale_blocks=1, mlp_ratio=2, id2label={0: "wall", 1: "chair"}))


MAKERS = {
    "sam": lambda: make_sam(transformers.SamConfig, transformers.SamModel),
    "samhq": lambda: make_sam(transformers.SamHQConfig, transformers.SamHQModel, vit_dim=16),
    "sam2": make_sam2, "sam3": make_sam3, "mask2former": make_mask2former, "maskformer": make_maskformer, "eomt": make_eomt,
    "oneformer": make_oneformer,
}
SIZES = {"size": {"shortest_edge": 64, "longest_edge": 128}, "size_divisor": 32}
SETTINGS = dict.fromkeys(("mask2former", "maskformer", "oneformer"), SIZES)


def make_detector():
    """The part of SAM 3 that reads text, as a config."""
    layers = {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 32, "num_layers": 1}
    text = {"model_type": "clip_text_model", "vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "projection_dim": 16,
            "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32, "bos_token_id": 0,
            "eos_token_id": 1}
    return {"vision_config": VISION3, "text_config": text, "geometry_encoder_config": layers, "detr_encoder_config": layers,
            "detr_decoder_config": {**layers, "num_queries": 6},
            "mask_decoder_config": {"hidden_size": 128, "num_attention_heads": 2}}


def save_tokenizer(folder: Path, first: int = 2) -> None:
    """CLIP's tokenizer over single letters: 52 tokens from ``first`` on."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    vocab = {"<|startoftext|>": 0, "<|endoftext|>": 1, **{token: first + i for i, token in enumerate(tokens)}}
    transformers.CLIPTokenizer(vocab=vocab, merges=[]).save_pretrained(folder)


def save_checkpoint(folder: Path, make: Callable[[], Any], settings: dict[str, Any]) -> None:
    """A checkpoint folder with random weights, as save_pretrained writes it."""
    torch.manual_seed(0)
    make().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    save_tokenizer(folder)


def make_sam2_video():
    vision = {"model_type": "sam2_vision_model", "backbone_config": HIERA, "backbone_channel_list": [64, 32, 16, 8], **PYRAMID}
    model = transformers.Sam2VideoModel(transformers.Sam2VideoConfig(
        vision_config=vision, prompt_encoder_config=PROMPT2, mask_decoder_config=WIDE_DECODER, image_size=64,
        **MEMORY))
    return keep_in_sight(model)


def keep_in_sight(model):
    """A tracker whose random weights never think an object gone."""
    torch.nn.init.constant_(model.mask_decoder.pred_obj_score_head.proj_out.bias, 10.0)
    return model


def save_sam3(folder: Path) -> None:
    """All of SAM 3 in one file, named as on the hub: detector_model, tracker_model and tracker_neck (save_pretrained of 5.24
    writes tracker_model twice into the names)."""
    torch.manual_seed(0)
    config = transformers.Sam3VideoConfig(detector_config=make_detector(), tracker_config=make_tracker(), low_res_mask_size=16)
    model = transformers.Sam3VideoModel(config)
    keep_in_sight(model.tracker_model)
    config.save_pretrained(folder)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors",
              metadata={"format": "pt"})
    save_tokenizer(folder)


def frame_of(rgb) -> Frame:
    camera = Camera(rgb.shape[1], rgb.shape[0], 50.0, 50.0, rgb.shape[1] / 2, rgb.shape[0] / 2)
    return Frame("0", camera, camera, np.eye(4), lambda: rgb, None)


def noise(height=40, width=60, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)

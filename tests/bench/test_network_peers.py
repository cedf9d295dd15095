"""The peers of the decoder and inference benchmarks compute what pc3d computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pc3d.bench.decoder import EagerDecoder, about, floor_flop
from pc3d.bench.inference import CONFIG, _run_lengths, blobs, eager_asam, usual_instances
from pc3d.config import DecoderConfig
from pc3d.errors import DataError
from pc3d.models import Proposals, to_instances
from pc3d.nn.asam import ASAM
from pc3d.nn.decoder import Decoder
from pc3d.structures import PointBatch

SMALL = DecoderConfig(num_queries=9, d_model=16, num_heads=2, d_ffn=32, num_layers=4)


def test_the_eager_decoder_is_the_decoder() -> None:
    torch.manual_seed(0)
    decoder = Decoder(SMALL, in_channels=6, num_classes=3).double().eval()
    superpoints, xyz = torch.randn(20, 6, dtype=torch.float64), 3 * torch.rand(20, 3, dtype=torch.float64)
    with torch.no_grad():
        layer = decoder(superpoints, xyz, [20]).layers[-1]
        classes, masks = EagerDecoder(decoder)(superpoints, xyz)
    torch.testing.assert_close(classes, layer.class_logits[0])
    torch.testing.assert_close(masks, layer.masks[0])


def test_eager_asam_is_asam() -> None:
    torch.manual_seed(0)
    asam, ids = ASAM(8).double().eval(), torch.cat([torch.arange(9), torch.randint(0, 9, (60,))])
    points = torch.randn(len(ids), 8, dtype=torch.float64)
    torch.testing.assert_close(eager_asam(asam, points, ids, 9), asam(points, ids, 9))


def test_the_usual_way_reads_the_same_instances() -> None:
    generator = torch.Generator().manual_seed(0)
    count, segments = 6000, 120
    xyz = 4 * torch.rand(count, 3, generator=generator)
    ids = torch.cat([torch.arange(segments), torch.randint(0, segments, (count - segments,), generator=generator)])
    batch = PointBatch(xyz, torch.zeros(count, 9), torch.tensor([0, count]), torch.zeros(1, 4, dtype=torch.int32),
                       torch.zeros(count, dtype=torch.int64), (1, 1, 1), ids, torch.tensor([0, segments]))
    output = blobs(batch)
    own, usual = to_instances([Proposals.of(output, 0, CONFIG.inference)], ids, CONFIG), usual_instances(output, batch)
    assert len(own) > 10
    assert [entry["label"] for entry in usual] == own.labels.tolist()
    assert [entry["runs"] for entry in usual] == [_run_lengths(mask.astype(np.int32)) for mask in own.point_masks]


def test_decoders_that_differ_are_refused() -> None:
    about(torch.ones(100), torch.ones(100) + 1e-4)
    with pytest.raises(DataError, match="different things"):
        about(torch.ones(100), torch.ones(100) + 0.1)


def test_the_floor_is_the_published_count() -> None:
    assert floor_flop(DecoderConfig(), 1500) == pytest.approx(27e9, rel=0.05)  # 26 to 28 GFLOP for 400 queries
    assert floor_flop(DecoderConfig(), 5000) == pytest.approx(68.5e9, rel=0.05)

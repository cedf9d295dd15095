from itertools import pairwise

import pytest
import torch

from pc3d.config import DecoderConfig
from pc3d.nn.decoder import Decoder

CONFIG = DecoderConfig(num_queries=5, d_model=16, num_heads=2, d_ffn=32, num_layers=4)


def make(config: DecoderConfig = CONFIG) -> Decoder:
    torch.manual_seed(0)
    return Decoder(config, in_channels=6, num_classes=3)


def scans(sizes: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sum(sizes), 6, generator=generator), 3 * torch.rand(sum(sizes), 3, generator=generator)


def test_scan_does_not_depend_on_its_batch_mates() -> None:
    decoder = make()
    superpoints, xyz = scans([7, 12])
    together, alone = decoder(superpoints, xyz, [7, 12]), decoder(superpoints[7:], xyz[7:], [12])
    for batch, single in zip(together.layers, alone.layers):
        torch.testing.assert_close(batch.class_logits[1], single.class_logits[0])
        torch.testing.assert_close(batch.centers[1], single.centers[0])
        torch.testing.assert_close(batch.masks[1], single.masks[0])


def test_order_of_superpoints_does_not_matter() -> None:
    decoder = make().eval()
    superpoints, xyz = scans([12])
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    first, second = decoder(superpoints, xyz, [12]), decoder(superpoints[order], xyz[order], [12])
    torch.testing.assert_close(first.layers[0].masks[0][:, order], second.layers[0].masks[0], rtol=1e-4, atol=1e-5)


def test_training_shows_all_layers_and_evaluation_the_last() -> None:
    decoder = make()
    batch = (*scans([7]), [7])
    training = decoder(*batch)
    evaluation = decoder.eval()(*batch)
    assert (len(training.layers), len(evaluation.layers)) == (4, 1)
    torch.testing.assert_close(training.layers[-1].masks[0], evaluation.layers[0].masks[0])


def test_the_short_way_through_the_first_layer_is_the_long_one() -> None:
    decoder, batch = make().eval(), (*scans([7, 9]), [7, 9])
    with torch.no_grad():
        short = decoder(*batch).layers[0]
    torch.testing.assert_close(short.class_logits, decoder(*batch).layers[0].class_logits)


def test_superpoints_are_refined_after_every_third_layer() -> None:
    memory = make()(*scans([7]), [7]).memory
    assert [state is before for before, state in pairwise(memory)] == [False, True, True, False]


@pytest.mark.parametrize("switch", ["clsr", "rsa"])
def test_switched_off_part_is_not_built_and_changes_the_result(switch: str) -> None:
    decoder = make(CONFIG.model_copy(update={switch: False}))
    output = decoder(*scans([7]), [7])
    assert (decoder.clsr if switch == "clsr" else decoder.relation) is None
    assert len({id(state) for state in output.memory}) == (1 if switch == "clsr" else 3)
    sum(mask.sum() for layer in output.layers for mask in layer.masks).backward()


def test_every_parameter_learns() -> None:
    decoder = make()
    output = decoder(*scans([7, 9]), [7, 9])
    sum((layer.class_logits.sum() + layer.scores.sum() + layer.centers.sum() + sum(mask.square().sum() for mask in layer.masks))
        for layer in output.layers).backward()
    assert [name for name, p in decoder.named_parameters() if p.grad is None] == []


def test_query_positions_learn_from_the_first_two_layers_only() -> None:
    for layer, learns in enumerate((True, True, False, False)):
        decoder = make()
        decoder(*scans([7]), [7]).layers[layer].centers.sum().backward()
        gradient = decoder.reference_points.grad
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) is learns


@pytest.mark.parametrize("sizes", [[1], [1, 3]])
def test_flat_scans_and_single_superpoints_stay_finite(sizes: list[int]) -> None:
    superpoints, xyz = scans(sizes)
    xyz[:, 2] = 1.0
    output = make()(superpoints, xyz, sizes)
    assert all(layer.centers.isfinite().all() and layer.class_logits.isfinite().all() for layer in output.layers)


def test_query_with_an_empty_mask_looks_everywhere() -> None:
    blocked = make()._block(torch.tensor([[-9.0, -9.0], [9.0, -9.0]]))
    assert blocked.tolist() == [[False, False], [False, True]]


def test_decoder_makes_no_tensor_on_another_device() -> None:
    with torch.device("meta"):
        decoder, superpoints, xyz = make(), torch.randn(19, 6), torch.rand(19, 3)
    output = decoder(superpoints, xyz, [7, 12])
    tensors = [*output.memory[-1], *(t for layer in output.layers for t in (layer.class_logits, layer.centers, *layer.masks))]
    assert {tensor.device.type for tensor in tensors} == {"meta"}

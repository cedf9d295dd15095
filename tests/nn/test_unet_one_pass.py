"""Inference in one pass per convolution gives what the modules give one after another, and is used where it may be."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from pc3d.bench.sparse_conv import by_gathering, saved_bytes
from pc3d.config import BackboneConfig
from pc3d.nn.unet import UNet
from pc3d.nn.unet_one_pass import Recycled
from pc3d.ops._library import has_kernel

SHAPE = (17, 14, 19)
needs_kernels = pytest.mark.skipif(not has_kernel("sparse_conv_norm_relu"), reason="the native library was not built")


def some_voxels(count: int = 700, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features and coordinates of two scans, in random order."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(2 * 17 * 14 * 19, generator=generator)[:count]
    coords = torch.stack(torch.unravel_index(chosen, (2, *SHAPE)), 1).int()
    return torch.randn(count, 5, generator=generator), coords


def a_network(precision: str = "float32", reps: int = 2) -> UNet:
    torch.manual_seed(0)
    network = UNet(5, BackboneConfig(channels=(13, 32, 40), block_reps=reps, precision=precision))
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm1d):
            for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                torch.nn.init.uniform_(values, 0.5, 1.5)
    return network.eval()


def both_ways(network: UNet, features: Tensor, coords: Tensor) -> tuple[Tensor, Tensor]:
    """In one pass, and by the modules."""
    with torch.no_grad():
        one_pass = network(features, coords, SHAPE, 2)
    return one_pass, network(features, coords, SHAPE, 2).detach()


@needs_kernels
def test_autocast_to_bfloat16_is_a_bfloat16_backbone() -> None:
    features, coords = some_voxels()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rounded = a_network()(features, coords, SHAPE, 2)
    exact = both_ways(a_network(), features, coords)[0]
    assert rounded.dtype == exact.dtype
    assert 0 < (rounded - exact).abs().max() <= 0.05 * exact.abs().max()
    assert (rounded - both_ways(a_network("bfloat16"), features, coords)[0]).abs().max() <= 0.01 * exact.abs().max()


@needs_kernels
@pytest.mark.parametrize("isa", ["plain", "avx2", "avx512", "avx512bf16", "amx"])
@pytest.mark.parametrize("reps", [1, 2])
def test_one_pass_equals_the_modules(isa: str, reps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC3D_ISA", isa)
    half = a_network("bfloat16", reps)
    for network, bound in ((a_network(reps=reps).double(), 1e-12), (a_network(reps=reps), 2e-5), (half, 0.05)):
        dtype = network.input_conv[0].weight.dtype
        features, coords = some_voxels()
        fast, slow = both_ways(network, features.to(dtype), coords)
        assert fast.dtype == slow.dtype == dtype
        assert (fast - slow).abs().max() <= bound * slow.abs().max()
        assert not torch.equal(fast, slow)      # it was another way


@needs_kernels
@pytest.mark.parametrize("count", [0, 1, 2])
def test_tiny_scans_pass(count: int) -> None:
    fast, slow = both_ways(a_network(), *some_voxels(count))
    assert fast.shape == slow.shape == (count, 13)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)


@needs_kernels
def test_weights_that_change_are_packed_anew() -> None:
    features, coords = some_voxels()
    network = a_network()
    with torch.no_grad():
        before = network(features, coords, SHAPE, 2)
        assert torch.equal(before, network(features, coords, SHAPE, 2))
        network.unet.blocks[0].conv_branch[2].weight.mul_(1.5)
        changed = network(features, coords, SHAPE, 2)
        assert not torch.allclose(before, changed)
        network.load_state_dict(a_network().state_dict())
        assert torch.equal(before, network(features, coords, SHAPE, 2))
        network.unet.blocks[0].conv_branch[2].weight.data.mul_(1.5)      # no version counter sees this
        assert torch.equal(changed, network.train().eval()(features, coords, SHAPE, 2))


@needs_kernels
def test_a_fused_optimizer_does_not_leave_old_weights_packed() -> None:
    features, coords = some_voxels()
    network = a_network()
    optimizer = torch.optim.AdamW(network.parameters(), 0.01, fused=True)    # bumps no version counter
    both_ways(network, features, coords)
    network(features, coords, SHAPE, 2).square().mean().backward()
    with torch.no_grad():
        network(features, coords, SHAPE, 2)     # evaluated between the backward pass and the step, too
    optimizer.step()
    optimizer.zero_grad()
    fast, slow = both_ways(network, features, coords)
    assert (fast - slow).abs().max() <= 2e-5 * slow.abs().max()


@needs_kernels
def test_other_parameters_at_the_same_address_are_packed_anew() -> None:
    features, coords = some_voxels()
    network = a_network("bfloat16")
    for factor in (1.0, 2.0, 3.0, 4.0):
        weights = {name: p.detach() * factor for name, p in network.named_parameters()}
        with torch.no_grad():
            passed = torch.func.functional_call(network, weights, (features, coords, SHAPE, 2))
            other = copy.deepcopy(network)
            other.load_state_dict(weights, strict=False)
            assert torch.equal(passed, other(features, coords, SHAPE, 2))
        del weights    # the next ones take their place


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_of_half_type_runs_for_inference(dtype: torch.dtype) -> None:
    features, coords = some_voxels()
    fast, slow = both_ways(a_network().to(dtype), features.to(dtype), coords)
    exact = both_ways(a_network(), features, coords)[0]
    assert fast.dtype == slow.dtype == dtype
    assert (fast - exact).abs().max() <= 0.05 * exact.abs().max()


@needs_kernels
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_runs_in_one_memory_leave_results_and_inputs_alone(precision: str) -> None:
    network, scans = a_network(precision), [some_voxels(count, seed=count) for count in (700, 500, 900, 700)]
    with torch.no_grad():
        expected = [copy.deepcopy(network)(*scan, SHAPE, 2) for scan in scans]
        given = [scan[0].clone() for scan in scans]
        got = [network(*scan, SHAPE, 2) for scan in scans]
    assert all(map(torch.equal, got, expected))
    assert all(torch.equal(scan[0], before) for scan, before in zip(scans, given))


@needs_kernels
def test_the_next_run_works_in_the_memory_of_the_last() -> None:
    network, scan, held = a_network(), some_voxels(), []
    with torch.no_grad():
        for _ in range(3):
            network(*scan, SHAPE, 2)
            held.append(network.one_pass.memory.held())
    assert len(held[0]) > 5
    assert held[0] == held[1] == held[2]
    assert not network.train().one_pass.memory.held()


@needs_kernels
def test_memory_that_smaller_scans_do_not_need_is_freed() -> None:
    network = a_network()

    def held(count: int) -> int:
        with torch.no_grad():
            network(*some_voxels(count), SHAPE, 2)
        return sum(network.one_pass.memory.held().values())

    large = held(900)
    held(100)
    assert held(100) < large / 2
    assert held(900) == large


@needs_kernels
def test_threads_may_run_one_network_at_once() -> None:
    network, scans = a_network(), [some_voxels(count, seed=count) for count in (400, 500, 600, 700)]

    def results(map_: Callable[..., Iterable[Tensor]]) -> list[Tensor]:
        with torch.inference_mode():
            return list(map_(lambda scan: torch.inference_mode()(network)(*scan, SHAPE, 2), 5 * scans))

    with ThreadPoolExecutor(4) as pool:
        assert all(map(torch.equal, results(pool.map), results(map)))


def test_memory_that_a_thread_takes_while_another_rests_is_lent_once() -> None:
    """What a second thread does in the middle of ``rest``: the set that is looked into there takes memory meanwhile."""
    memory, like, taken = Recycled(), torch.zeros(1), []
    memory.give_back([memory.take(4, 4, like), memory.take(100, 4, like)])

    class Meanwhile(set):
        def __contains__(self, address: object) -> bool:
            taken.append(memory.take(4, 4, like))
            memory.take(1000, 4, like)           # of a size that was not there
            return True

    memory.used = Meanwhile(memory.used)
    memory.rest()
    assert {x.data_ptr() for x in taken}.isdisjoint(memory.held())
    later = memory.take(4, 4, like)
    assert later.data_ptr() not in {x.data_ptr() for x in taken}


@needs_kernels
def test_copies_of_a_network_do_not_share_packed_weights() -> None:
    features, coords = some_voxels()
    network = a_network()
    with torch.no_grad():
        before = network(features, coords, SHAPE, 2)
        for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
            assert len(other.one_pass.kept) == 0
            assert torch.equal(other(features, coords, SHAPE, 2), before)
    assert not any("one_pass" in name for name in network.state_dict())


def test_gradients_statistics_and_hooks_go_through_the_modules() -> None:
    features, coords = some_voxels()
    network, called = a_network(), []
    hook = network.unet.register_forward_hook(lambda *_: called.append(True))
    with torch.no_grad():
        network(features, coords, SHAPE, 2)
    hook.remove()
    assert called == [True]
    network(features, coords, SHAPE, 2).sum().backward()
    assert network.input_conv[0].weight.grad is not None
    statistics = network.output_layer[0].running_mean.clone()
    with torch.no_grad():
        network.train()(features, coords, SHAPE, 2)
    assert not torch.equal(statistics, network.output_layer[0].running_mean)


@needs_kernels
def test_one_pass_is_the_same_bits_for_any_number_of_threads() -> None:
    features, coords = some_voxels(3000)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with torch.no_grad():
                results.append([a_network(p)(features, coords, SHAPE, 2) for p in ("float32", "bfloat16")])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other))


def test_a_bfloat16_backbone_trains_float32_parameters() -> None:
    features, coords = some_voxels()
    network, exact = a_network("bfloat16").train(), a_network().train()
    y = network(features, coords, SHAPE, 2)
    assert y.dtype == torch.float32
    losses = [n(features, coords, SHAPE, 2).square().mean() for n in (network, exact)]
    gradients = [torch.autograd.grad(loss, list(n.parameters())) for loss, n in zip(losses, (network, exact))]
    for rough, fine in zip(*gradients):
        assert rough.dtype == torch.float32
        assert (rough - fine).norm() <= 0.2 * fine.norm() + 1e-3


def test_training_keeps_at_most_half_of_what_gathering_keeps() -> None:
    features, coords = some_voxels(1500)
    network = a_network().train()

    def loss(network: UNet) -> Tensor:
        return network(features, coords, SHAPE, 2).square().mean()

    assert saved_bytes(lambda: loss(network)) <= 0.5 * saved_bytes(lambda: by_gathering(loss, network))

"""scan_layout lays points out as its torch reference does, and as its docstring says."""

from __future__ import annotations

import pytest
import torch

from pc3d.ops import scan_layout
from pc3d.ops._library import has_kernel
from pc3d.ops.scan_layout import ScanLayout, _reference


def drawn(seed: int, num_points: int, num_segments: int, size: float):
    """Points in no order, many of them in one cube of the curve; every ninth segment has none."""
    rng = torch.Generator().manual_seed(seed)
    segment = torch.randint(0, num_segments, (num_points,), generator=rng)
    return size * torch.rand(num_points, 3, generator=rng).round(decimals=2) - 7, segment - (segment % 9 == 8).long()


@pytest.mark.parametrize("given", [(0, 60000, 300, 3.0), (1, 40000, 9000, 0.4), (2, 7, 3, 0.1), (3, 1, 1, 1.0), (4, 900, 2, 0)])
def test_the_kernel_lays_out_as_the_reference_does(given):
    assert has_kernel("scan_layout")
    xyz, segment = drawn(*given)
    expected, laid = ScanLayout(*_reference(xyz, segment, 20, 8)), scan_layout(xyz, segment, 20, 8)
    assert all(map(torch.equal, laid, expected))
    threads = torch.get_num_threads()
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        assert all(map(torch.equal, scan_layout(xyz, segment, 20, 8), laid))
    torch.set_num_threads(threads)


def test_points_of_a_segment_stand_together_along_the_curve():
    """A line of corners of a cube: x is the lowest bit, z the highest; segment 2 has the first point, 1 none."""
    xyz = torch.tensor([[1.0, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0]])
    laid = scan_layout(xyz, torch.tensor([0, 2, 2, 0, 2, 0]), 2, 1)
    assert laid.order.tolist() == [2, 1, 4, 3, 5, 0]
    assert torch.equal(laid.points, xyz[laid.order].T)
    assert laid.sizes.tolist() == [3, 0, 3]
    assert laid.block_starts.tolist() == [0, 1, 3, 4, 6]
    assert laid.block_owners.tolist() == [2, 2, 0, 0]
    assert laid.boxes[:, 1].tolist() == [0, 0.5, 0.5, 0, 0.5, 0.5]
    assert laid.piece_starts.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert laid.piece_owners.tolist() == [2, 2, 2, 0, 0, 0]
    assert laid.piece_of_point.tolist() == [0, 1, 2, 3, 4, 5]
    assert laid.point_to_piece.tolist() == [5, 1, 0, 3, 2, 4]


def test_blocks_are_few_and_even_and_lie_in_their_boxes():
    xyz, segment = drawn(5, 5000, 30, 1.0)
    laid = scan_layout(xyz, segment, 64, 8)
    lengths = laid.block_starts.diff()
    for owner, size in enumerate(laid.sizes.tolist()):
        own = lengths[laid.block_owners == owner]
        assert own.sum() == size
        assert len(own) == -(-size // 64)
        assert not size or own.max() - own.min() <= 1
    center, half = laid.boxes.repeat_interleave(lengths, 1).split(3)
    off = (laid.points - center).abs()
    assert (off <= half).all()
    assert torch.allclose(laid.boxes[3:], torch.stack([one.amax(1) for one in off.split(lengths.tolist(), 1)], 1))


def test_arguments_that_do_not_fit_are_refused():
    xyz, segment = drawn(0, 100, 9, 1.0)
    lost, far = xyz.clone(), xyz.clone()
    lost[50, 1], far[50, 2] = float("nan"), float("inf")
    for wrong, message in (((xyz, segment - 1, 64, 8), "out of range"), ((xyz, segment, 0, 8), "out of range"),
                           ((xyz, segment, 64, 0), "out of range"), ((xyz, segment + 2**31, 64, 8), "out of range"),
                           ((xyz[:0], segment[:0], 64, 8), "xyz must be"), ((xyz.T, segment, 64, 8), "xyz must be"),
                           ((xyz, segment[:9], 64, 8), "segment must be"), ((lost, segment, 64, 8), "not finite"),
                           ((far, segment, 64, 8), "not finite")):
        with pytest.raises(ValueError, match=message):
            scan_layout(*wrong)

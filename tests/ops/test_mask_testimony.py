"""mask_testimony hears what its torch reference hears, and what can be said by hand of four superpoints."""

from __future__ import annotations

import pytest
import torch

from pc3d.ops import SparseRows, mask_testimony
from pc3d.ops._library import has_kernel
from pc3d.ops.mask_testimony import _reference

SHARES = {"observed_share": 0.3, "min_points": 20.0, "contained_share": 0.7, "undersegment_share": 0.5}


def sparse(dense) -> SparseRows:
    dense = torch.as_tensor(dense)
    row, column = dense.nonzero().T
    return SparseRows(torch.searchsorted(row, torch.arange(len(dense) + 1)), column.int(), dense[row, column].int())


def drawn(seed: int, num_masks: int = 150, num_superpoints: int = 60, num_frames: int = 12):
    """Objects of four superpoints under masks that hold them, half of them or two of them, here and there overlapping."""
    rng = torch.Generator().manual_seed(seed)
    counts = torch.zeros(num_masks, num_superpoints, dtype=torch.int64)
    for mask in range(num_masks):
        first = 4 * int(torch.randint(0, num_superpoints // 4 - 1, (1,), generator=rng))
        wide = int(torch.tensor([2, 4, 4, 4, 8])[torch.randint(0, 5, (1,), generator=rng)])
        counts[mask, first:first + wide] = torch.randint(0, 40, (wide,), generator=rng)
    frame_of_mask = torch.randint(0, num_frames, (num_masks,), generator=rng).sort().values
    visible = torch.stack([counts[frame_of_mask == frame].sum(0) for frame in range(num_frames)])
    visible += torch.randint(0, 20, visible.shape, generator=rng)
    points = sparse(counts)
    return points, points.values > 10, sparse(visible), frame_of_mask, num_superpoints


@pytest.mark.parametrize("isa", ["plain", "avx512"])
@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_hears_what_the_reference_hears(seed, isa, monkeypatch):
    assert has_kernel("mask_testimony")
    monkeypatch.setenv("PC3D_ISA", isa)
    counts, held, visible, frame_of_mask, width = drawn(seed)
    expected = _reference(*counts, held, *visible, frame_of_mask, width, *SHARES.values())
    assert len(expected[1]) > 50
    assert (expected[3] < expected[2]).any()
    assert 0 < expected[4].sum() < len(frame_of_mask)
    threads = torch.get_num_threads()
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        got = mask_testimony(counts, held, visible, frame_of_mask, width, **SHARES)
        assert all(torch.equal(one, other) for one, other in zip(got, expected))
    torch.set_num_threads(threads)


def test_a_frame_that_sees_a_mask_whole_in_one_of_its_own_holds_it():
    """Mask 0 lies on superpoints 0 and 1: frame 1 holds it in mask 1, frame 2 splits it, frame 3 labels too little."""
    counts = torch.tensor([[30, 30, 0, 0], [40, 40, 40, 0], [30, 0, 0, 0], [0, 30, 0, 0], [5, 5, 0, 50]])
    visible = torch.tensor([[30, 30, 0, 0], [40, 40, 40, 0], [30, 30, 0, 0], [40, 40, 0, 50]])
    frame = torch.tensor([0, 1, 2, 2, 3])
    held = torch.ones(int((counts > 0).sum()), dtype=torch.bool)
    heard = mask_testimony(sparse(counts), held, sparse(visible), frame, 4, **SHARES)
    row = heard.contained[heard.contained_starts[0]:heard.contained_starts[1]]
    assert row.tolist() == [0, 1]
    assert heard.spoke[0] == 3
    assert heard.whole[0] == 2
    assert not heard.undersegmented[0]


def test_a_mask_that_most_frames_split_holds_nothing():
    counts = torch.tensor([[30, 30], [30, 0], [0, 30], [30, 0], [0, 30]])
    visible = torch.full((3, 2), 30)
    held = torch.ones(6, dtype=torch.bool)
    heard = mask_testimony(sparse(counts), held, sparse(visible), torch.tensor([0, 1, 1, 2, 2]), 2, **SHARES)
    assert heard.undersegmented.tolist() == [True, False, False, False, False]
    assert 0 not in heard.contained.tolist()
    assert heard.contained_starts[1] == 0


def test_rows_that_do_not_fit_are_refused():
    counts, held, visible, frame_of_mask, width = drawn(0)
    with pytest.raises(ValueError, match="an entry is out of range"):
        mask_testimony(counts, held, visible, frame_of_mask, width - 9, **SHARES)
    with pytest.raises(ValueError, match="held must be bool"):
        mask_testimony(counts, held[1:], visible, frame_of_mask, width, **SHARES)
    with pytest.raises(ValueError, match="frames of masks must ascend"):
        mask_testimony(counts, held, visible, frame_of_mask.flip(0), width, **SHARES)
    with pytest.raises(ValueError, match="more points in a frame than 31 bits"):
        mask_testimony(counts, held, visible._replace(values=visible.values + 2**30), frame_of_mask, width, **SHARES)
    with pytest.raises(ValueError, match="points are below 0"):
        mask_testimony(counts._replace(values=-counts.values), held, visible, frame_of_mask, width, **SHARES)
    with pytest.raises(ValueError, match="a mask has points where its frame sees none"):
        mask_testimony(counts, held, sparse(torch.zeros(12, width)), frame_of_mask, width, **SHARES)


def test_no_masks_hear_nothing():
    none, frames = sparse(torch.zeros(0, 4, dtype=torch.int64)), torch.zeros(0, dtype=torch.int64)
    heard = mask_testimony(none, frames.bool(), sparse(torch.ones(2, 4)), frames, 4, **SHARES)
    assert [len(one) for one in heard] == [1, 0, 0, 0, 0]

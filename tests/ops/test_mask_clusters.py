"""mask_clusters joins what its torch reference joins, and what can be joined by hand."""

from __future__ import annotations

import pytest
import torch

from pc3d.ops import mask_clusters
from pc3d.ops._library import has_kernel
from pc3d.ops.mask_clusters import _PERCENTILES, _reference
from tests.ops.test_mask_testimony import sparse


def rows(holders, frames):
    """The arguments for masks held by some of H holders and observed by some of F frames, given as 0 and 1."""
    return *sparse(holders)[:2], *sparse(frames)[:2], len(holders[0]), len(frames[0])


def drawn(seed: int, num_masks: int = 120, num_holders: int = 90, num_frames: int = 70):
    """Masks of 12 objects; holders and frames of an object have most of its masks, and strays."""
    rng = torch.Generator().manual_seed(seed)
    objects = [torch.randint(0, 12, (count, 1), generator=rng) for count in (num_masks, num_holders, num_frames)]
    chance = [torch.where(objects[0] == other.T, 0.8, 0.01) for other in objects[1:]]
    return rows(*((torch.rand(one.shape, generator=rng) < one).int() for one in chance))


@pytest.mark.parametrize("isa", ["plain", "avx2"])
@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_joins_what_the_reference_joins(seed, isa, monkeypatch):
    assert has_kernel("mask_clusters")
    monkeypatch.setenv("PC3D_ISA", isa)
    given = drawn(seed)
    expected = _reference(*given, _PERCENTILES, 0.9)
    assert 5 < expected.max() + 1 < 100
    threads = torch.get_num_threads()
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        assert torch.equal(mask_clusters(*given, rate=0.9), expected)
    torch.set_num_threads(threads)


def test_masks_that_enough_frames_put_together_are_one():
    """0 and 1 lie in both of two masks, seen by two frames; 2 is seen with them by two frames, and held with them by none."""
    holders = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    frames = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 1, 0], [0, 0, 1]])
    assert mask_clusters(*rows(holders, frames), rate=0.9).tolist() == [0, 0, 1, 2]


def test_a_rate_that_is_not_reached_joins_nothing():
    holders, frames = torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1, 1], [1, 1]])
    assert mask_clusters(*rows(holders, frames), rate=0.9).tolist() == [0, 1]
    assert mask_clusters(*rows(holders, frames), rate=0.5).tolist() == [0, 0]


def test_joined_masks_speak_as_one_in_the_next_round():
    """Alone, 0 and 2 have one supporter of two observers; with 1, which joins 0 first, there are two."""
    holders = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 1], [0, 0, 0, 0, 1, 1]])
    frames = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])
    given = rows(holders, frames)
    assert mask_clusters(*given, rate=0.9).tolist() == [0, 0, 0]
    assert mask_clusters(*rows(holders[[0, 2]], frames[[0, 2]]), rate=0.9).tolist() == [0, 1]


def test_no_masks_make_no_groups():
    starts, none = torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)
    assert mask_clusters(starts, none, starts, none, 3, 2, rate=0.9).tolist() == []


def test_rows_that_do_not_fit_are_refused():
    starts, held, *rest = drawn(0)
    with pytest.raises(ValueError, match="a row does not ascend or is out of range"):
        mask_clusters(starts, held.flip(0), *rest, rate=0.9)

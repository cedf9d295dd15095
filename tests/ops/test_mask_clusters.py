"""mask_clusters joins what its torch reference joins, and what can be joined by hand."""

from __future__ import annotations

import pytest
import torch

from pc3d.ops import mask_clusters
from pc3d.ops._library import has_kernel
from pc3d.ops.mask_clusters import _PERCENTILES, _reference
from tests.ops.test_mask_testimony import sparse


def rows(holders, frames):
    """The arguments for masks held by some of H holders, given as 0 and 1, and the frame of each holder."""
    return *sparse(holders)[:2], torch.as_tensor(frames), max(frames) + 1


def drawn(seed: int, num_masks: int = 120, num_holders: int = 300, num_frames: int = 70):
    """Masks of 12 objects; a holder of an object has most of its masks, and strays, and is of one of the frames."""
    rng = torch.Generator().manual_seed(seed)
    mask, holder = (torch.randint(0, 12, (count, 1), generator=rng) for count in (num_masks, num_holders))
    chance = torch.where(mask == holder.T, 0.8, 0.01)
    return rows((torch.rand(chance.shape, generator=rng) < chance).int(),
                torch.randint(0, num_frames, (num_holders,), generator=rng).tolist())


@pytest.mark.parametrize("isa", ["plain", "avx2", "avx512"])
@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_joins_what_the_reference_joins(seed, isa, monkeypatch):
    assert has_kernel("mask_clusters")
    monkeypatch.setenv("PC3D_ISA", isa)
    given = drawn(seed)
    expected = _reference(*given, _PERCENTILES, 0.9)
    assert 5 < len(expected[1]) < 100
    threads = torch.get_num_threads()
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        assert all(torch.equal(one, other) for one, other in zip(mask_clusters(*given, rate=0.9), expected))
    torch.set_num_threads(threads)


def test_masks_that_enough_frames_put_together_are_one():
    """Two frames hold 0 and 1 in one mask, and 2 in another; a third holds 3."""
    holders = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]])
    found = mask_clusters(*rows(holders, [0, 1, 0, 1, 2]), rate=0.9)
    assert found.group.tolist() == [0, 0, 1, 2]
    assert found.frame_starts.tolist() == [0, 2, 4, 5]
    assert found.frames.tolist() == [0, 1, 0, 1, 2]


def test_a_rate_that_is_not_reached_joins_nothing():
    """The first of two frames holds both in one mask, the second in two."""
    given = rows(torch.tensor([[1, 1, 0], [1, 0, 1]]), [0, 1, 1])
    assert mask_clusters(*given, rate=0.9).group.tolist() == [0, 1]
    assert mask_clusters(*given, rate=0.5).group.tolist() == [0, 0]


def test_joined_masks_speak_as_one_in_the_next_round():
    """Alone, 0 and 2 have one supporter of two observers; with 1, which joins 0 first, there are two."""
    together, apart = torch.tensor([[1], [1], [0]]).repeat(1, 18), torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 0, 0]])
    holders, frames = torch.cat([together, apart], dim=1), [*range(18), 18, 19, 18, 19]
    assert mask_clusters(*rows(holders, frames), rate=0.9).group.tolist() == [0, 0, 0]
    assert mask_clusters(*rows(holders[[0, 2]], frames), rate=0.9).group.tolist() == [0, 1]


def test_many_frames_and_holders_are_counted():
    """Of 600 frames that hold 0 and 1, 60 or 61 hold them apart."""
    for apart, groups in ((60, [0, 0]), (61, [0, 1])):
        whole = torch.ones(2, 600 - apart, dtype=torch.int64)
        holders = torch.cat([whole, torch.eye(2, dtype=torch.int64).repeat(1, apart)], dim=1)
        frames = [*range(600 - apart), *(torch.arange(2 * apart) // 2 + 600 - apart).tolist()]
        assert mask_clusters(*rows(holders, frames), rate=0.9).group.tolist() == groups


def test_no_masks_make_no_groups():
    starts, none = torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)
    found = mask_clusters(starts, none, torch.zeros(3, dtype=torch.int64), 2, rate=0.9)
    assert [one.tolist() for one in found] == [[], [0], []]


def test_rows_that_do_not_fit_are_refused():
    starts, held, frames, num_frames = drawn(0)
    with pytest.raises(ValueError, match="a row does not ascend or is out of range"):
        mask_clusters(starts, held.flip(0), frames, num_frames, rate=0.9)
    with pytest.raises(ValueError, match="a frame is out of range"):
        mask_clusters(starts, held, frames, num_frames - 1, rate=0.9)

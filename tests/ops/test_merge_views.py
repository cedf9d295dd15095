"""merge_views makes the groups that its torch reference makes, and those that can be made by hand."""

from __future__ import annotations

import pytest
import torch

from pc3d.ops import SparseRows, merge_views
from pc3d.ops._library import has_kernel
from pc3d.ops.merge_views import _reference
from tests.ops.test_mask_testimony import drawn, sparse

LIMITS = {"min_points": 20.0, "iou": 0.5, "recall": 0.9, "track_iou": 0.2}
NONE = torch.full((4,), -1)


def merged(counts, visible, frame_of_mask, tracks=NONE):
    group, agreement = merge_views(sparse(counts), sparse(visible), torch.tensor(frame_of_mask), tracks[:len(counts)],
                                   len(counts[0]), **LIMITS)
    return group.tolist(), agreement.tolist()


@pytest.mark.parametrize("frames", [7, 30, 61])
def test_the_kernel_makes_the_groups_of_the_reference(frames):
    assert has_kernel("merge_views")
    counts, _, visible, frame_of_mask, width = drawn(frames, num_frames=frames)
    tracks = torch.arange(len(frame_of_mask)) % 9 - 6
    expected = _reference(*counts, *visible, frame_of_mask, tracks, width, *LIMITS.values())
    assert -1 in expected[0].tolist()
    assert 5 < len(expected[1]) < 0.95 * len(frame_of_mask)
    threads = torch.get_num_threads()
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        group, agreement = merge_views(counts, visible, frame_of_mask, tracks, width, **LIMITS)
        assert torch.equal(group, expected[0])
        torch.testing.assert_close(agreement, expected[1], rtol=1e-12, atol=0)
    torch.set_num_threads(threads)


def test_masks_join_by_what_both_frames_see():
    """Frame 1 sees half of the object of mask 0, and all of that half lies in its mask."""
    counts, visible = torch.tensor([[40, 40], [40, 0]]), torch.tensor([[40, 40], [40, 0]])
    group, agreement = merged(counts, visible, [0, 1])
    assert group == [0, 0]
    assert agreement == pytest.approx([1.0])


def test_masks_of_one_frame_stay_apart_and_small_ones_are_left_out():
    counts, visible = torch.tensor([[40, 0, 0], [0, 40, 0], [0, 0, 9], [0, 40, 0]]), torch.tensor([[40, 40, 9], [0, 40, 0]])
    group, agreement = merged(counts, visible, [0, 0, 0, 1])
    assert group == [0, 1, -1, 1]
    assert agreement == pytest.approx([0.0, 1.0])


def test_a_track_joins_what_overlaps_less():
    """Two masks share one of three superpoints: IoU 0.23."""
    counts, visible = torch.tensor([[60, 60, 0], [0, 80, 90]]), torch.full((2, 3), 90)
    assert merged(counts, visible, [0, 1])[0] == [0, 1]
    assert merged(counts, visible, [0, 1], torch.tensor([7, 7]))[0] == [0, 0]
    assert merged(counts, visible, [0, 1], torch.tensor([7, 8]))[0] == [0, 1]


def test_no_frames_make_no_groups():
    none = sparse(torch.zeros(0, 3, dtype=torch.int64))
    ids = torch.zeros(0, dtype=torch.int64)
    assert [len(one) for one in merge_views(none, none, ids, ids, 3, **LIMITS)] == [0, 0]


def test_rows_that_do_not_fit_are_refused():
    counts, _, visible, frame_of_mask, width = drawn(0)
    with pytest.raises(ValueError, match="frame_of_mask and tracks must be int64"):
        merge_views(counts, visible, frame_of_mask, frame_of_mask[1:], width, **LIMITS)
    for wrong in ((counts.starts[1:], *counts[1:]), (*counts[:2], counts.values.long()),
                  (counts.starts, counts.columns + width, counts.values),
                  (counts.starts, counts.columns.flip(0), counts.values)):
        with pytest.raises(ValueError, match="merge_views: "):
            merge_views(SparseRows(*wrong), visible, frame_of_mask, frame_of_mask, width, **LIMITS)

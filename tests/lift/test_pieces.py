"""Superpoints that masks cut are cut where they cut them; the rest stay whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from pc3d.errors import DataError
from pc3d.lift import FrameMasks, FusionConfig, LiftConfig, Lifter, fuse
from pc3d.lift.pieces import Extent, Pieces
from pc3d.lift.scan import LiftScan
from pc3d.lift.votes import Torn, Votes
from pc3d.structures import Instances
from pc3d.structures.sparse import rows_of

UNCUT = LiftConfig(cut_share=0.5)
FINDERS = ("consensus", "region", "hierarchical")


@pytest.fixture(scope="module")
def coarse(scene):
    """The room in superpoints of half a metre that ask for no object: most of a box's hold some floor or wall."""
    tiles = np.floor(scene.cloud.xyz / 0.5 + 0.2).astype(int)
    return replace(scene, cloud=replace(scene.cloud, superpoints=np.unique(tiles, axis=0, return_inverse=True)[1].reshape(-1)))


def lifted(scene, config=None, score=1.0, edit=None) -> Lifter:
    """All true masks, of a model that is so sure, after ``edit(row, map)`` has spoilt a copy of the truth."""
    lifter = Lifter(scene.cloud, config)
    for row, (frame, seen) in enumerate(zip(scene.frames, scene.seen)):
        spoilt = seen.copy()
        if edit is not None:
            edit(row, spoilt)
        masks = FrameMasks.from_label_map(spoilt, none=-1)
        lifter.add(frame, replace(masks, scores=np.full(len(masks), score, np.float32)))
    return lifter


def ious(scene, found) -> np.ndarray:
    """Best IoU of each of the five boxes."""
    true = scene.cloud.instances == np.arange(5)[:, None]
    masks = found.point_masks
    common = masks.astype(int) @ true.T
    return (common / np.maximum(masks.sum(axis=1)[:, None] + true.sum(axis=1) - common, 1)).max(axis=0, initial=0)


@pytest.mark.parametrize("method", FINDERS)
def test_a_superpoint_shared_with_the_floor_is_cut_at_the_object(coarse, method):
    cut, uncut = (ious(coarse, lifted(coarse, config).instances(method)) for config in (None, UNCUT))
    assert (cut > uncut + 0.08).all()       # no more: no image sees the sides that face the wall
    assert cut.mean() > uncut.mean() + 0.15


@pytest.mark.parametrize("method", FINDERS)
def test_borders_that_wander_from_image_to_image_average_out(coarse, method):
    def shift(row, seen):
        seen[:] = np.roll(seen, (row * 7 % 5 - 2, row * 3 % 5 - 2), axis=(0, 1))
    cut, uncut = (ious(coarse, lifted(coarse, config, edit=shift).instances(method)) for config in (None, UNCUT))
    assert cut.mean() > uncut.mean() + 0.1


def test_masks_that_their_model_doubts_hardly_cut(coarse):
    sure, doubtful = (lifted(coarse, score=score).instances() for score in (0.9, 0.2))
    uncut = ious(coarse, lifted(coarse, UNCUT).instances())
    assert ious(coarse, sure).mean() > uncut.mean() + 0.15
    assert ious(coarse, doubtful).mean() < uncut.mean() + 0.05


def test_where_no_mask_cuts_segments_are_the_superpoints(scene):
    found = lifted(scene, UNCUT).instances()
    assert np.array_equal(found.point_to_superpoint, scene.cloud.superpoints)
    assert found.num_segments == scene.cloud.superpoints.max() + 1


def test_segments_lie_in_superpoints_and_the_first_are_what_is_left_of_them(coarse):
    found = lifted(coarse).instances()
    count = coarse.cloud.superpoints.max() + 1
    whole = found.point_to_superpoint < count
    assert np.array_equal(found.point_to_superpoint[whole], coarse.cloud.superpoints[whole])
    pairs = np.unique(np.stack([found.point_to_superpoint, coarse.cloud.superpoints]), axis=1)
    assert len(np.unique(pairs[0])) == pairs.shape[1] == found.num_segments > count


def test_the_network_is_cut_by_masks_too(coarse):
    """It knows the superpoints that box 2 owns most of, and no box alone."""
    owner = np.zeros((coarse.cloud.superpoints.max() + 1, 6))
    np.add.at(owner, (coarse.cloud.superpoints, coarse.cloud.instances), 1)
    box = owner.argmax(axis=1) == 2
    network = Instances.from_masks(box[None], [0], [0.9], ("box",), coarse.cloud.superpoints)
    before = ious(coarse, network)[2]
    lifter = lifted(coarse)
    found = fuse(network, lifter.instances()[:0], lifter.votes())
    assert ious(coarse, found)[2] > before + 0.08
    uncut = fuse(network, lifter.instances()[:0], lifter.votes(), FusionConfig(cut_share=0.5))
    assert ious(coarse, uncut)[2] < before + 0.05
    with pytest.raises(DataError, match="not of superpoints"):
        fuse(network, replace(lifter.instances(), point_to_superpoint=None), lifter.votes())


def test_pieces_are_small_and_lie_in_one_superpoint(scene):
    pieces = LiftScan.from_cloud(scene.cloud).pieces
    assert np.array_equal(pieces.superpoint[pieces.point_to_piece], scene.cloud.superpoints)
    assert np.array_equal(np.bincount(pieces.point_to_piece), pieces.sizes)
    assert np.array_equal(pieces.point_to_piece[pieces.point], np.arange(len(pieces.sizes)))
    assert pieces.sizes.max() == 8
    spread = [np.ptp(scene.cloud.xyz[pieces.point_to_piece == piece], axis=0).max() for piece in range(0, len(pieces.sizes), 9)]
    assert np.median(spread) < 0.3
    assert np.allclose(np.bincount(pieces.superpoint, pieces.share), 1)


def drawn(seed, sets=6):
    """12 pieces of 5 superpoints, 2 to 0 of them in no order, and random sets of pieces."""
    rng = np.random.default_rng(seed)
    superpoint = np.repeat([3, 0, 4, 1], [4, 3, 1, 4])         # superpoint 2 has no points
    sizes = rng.integers(1, 9, 12)
    pieces = Pieces(superpoint, sizes, np.cumsum(sizes) - sizes, np.repeat(np.arange(12), sizes), 5)
    return pieces, rng.random((sets, 12)) < 0.5


@pytest.mark.parametrize("seed", range(5))
def test_few_segments_hold_the_same_masks(seed):
    pieces, masks = drawn(seed)
    on_segments, segment = pieces.segments(csr_matrix(masks, dtype=np.int32))
    assert np.array_equal(on_segments[:, segment], masks)
    told = {(int(superpoint), tuple(column)) for superpoint, column in zip(pieces.superpoint, masks.T)}
    assert len(np.unique(segment)) == len(told)
    assert on_segments.shape[1] == len(told) + 1               # and the one without points


def extent_of(masks, pieces) -> Extent:
    """Sets of pieces (G, K) as an extent."""
    number = masks.astype(int) @ pieces.to_superpoint.toarray()
    whole = csr_matrix((number == pieces.count) & (pieces.count > 0), dtype=np.int32)
    torn = csr_matrix((number > 0) & (number < pieces.count), dtype=np.int32)
    row = np.repeat(rows_of(torn), pieces.count[torn.indices])
    return Extent(whole, torn, masks[row, pieces.fan_out(torn.indices)])


def on_pieces(extent, pieces):
    return extent.on_pieces(np.arange(extent.whole.shape[0]), extent.touched(pieces), pieces).toarray() > 0


@pytest.mark.parametrize("seed", range(5))
def test_an_extent_is_what_its_sets_hold_of_pieces(seed):
    pieces, masks = drawn(seed)
    extent = extent_of(masks, pieces)
    assert np.array_equal(on_pieces(extent, pieces), masks)
    to = csr_matrix(np.array([[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]))
    assert np.array_equal(on_pieces(extent.joined(to, pieces), pieces), to.toarray() @ masks > 0)
    without = extent.without(np.array([3, 1]), pieces)
    assert np.array_equal(on_pieces(without, pieces), masks & ~np.isin(pieces.superpoint, [3, 1]))


def test_a_piece_is_inside_as_often_as_frames_that_cut_say_and_by_its_share_where_none_does():
    """Frame 0 has one half of the superpoint in mask 0; frame 1 has all of it in mask 1, and frame 2 none in mask 2."""
    pieces = Pieces(np.zeros(2, np.int64), np.array([5, 5]), np.array([0, 5]), np.repeat([0, 1], 5), 1)
    ids, one = np.arange(3), csr_matrix(np.ones((1, 1), np.int32))
    votes = Votes(csr_matrix([[5], [10], [0]], dtype=np.int32), csr_matrix([[10], [10], [4]], dtype=np.int32), ids,
                  np.full(3, 0.8, np.float32), ids, ids, np.array([10]), pieces,
                  csr_matrix([[5, 0], [0, 0], [0, 0]], dtype=np.int32), csr_matrix([[5, 5], [0, 0], [0, 0]], dtype=np.int32),
                  ("box",) * 3, ("a", "b", "c"))
    masks = frames = csr_matrix(np.ones((1, 3), np.int32))
    torn = Torn(one, np.array([15]), np.array([24]))
    share, seen = votes.ratios(torn, masks, frames, prior=2.0, sure=0.8)
    word = 2.0 * 5
    np.testing.assert_allclose(seen, [12, 12])
    np.testing.assert_allclose(share, [(5 + 5 + word * 15 / 24) / (12 + word), (0 + 5 + word * 15 / 24) / (12 + word)])
    doubtful = replace(votes, scores=np.full(3, 0.4, np.float32))
    word *= 2**4
    share, _ = doubtful.ratios(torn, masks, frames, prior=2.0, sure=0.8)
    np.testing.assert_allclose(share[1], (5 + word * 15 / 24) / (12 + word))
    moved = votes.on(np.array([0, 1]), 2)
    np.testing.assert_allclose(moved.counts.toarray(), [[5, 0], [5, 5], [0, 0]])
    np.testing.assert_allclose(moved.visible.toarray(), [[5, 5], [5, 5], [2, 2]])
    assert moved.sizes.tolist() == [5, 5]

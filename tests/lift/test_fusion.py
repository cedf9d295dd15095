"""Images correct what the network says, and the network what images say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pc3d.errors import DataError
from pc3d.lift import FrameMasks, FusionConfig, Lifter, fuse
from pc3d.lift.fusion import refine
from pc3d.structures import Instances

CLASSES = ("chair", "table")
NAMES = ("table", "plant")  # of the masks


def owner_of(cloud):
    """The box (S,) that each superpoint belongs to, -1 for the room."""
    owner = np.full(cloud.superpoints.max() + 1, -1)
    owner[cloud.superpoints] = cloud.instances
    return owner


def from_network(scene, rows, scores, labels=None):
    """The network's word on masks (I, S)."""
    masks = np.array(rows).reshape(-1, scene.cloud.superpoints.max() + 1)
    return Instances.from_masks(masks, labels or [0] * len(rows), scores, CLASSES, scene.cloud.superpoints)


def lifted(scene, boxes=range(5), labels=None, frames=slice(None)):
    """Masks of some boxes in all frames; each has the label of its box."""
    lifter = Lifter(scene.cloud)
    for frame, seen in zip(scene.frames[frames], scene.seen[frames]):
        masks = np.array([seen == box for box in boxes])
        names = np.array([-1 if labels is None else labels[box] for box in boxes])
        kept = masks.any(axis=(1, 2))
        lifter.add(frame, FrameMasks.from_masks(masks[kept], labels=names[kept], classes=NAMES if labels else ()))
    return lifter


def fused(scene, network, lifter, config=None):
    return fuse(network, lifter.instances(), lifter.votes(), config)


def best_of(found, mask):
    """The row that overlaps a mask best, and its IoU over superpoints."""
    iou = (found.segment_masks & mask).sum(axis=1) / np.maximum((found.segment_masks | mask).sum(axis=1), 1)
    return int(np.argmax(iou)), float(iou.max())


def test_superpoints_that_images_cut_off_drop_out_and_those_they_add_come_in(scene):
    box, votes = owner_of(scene.cloud) == 1, lifted(scene).votes()
    views = np.asarray(votes.visible.sum(axis=0)).reshape(-1) / votes.sizes
    order = np.argsort(-views)
    wrong = box.copy()
    wrong[order[box[order]][:2]] = False        # parts that are often seen are forgotten,
    wrong[order[~box[order]][:2]] = True        # and parts of others taken in
    assert (wrong != box).sum() == 4
    assert np.array_equal(refine(wrong[None], votes, FusionConfig())[0], box[votes.pieces.superpoint])


def test_where_no_image_looks_the_network_keeps_its_word(scene):
    owner = owner_of(scene.cloud)
    network = from_network(scene, [owner == 1, owner == 3], [0.9, 0.4], [1, 0])
    blind = Lifter(scene.cloud)
    blind.add(scene.look("up", (2, 1.75, 1.0), (2.01, 1.75, 2.4)), FrameMasks.empty())   # the ceiling
    found = fused(scene, network, blind)
    assert np.array_equal(found.segment_masks[:2], network.segment_masks)
    np.testing.assert_allclose(found.scores[:2], network.scores, rtol=0.05)       # a little is left to "object"
    assert found.evidence["source"][:2].tolist() == ["network", "network"]


def test_what_the_network_missed_is_found_by_images(scene):
    owner = owner_of(scene.cloud)
    found = fused(scene, from_network(scene, [owner == 0], [0.9]), lifted(scene))
    for box in range(5):
        row, iou = best_of(found, owner == box)
        assert iou > 0.8            # not every side is seen
        assert found.evidence["source"][row] == ("both" if box == 0 else "images")
        assert found.classes[found.labels[row]] == ("chair" if box == 0 else "object")
    assert np.all(np.diff(found.scores) <= 0)


def test_images_raise_what_they_see_too_and_lower_what_they_never_see(scene):
    owner, lifter = owner_of(scene.cloud), lifted(scene)
    views = np.asarray(lifter.votes().visible.sum(axis=0)).reshape(-1) * (owner == -1)
    rug = np.arange(len(owner)) == np.argmax(views)
    network = from_network(scene, [owner == 0, rug], [0.5, 0.5])
    found = fused(scene, network, lifter)
    seen, _ = best_of(found, owner == 0)
    assert found.scores[seen] > 0.6
    ghost, iou = best_of(found, rug)
    assert iou > 0.9
    assert found.scores[ghost] < 0.1
    assert found.evidence["num_masks"][seen] > found.evidence["num_masks"][ghost] == 0


@pytest.mark.parametrize(("opinion", "votes", "expected"), [
    (1, 0, "table"),        # both agree
    (0, 0, "chair"),        # the masks have no word for chairs
    (1, 1, "plant"),        # they had one for tables, and did not use it
])
def test_labels_of_masks_and_network_are_weighed_by_name(scene, opinion, votes, expected):
    owner = owner_of(scene.cloud)
    network = from_network(scene, [owner == 2], [0.3], [opinion])
    found = fused(scene, network, lifted(scene, labels=[votes] * 5))
    row, _ = best_of(found, owner == 2)
    assert found.classes == ("chair", "table", "plant")
    assert found.classes[found.labels[row]] == expected


def test_one_object_is_one_proposal_and_a_mask_of_two_classes_stays_one(scene):
    owner = owner_of(scene.cloud)
    box = owner == 1
    less = box.copy()
    less[np.flatnonzero(box)[0]] = False
    network = from_network(scene, [box, box, less], [0.6, 0.5, 0.4], [0, 1, 0])
    found = fused(scene, network, lifted(scene, boxes=[1]))
    assert len(np.unique(found.bits, axis=0)) == 1
    assert {found.classes[label] for label in found.labels} >= {"chair", "table"}
    assert found.scores.sum() < 2 * found.scores.max()      # two doubtful classes are not two objects


@pytest.mark.parametrize("images", [0, 5])
@pytest.mark.parametrize("instances", [0, 1])
def test_nothing_found_on_either_side_is_fine(scene, images, instances):
    owner = owner_of(scene.cloud)
    network = from_network(scene, [owner == 0] * instances, [0.9] * instances)
    found = fused(scene, network, lifted(scene, boxes=range(images)) if images else blank(scene))
    assert (len(found) > 0) == (images + instances > 0)


def blank(scene):
    lifter = Lifter(scene.cloud)
    for frame in scene.frames[:3]:
        lifter.add(frame, FrameMasks.empty())
    return lifter


def test_other_superpoints_are_refused(scene):
    lifter = lifted(scene, frames=slice(3))
    network = from_network(scene, [owner_of(scene.cloud) == 0], [0.9])
    other = replace(network, bits=network.bits[:, :1], num_segments=8, point_to_superpoint=None)
    with pytest.raises(DataError, match="same superpoints"):
        fused(scene, other, lifter)
    turned = np.roll(np.arange(network.num_segments), 1)[scene.cloud.superpoints]       # as many, and others
    with pytest.raises(DataError, match="same superpoints"):
        fused(scene, replace(network, point_to_superpoint=turned), lifter)


def doubted(votes, score):
    """The same masks from a model that is so sure of them."""
    return replace(votes, scores=np.full(votes.num_masks, score, np.float32))


def test_masks_that_their_model_doubts_count_for_less(scene):
    config, box = FusionConfig(), owner_of(scene.cloud) == 2
    votes, network = lifted(scene, labels=[1] * 5).votes(), from_network(scene, [box], [0.3], [1])
    assert doubted(votes, 0.9).trust(config.sure) == doubted(votes, config.sure).trust(config.sure) == 1
    assert doubted(votes, 0.2).trust(config.sure) == pytest.approx(0.2 / config.sure)
    assert doubted(votes, 0.0).trust(config.sure) > 0
    nothing = lifted(scene).instances()[:0]
    best = [fuse(network, nothing, doubted(votes, score))[:1] for score in (0.9, 0.05)]
    assert [found.classes[found.labels[0]] for found in best] == ["plant", "table"]     # as the masks say, and the network

    others = lifted(scene, boxes=[0, 1, 3, 4]).votes()      # see the box and have no mask of it
    sure, unsure = (float(fuse(network, nothing, doubted(others, score)).scores.max()) for score in (0.9, 0.2))
    assert sure < 0.5 * unsure < 0.3

    once = lifted(scene, frames=slice(0, 1)).votes()        # one look takes a wrong part away, unless it is doubted
    outside = np.asarray(once.visible.sum(axis=0)).reshape(-1) / once.sizes * ~box
    part = int(outside.argmax())
    wrong = box | (np.arange(len(box)) == part)
    first = once.pieces.first[part]
    assert [bool(refine(wrong[None], doubted(once, score), config)[0, first]) for score in (0.9, 0.1)] == [False, True]

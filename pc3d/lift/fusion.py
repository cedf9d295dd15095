"""The network's instances and the lifted masks of images, made one: each corrects what the other says of a scan.

The network sees shape and colour of the whole scan and misses what it was never shown; 2D models know more of the world and
err from image to image. Masks that overlap an instance in its frames say which superpoints belong to it, how good it is and
what it is called; groups of masks that the network has no instance for become instances of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pc3d.errors import DataError, explain
from pc3d.lift.masks import UNNAMED
from pc3d.lift.votes import Torn, Votes
from pc3d.structures import Instances
from pc3d.structures.sparse import rows_of
from pc3d.structures.suppression import suppress

SOURCES = ("network", "images", "both")     # values of evidence["source"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class FusionConfig:
    """Shares and scores in [0, 1], chosen on synthetic training rooms that the network was not trained on (from seed 5000): 16
    of the kind it knows, with all frames, every fourth, every eighth; and 12 so much harder that it finds little."""

    speak_iou: float = 0.5          # of a mask with what its frame sees of an instance, for it to speak for the instance
    observed_share: float = 0.3     # of an instance that a frame must see to have a say (as in ``LiftConfig``)
    prior_views: float = 0.5        # full views of a superpoint that the network's own word counts for
    cut_share: float = 0.1          # of a superpoint that masks must hold, and leave, for it to be cut (``LiftConfig``)
    cut_prior: float = 1.5          # views that what is said of a superpoint counts for in each of its pieces (``LiftConfig``)
    nms_iou: float = 0.5            # of two proposals for one object
    overruled: float = 0.6          # of the network's word where many frames see the instance
    sure: float = 0.8               # mean score of the masks from which they are believed in full
    view_scale: float = 5.0         # frames after which more of them hardly add to what the images say (``LiftConfig``)
    network_doubt: float = 0.02     # share of a class the network did not think of, and
    mask_doubt: float = 0.02        # of one that no mask was called by
    label_prior: float = 1.0        # frames of labels that no opinion counts for
    found: float = 0.1              # score of a source's best match from which it is said to have found an instance
    min_score: float = 1e-3         # of an (instance, class) pair


@dataclass(frozen=True, eq=False)
class Statement:
    """What the images say of each of P masks over segments."""

    agreement: Floats               # (P,) mean over frames of the best IoU with a mask there, weighted by what they see
    views: NDArray[np.int64]        # (P,) frames with a say
    frames: NDArray[np.int64]       # (P,) frames with a mask that speaks for it
    masks: NDArray[np.int64]        # (P,) masks that speak for it
    masks_of: csr_matrix            # (P, M) ones where a mask speaks for it
    frames_of: csr_matrix           # (P, F) ones where a mask of the frame does
    labels: Floats                  # (P, C) share of each class in those masks, by score and points; 0 without labels


def fuse(network: Instances, lifted: Instances, votes: Votes, config: FusionConfig | None = None) -> Instances:
    """Join the instances of the network with what the images say, on the superpoints that both share.

    1. Masks refine each network instance: superpoints they always cut off go, superpoints they always add come in.
    2. Lifted groups are further proposals; of proposals for one object the best stays.
    3. Score = (1 - (1 - network) (1 - lifted)) x agreement with the masks, as far as frames see the instance, where the
       network's word also counts for less; times the share of the class: the network's opinion x the masks' votes.

    Masks that their 2D model doubts are believed less in all of this: see ``Votes.trust``.
    A mask is listed under every class worth it, as the network lists it. ``network`` should hold all instances, not only
    confident ones. ``evidence``: source, network_score, lift_score, agreement, num_frames, num_masks. Raises DataError when
    the two are not on the same superpoints.
    """
    config = config or FusionConfig()
    _check(network, lifted, votes)
    own, opinion = distinct(network)
    on_pieces = np.concatenate([refine(own, votes, config), lifted.segment_masks[:, votes.segment_of_piece(lifted)]])
    masks, segments = votes.pieces.segments(csr_matrix(on_pieces, dtype=np.int32))
    votes = votes.on(segments, masks.shape[1])
    said = listen(masks, votes, config)
    iou = overlap(masks, votes.sizes)
    by_network, by_lift = iou[:, :len(own)] ** 2, iou[:, len(own):] ** 2
    network_score = _best(by_network, np.minimum(opinion.sum(axis=1), 1))
    lift_score = _best(by_lift, lifted.scores)
    heard = votes.trust(config.sure) * (1 - np.exp(-said.views / config.view_scale))
    word = network_score * (1 - config.overruled * heard)
    score = (1 - (1 - word) * (1 - lift_score)) * (1 - heard * (1 - said.agreement))
    classes, share = name(np.stack([_best(by_network, one) for one in opinion.T], axis=1), network.classes, said, votes, config)
    order = np.argsort(-score, kind="stable")
    kept = suppress(iou > config.nms_iou, order[iou.diagonal()[order] > 0])
    row, label = np.nonzero(score[kept, None] * share[kept] >= config.min_score)
    row = kept[row]
    pair = score[row] * share[row, label]
    source = _source(network_score >= config.found, lift_score >= config.found, np.arange(len(masks)) < len(own))
    evidence = {"source": source, "network_score": network_score, "lift_score": lift_score, "agreement": said.agreement,
                "num_frames": said.frames, "num_masks": said.masks}
    found = Instances.from_masks(masks[row], label, pair, classes, segments[votes.pieces.point_to_piece],
                                 {key: value[row] for key, value in evidence.items()})
    return found[np.argsort(-pair, kind="stable")]


def distinct(network: Instances) -> tuple[NDArray[np.bool_], Floats]:
    """The masks (P, S) of a network, each once, and its score under each class (P, C)."""
    _, first, inverse = np.unique(network.bits, axis=0, return_index=True, return_inverse=True)
    opinion = np.zeros((len(first), len(network.classes)), np.float32)
    np.maximum.at(opinion, (inverse.reshape(-1), network.labels), network.scores)
    return network[first].segment_masks, opinion


def refine(masks: NDArray[np.bool_], votes: Votes, config: FusionConfig) -> NDArray[np.bool_]:
    """Masks (P, S) with the superpoints that most views put inside, the given mask being ``prior_views`` views or more.

    Returns (P, K) pieces of superpoints: those of which masks hold a part are cut, as in lifting alone.
    """
    said, sizes = listen(masks, votes, config), np.maximum(votes.sizes, 1)
    prior = config.prior_views / votes.trust(config.sure)
    sightings = (said.frames_of @ votes.visible).toarray()
    hits = np.minimum((said.masks_of @ votes.counts).toarray(), sightings)          # overlapping masks hit twice
    whole = hits / sizes + prior * masks >= 0.5 * (sightings / sizes + prior)
    share = hits / np.maximum(sightings, 1)
    torn = csr_matrix((share > config.cut_share) & (share < 1 - config.cut_share))
    at = rows_of(torn), torn.indices
    pairs = Torn(torn, hits[at], sightings[at])
    ratio, seen = votes.ratios(pairs, said.masks_of, said.frames_of, config.cut_prior, config.sure)
    row, piece = np.repeat(at[0], votes.pieces.count[at[1]]), votes.pieces.fan_out(at[1])
    refined, views = whole[:, votes.pieces.superpoint], seen / votes.pieces.sizes[piece]
    refined[row, piece] = ratio * views + prior * masks[row, votes.pieces.superpoint[piece]] >= 0.5 * (views + prior)
    return refined


def listen(masks: NDArray[np.bool_], votes: Votes, config: FusionConfig) -> Statement:
    """Gather what the masks of all frames say of instances; a mask is compared with what its frame sees of one."""
    extent = csr_matrix(masks.astype(np.float32))
    seen = (extent @ votes.visible.T).toarray()                                     # (P, F) points
    common = (extent @ votes.counts.T).tocoo()                                      # (P, M)
    row, mask, frame = common.row, common.col, votes.frame_of_mask[common.col]
    iou = common.data / np.maximum(votes.points[mask] + seen[row, frame] - common.data, 1)
    best = np.zeros_like(seen)
    np.maximum.at(best, (row, frame), iou)
    weight = seen / np.maximum(masks @ votes.sizes, 1)[:, None]
    weight[weight < config.observed_share] = 0
    agreement = (best * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9)
    loud = iou >= config.speak_iou
    speaks = csr_matrix((np.ones(int(loud.sum()), np.float32), (row[loud], mask[loud])), shape=common.shape)
    frames = csr_matrix(best >= config.speak_iou, dtype=np.float32)
    points = csr_matrix((common.data[loud], (row[loud], mask[loud])), shape=common.shape)
    return Statement(agreement.astype(np.float32), (weight > 0).sum(axis=1), np.diff(frames.indptr), np.diff(speaks.indptr),
                     speaks, frames, _labels(points, votes))


def _labels(points: csr_matrix, votes: Votes) -> Floats:
    """Share of each class (P, C) in masks that hold so many points (P, M)."""
    known = np.flatnonzero(votes.labels >= 0)
    weight = csr_matrix((votes.scores[known], (known, votes.labels[known])), shape=(votes.num_masks, len(votes.classes)))
    total = (points @ weight).toarray()
    return total / np.maximum(total.sum(axis=1, keepdims=True), 1e-9)


def name(opinion: Floats, known: tuple[str, ...], said: Statement, votes: Votes,
         config: FusionConfig) -> tuple[tuple[str, ...], Floats]:
    """All classes C', the network's first, and the share of each (P, C'): what the network thinks (P, C) x what masks say.

    Shares are divided by the root of their sum times the largest: a certain class has share 1, and doubt between two costs
    an instance less than half its score, for it is there whatever it is. Classes are matched by name. Against a class that
    masks have no word for they say nothing: a couch may be a sofa.
    """
    words = votes.classes or (UNNAMED,)
    classes = (*known, *(word for word in words if word not in known))
    column = np.array([classes.index(word) for word in words])
    network = np.pad(opinion, ((0, 0), (0, len(classes) - len(known))))
    network[:, column] += config.network_doubt
    if not votes.classes:
        return classes, _shares(network)
    count = votes.trust(config.sure) ** 2 * said.frames[:, None]    # a doubtful mask is more often misnamed than misplaced
    called = (count * said.labels + config.label_prior / len(words)) / (count + config.label_prior) + config.mask_doubt
    heard = np.repeat(called.max(axis=1, keepdims=True), len(classes), axis=1)
    heard[:, column] = called
    return classes, _shares(network * heard)


def _shares(weight: Floats) -> Floats:
    return weight / np.maximum(np.sqrt(weight.sum(axis=1, keepdims=True) * weight.max(axis=1, keepdims=True)), 1e-9)


def overlap(masks: NDArray[np.bool_], sizes: NDArray[np.int64]) -> Floats:
    """IoU over points of every pair (P, P) of masks (P, S); of an empty one with itself, 0."""
    common = (masks * sizes.astype(np.float32)) @ masks.T.astype(np.float32)
    area = masks @ sizes
    return common / np.maximum(area[:, None] + area[None] - common, 1)


def _best(match: Floats, scores: Floats) -> Floats:
    """Best score (P,) of what matches (P, K), scaled by how well it does; 0 where there is nothing."""
    return (match * scores).max(axis=1, initial=0)


def _source(network: NDArray[np.bool_], images: NDArray[np.bool_], own: NDArray[np.bool_]) -> NDArray[np.str_]:
    """Who found it: one of ``SOURCES``; where neither is sure, who proposed it."""
    alone = np.where(images | ~(network | own), SOURCES[1], SOURCES[0])
    return np.where(network & images, SOURCES[2], alone)


def _check(network: Instances, lifted: Instances, votes: Votes) -> None:
    sizes = {"network": network.num_segments, "lifted": lifted.num_segments, "votes": len(votes.sizes)}
    own = votes.pieces.superpoint[votes.pieces.point_to_piece]
    same = network.point_to_superpoint is not None and np.array_equal(network.point_to_superpoint, own)
    on_scan = lifted.point_to_superpoint is None or len(lifted.point_to_superpoint) == len(own)  # None: see segment_of_piece
    if not (same and on_scan) or sizes["network"] != sizes["votes"] or sizes["lifted"] < sizes["votes"]:
        raise DataError(explain("network and images must speak of the same superpoints", got=f"{sizes} segments",
                                expected="the same segment of every point",
                                do="Lift onto `Segmentation.cloud`, the scan with the superpoints that the network used."))

"""What is found in overlapping tiles of a scan becomes instances of the scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack

from pc3d.config import InferenceConfig
from pc3d.models.proposals import ALIKE
from pc3d.structures import Instances
from pc3d.structures.sparse import one_per_row, rows_of
from pc3d.structures.suppression import suppress


def join_tiles(tiles: Sequence[NDArray[np.int64]], found: Sequence[Instances], superpoints: NDArray[np.int64],
               options: InferenceConfig) -> Instances:
    """Instances of a scan over its ``superpoints`` (N,), dense, from those found in each tile over the superpoints of its rows.

    A tile speaks of the superpoints that it holds half of or more. Masks of two tiles are of one object where they agree on
    what both tiles speak of: by an IoU over ``ALIKE``, the surest and closest first, at most one mask of each tile. An object
    has what masks of half of the scores have, of those whose tiles speak of it, and the classes, scores and evidence of the
    mask of most points times score. Of objects that overlap by more than ``nms_iou`` the best stays.
    """
    sizes = np.bincount(superpoints)
    ids = [superpoints[rows] for rows in tiles]
    spoken = vstack([_spoken(one, sizes) for one in ids], format="csr")         # (T, S)
    masks, tile, mask_of_row = _distinct_masks(found, ids, spoken)
    scores, labels = (np.concatenate([getattr(one, name) for one in found]) for name in ("scores", "labels"))
    best = np.zeros(masks.shape[0])
    np.maximum.at(best, mask_of_row, scores)
    object_of_mask = _same_object(masks, tile, spoken, sizes, best)
    objects = _voted(masks, tile, spoken, best, object_of_mask)                 # (O, S)
    order = np.lexsort((-(masks @ sizes) * best, object_of_mask))
    main = order[np.diff(object_of_mask[order], prepend=-1) > 0]                # (O,) the mask that speaks for each
    stays = np.zeros(len(main), bool)
    stays[suppress(_overlap(objects, sizes, options.nms_iou), np.argsort(-best[main], kind="stable"))] = True
    stays &= objects @ sizes > options.min_points
    object_of_row = object_of_mask[mask_of_row]
    rows = np.flatnonzero(stays[object_of_row] & (main[object_of_row] == mask_of_row))
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    evidence = {name: np.concatenate([one.evidence[name] for one in found])[rows] for name in found[0].evidence}
    return Instances(_bits(objects)[object_of_row[rows]], len(sizes), labels[rows], scores[rows], found[0].classes, superpoints,
                     evidence)


def _spoken(superpoints: NDArray[np.int64], sizes: NDArray[np.int64]) -> csr_matrix:
    """Superpoints (1, S) of which a tile with these holds half or more, as ones."""
    held = np.bincount(superpoints, minlength=len(sizes))
    return csr_matrix(((held > 0) & (2 * held >= sizes)).astype(np.int64))


def _distinct_masks(found: Sequence[Instances], superpoints: Sequence[NDArray[np.int64]],
                    spoken: csr_matrix) -> tuple[csr_matrix, NDArray[np.int64], NDArray[np.int64]]:
    """Masks (M, S), as ones, of what each tile speaks of, the tile of each (M,), and the mask of each instance (R,)."""
    masks, tile, mask_of_row, count = [], [], [], 0
    for number, (instances, ids) in enumerate(zip(found, superpoints)):
        _, first, which = np.unique(instances.bits, axis=0, return_index=True, return_inverse=True)
        row, column = np.nonzero(instances[first].segment_masks)
        local = csr_matrix((np.ones(len(row), np.int64), (row, np.unique(ids)[column])), shape=(len(first), spoken.shape[1]))
        masks.append(local.multiply(spoken[number]))
        tile.append(np.full(len(first), number))
        mask_of_row.append(which.reshape(-1) + count)
        count += len(first)
    return vstack(masks, format="csr"), np.concatenate(tile), np.concatenate(mask_of_row)


def _same_object(masks: csr_matrix, tile: NDArray[np.int64], spoken: csr_matrix, sizes: NDArray[np.int64],
                 best: NDArray[np.float64]) -> NDArray[np.int64]:
    """A number for each mask (M,), dense, the same for those of one object."""
    weighted = masks.multiply(sizes).tocsr()
    shared, told = (weighted @ masks.T).tocoo(), (weighted @ spoken.T).toarray()    # points, (M, M) and (M, T)
    iou = shared.data / (told[shared.row, tile[shared.col]] + told[shared.col, tile[shared.row]] - shared.data)
    alike = np.flatnonzero((tile[shared.row] < tile[shared.col]) & (iou > ALIKE))
    alike = alike[np.argsort(-iou[alike] * best[shared.row[alike]] * best[shared.col[alike]], kind="stable")]
    members = [[mask] for mask in range(len(tile))]
    object_of_mask = np.arange(len(tile))
    for mask, partner in zip(shared.row[alike], shared.col[alike]):
        one, other = members[object_of_mask[mask]], members[object_of_mask[partner]]
        if set(tile[one]).isdisjoint(tile[other]):
            object_of_mask[other] = object_of_mask[mask]
            one += other
    return np.unique(object_of_mask, return_inverse=True)[1].reshape(-1)


def _voted(masks: csr_matrix, tile: NDArray[np.int64], spoken: csr_matrix, weight: NDArray[np.float64],
           object_of_mask: NDArray[np.int64]) -> csr_matrix:
    """Objects (O, S), as ones, of what half or more of the weight (M,) has of those masks whose tiles speak of it."""
    members = one_per_row(object_of_mask, int(object_of_mask.max(initial=-1)) + 1).T
    anyone = (members @ masks > 0).tocsr()
    asked = vstack([anyone[object_of_mask[tile == number]].multiply(spoken[number]) for number in range(spoken.shape[0])])
    weighted = members.multiply(weight).tocsr()
    against = weighted @ asked - 2 * (weighted @ masks) > 0
    return (anyone.astype(np.int64) - against.astype(np.int64) > 0).tocsr()


def _overlap(masks: csr_matrix, sizes: NDArray[np.int64], max_iou: float) -> NDArray[np.bool_]:
    """Which masks overlap by more than an IoU (O, O), superpoints counted by their points."""
    shared, area = (masks.multiply(sizes) @ masks.T.astype(np.int64)).tocoo(), masks @ sizes
    over = shared.data > max_iou * (area[shared.row] + area[shared.col] - shared.data)
    overlap = np.zeros(shared.shape, bool)
    overlap[shared.row[over], shared.col[over]] = True
    return overlap


def _bits(masks: csr_matrix) -> NDArray[np.uint8]:
    """Masks (O, S) as ``Instances`` packs them."""
    bits = np.zeros((masks.shape[0], (masks.shape[1] + 7) // 8), np.uint8)
    np.bitwise_or.at(bits, (rows_of(masks), masks.indices >> 3), (1 << (masks.indices & 7)).astype(np.uint8))
    return bits

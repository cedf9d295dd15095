"""The naive baseline: frame after frame, a mask joins the object it overlaps most, or starts a new one."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from pc3d.lift.config import LiftConfig
from pc3d.lift.methods.groups import Groups, seen_in
from pc3d.lift.pieces import Extent
from pc3d.lift.scan import LiftScan
from pc3d.lift.votes import Votes
from pc3d.structures.sparse import keep


def sequential(votes: Votes, scan: LiftScan, config: LiftConfig) -> Groups:
    """Merge each frame into what was found before, by IoU over superpoints with the union so far, at ``merge_iou``.

    What most first scripts do (and SAM3D between neighbouring frames): mistakes are never undone, and an object seen in part
    overlaps its union little. Here to be compared with.
    """
    members, sizes = keep(votes.counts, votes.is_member(config)), votes.sizes.astype(np.float64)
    unions, areas, count = np.zeros((16, len(sizes)), bool), np.zeros(16), 0
    group_of_mask = np.full(votes.num_masks, -1, np.int64)
    for mask in np.flatnonzero(np.diff(members.indptr)):
        held = members.indices[members.indptr[mask]:members.indptr[mask + 1]]
        common = unions[:count, held] @ sizes[held]
        iou = common / (areas[:count] + sizes[held].sum() - common)
        best = int(np.argmax(iou)) if count else -1
        if best < 0 or iou[best] < config.merge_iou:
            best, count = count, count + 1
            if count > len(unions):
                unions, areas = np.concatenate([unions, np.zeros_like(unions)]), np.concatenate([areas, np.zeros_like(areas)])
        areas[best] += sizes[held][~unions[best, held]].sum()
        unions[best, held] = True
        group_of_mask[mask] = best
    extent = Extent.of(csr_matrix(unions[:count], dtype=np.int32))
    return Groups(group_of_mask, seen_in(group_of_mask, votes), np.ones(count), extent)

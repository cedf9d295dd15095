"""The naive baseline: frame after frame, a mask joins the object it overlaps most, or starts a new one."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from pc3d.lift.config import LiftConfig
from pc3d.lift.methods.groups import Groups
from pc3d.lift.scan import LiftScan
from pc3d.lift.votes import Votes


def sequential(votes: Votes, scan: LiftScan, config: LiftConfig) -> Groups:
    """Merge each frame into what was found before, by IoU over superpoints with the union so far, at ``merge_iou``.

    What most first scripts do (and SAM3D between neighbouring frames): mistakes are never undone, and an object seen in part
    overlaps its union little. Here to be compared with.
    """
    members = votes.members(config).toarray().astype(bool)
    sizes = votes.sizes.astype(np.float64)
    unions = np.zeros((0, len(sizes)), bool)
    group_of_mask = np.full(votes.num_masks, -1, np.int64)
    for mask in np.flatnonzero(members.any(axis=1)):
        common = (unions & members[mask]) @ sizes
        total = (unions | members[mask]) @ sizes
        iou = common / np.maximum(total, 1)
        best = int(np.argmax(iou)) if len(iou) else -1
        if best < 0 or iou[best] < config.merge_iou:
            best = len(unions)
            unions = np.concatenate([unions, np.zeros((1, len(sizes)), bool)])
        unions[best] |= members[mask]
        group_of_mask[mask] = best
    member = np.flatnonzero(group_of_mask >= 0)
    observed = csr_matrix((np.ones(len(member), bool), (group_of_mask[member], votes.frame_of_mask[member])),
                          shape=(len(unions), votes.num_frames))
    return Groups(group_of_mask, observed, np.ones(len(unions)), csr_matrix(unions))

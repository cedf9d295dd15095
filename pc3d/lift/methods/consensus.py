"""View consensus (MaskClustering, CVPR 2024) over superpoints: masks that other frames put into one mask are one object."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pc3d.lift.config import LiftConfig
from pc3d.lift.methods.groups import Groups, join_tracks, membership
from pc3d.lift.scan import LiftScan
from pc3d.lift.votes import Votes, rows_for_op
from pc3d.ops import mask_clusters, mask_testimony


def consensus(votes: Votes, scan: LiftScan, config: LiftConfig) -> Groups:
    """Group masks by the rate of frames that support their union, from the best observed pairs to the least."""
    members = votes.members(config)
    heard = mask_testimony(
        rows_for_op(members), rows_for_op(votes.counts), rows_for_op(votes.visible), torch.from_numpy(votes.frame_of_mask),
        members.shape[1], observed_share=config.observed_share, min_points=config.min_mask_points,
        contained_share=config.contained_share, undersegment_share=config.undersegment_share)
    count = votes.num_masks
    contained = csr_matrix((np.ones(len(heard.contained), np.int32), heard.contained.numpy(), heard.contained_starts.numpy()),
                           shape=(count, count))
    observed = (contained @ votes.frames).tocsr()
    observed.sort_indices()
    node = np.flatnonzero(~heard.undersegmented.numpy())
    holders, frames = rows_for_op(contained[node]), rows_for_op(observed[node])
    group_of_mask = np.full(count, -1, np.int64)
    group_of_mask[node] = mask_clusters(*holders[:2], *frames[:2], count, votes.num_frames, rate=config.consensus_rate).numpy()
    by_group = (membership(group_of_mask, votes) @ observed).tocsr()
    agreement = _agreement(group_of_mask, np.diff(observed.indptr), heard.spoke.numpy())
    return join_tracks(Groups(group_of_mask, by_group > 0, agreement), votes, config)


def _agreement(group_of_mask: NDArray[np.int64], whole: NDArray[np.integer], spoke: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean over a group's masks of the share of speaking frames that hold the mask whole (G,)."""
    member = group_of_mask >= 0
    share = whole[member] / np.maximum(spoke[member], 1)
    return np.bincount(group_of_mask[member], share) / np.bincount(group_of_mask[member])

"""View consensus (MaskClustering, CVPR 2024) over superpoints: masks that other frames put into one mask are one object."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pc3d.lift.config import LiftConfig
from pc3d.lift.methods.groups import Groups, join_tracks
from pc3d.lift.scan import LiftScan
from pc3d.lift.votes import Votes, rows_for_op
from pc3d.ops import mask_clusters, mask_testimony


def consensus(votes: Votes, scan: LiftScan, config: LiftConfig) -> Groups:
    """Group masks by the rate of frames that support their union, from the best observed pairs to the least."""
    heard = mask_testimony(
        rows_for_op(votes.counts), torch.from_numpy(votes.is_member(config)), rows_for_op(votes.visible),
        torch.from_numpy(votes.frame_of_mask), len(votes.sizes), observed_share=config.observed_share,
        min_points=config.min_mask_points, contained_share=config.contained_share,
        undersegment_share=config.undersegment_share)
    node, group_of_mask = np.flatnonzero(~heard.undersegmented.numpy()), np.full(votes.num_masks, -1, np.int64)
    rows = torch.from_numpy(np.append(node, votes.num_masks))     # all others are empty
    group, starts, frames = mask_clusters(heard.contained_starts[rows], heard.contained, torch.from_numpy(votes.frame_of_mask),
                                          votes.num_frames, rate=config.consensus_rate)
    group_of_mask[node] = group.numpy()
    observed = csr_matrix((np.ones(len(frames), bool), frames.numpy(), starts.numpy()),
                          shape=(len(starts) - 1, votes.num_frames))
    agreement = _agreement(group_of_mask, heard.whole.numpy(), heard.spoke.numpy())
    return join_tracks(Groups(group_of_mask, observed, agreement), votes, config)


def _agreement(group_of_mask: NDArray[np.int64], whole: NDArray[np.int64], spoke: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean over a group's masks of the share of speaking frames that hold the mask whole (G,)."""
    member = group_of_mask >= 0
    share = whole[member] / np.maximum(spoke[member], 1)
    return np.bincount(group_of_mask[member], share) / np.bincount(group_of_mask[member])

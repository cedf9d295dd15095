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
from pc3d.ops.mask_testimony import Testimony


def consensus(votes: Votes, scan: LiftScan, config: LiftConfig) -> Groups:
    """Group masks by the rate of frames that support their union, from the best observed pairs to the least."""
    members = votes.members(config)
    heard = mask_testimony(
        rows_for_op(members), rows_for_op(votes.counts), rows_for_op(votes.visible), torch.from_numpy(votes.frame_of_mask),
        members.shape[1], observed_share=config.observed_share, min_points=config.min_mask_points,
        contained_share=config.contained_share, undersegment_share=config.undersegment_share)
    count, observed = votes.num_masks, _observed(heard, votes)
    node = np.flatnonzero(~heard.undersegmented.numpy())
    rows = torch.from_numpy(np.append(node, count))     # all others are empty
    (starts, frames, _), group_of_mask = rows_for_op(observed), np.full(count, -1, np.int64)
    group_of_mask[node] = mask_clusters(heard.contained_starts[rows], heard.contained, starts[rows], frames, count,
                                        votes.num_frames, rate=config.consensus_rate).numpy()
    by_group = (membership(group_of_mask, votes) @ observed).tocsr()
    agreement = _agreement(group_of_mask, np.diff(observed.indptr), heard.spoke.numpy())
    return join_tracks(Groups(group_of_mask, by_group > 0, agreement), votes, config)


def _observed(heard: Testimony, votes: Votes) -> csr_matrix:
    """Frames (M, F), as ones, with a mask that holds each mask: masks ascend by frame."""
    starts, frame = heard.contained_starts.numpy(), votes.frame_of_mask[heard.contained.numpy()]
    first = np.diff(frame, prepend=-1) > 0
    first[starts[:-1][np.diff(starts) > 0]] = True
    place = np.append(0, np.cumsum(first))[starts]
    return csr_matrix((np.ones(place[-1], np.int32), frame[first].astype(np.int32), place),
                      shape=(votes.num_masks, votes.num_frames))


def _agreement(group_of_mask: NDArray[np.int64], whole: NDArray[np.integer], spoke: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean over a group's masks of the share of speaking frames that hold the mask whole (G,)."""
    member = group_of_mask >= 0
    share = whole[member] / np.maximum(spoke[member], 1)
    return np.bincount(group_of_mask[member], share) / np.bincount(group_of_mask[member])

"""Hierarchical merging (Open3DIS, CVPR 2024): frames pairwise, then pairs of frames, up a binary tree."""

from __future__ import annotations

import torch

from pc3d.lift.config import LiftConfig
from pc3d.lift.methods.groups import Groups, join_tracks, seen_in
from pc3d.lift.scan import LiftScan
from pc3d.lift.votes import Votes, rows_for_op
from pc3d.ops import merge_views


def hierarchical(votes: Votes, scan: LiftScan, config: LiftConfig) -> Groups:
    """Merge masks frame by frame, then half by half, where they overlap on what both sides see: ``ops.merge_views``."""
    group, agreement = merge_views(
        rows_for_op(votes.counts), rows_for_op(votes.visible), torch.from_numpy(votes.frame_of_mask),
        torch.from_numpy(votes.tracks), len(votes.sizes), min_points=config.min_mask_points, iou=config.merge_iou,
        recall=config.merge_recall, track_iou=config.track_iou)
    return join_tracks(Groups(group.numpy(), seen_in(group.numpy(), votes), agreement.numpy()), votes, config)

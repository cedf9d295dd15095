"""The knobs of lifting, each with its source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LiftConfig:
    """Lengths in metres, shares in [0, 1]. The defaults were chosen on synthetic training rooms (docs/lifting.md)."""

    # visibility: |z - d| <= max(depth_tolerance, depth_tolerance_rel * z); repositories use 0.03 to 0.25 m, or 0.02 z
    depth_tolerance: float = 0.03
    depth_tolerance_rel: float = 0.02
    min_depth: float = 0.1

    # what a mask holds of the scan
    member_share: float = 0.5       # of a superpoint's visible points that lie in the mask (Open3DIS 0.5)
    member_visible: float = 0.2     # of a superpoint's points that the frame must see for it to count
    min_mask_points: int = 20       # visible points of a mask

    # cutting superpoints where masks do
    cut_share: float = 0.1          # of a superpoint that lies in a mask, or outside, for the mask to cut it
    cut_points: int = 16            # of it that a frame must see for that
    cut_prior: float = 1.5          # views that what is said of a superpoint counts for in each of its pieces; more where
    sure: float = 0.8               # the mean score of all masks is below this, by the fourth power

    # consensus (MaskClustering, CVPR 2024)
    observed_share: float = 0.3     # of a mask's points that another frame must see to have a say
    contained_share: float = 0.7    # of those that one mask there must hold
    undersegment_share: float = 0.5 # of the frames with a say that split a mask, for it to hold several objects
    consensus_rate: float = 0.9     # of the frames that see two masks and put them into one

    # region growing (SAI3D, CVPR 2024)
    region_thresholds: tuple[float, ...] = (0.9, 0.8, 0.7, 0.6)
    region_hop_weight: float = 0.5  # of neighbours' neighbours
    region_mask_share: float = 0.5  # of a mask's points that a region holds, for the mask to speak for it; not less

    # hierarchical merging (Open3DIS, CVPR 2024; co-visible overlap: "Details Matter", ICCV 2025)
    merge_iou: float = 0.45
    merge_recall: float = 0.9

    # tracks of a video model
    track_iou: float = 0.4          # hierarchical merging: enough where both groups hold masks of one track
    track_share: float = 0.5        # of the larger group's masks that are of tracks the other has as often, for both to be one

    # from groups of masks to instances
    min_masks: int = 2              # that an instance rests on
    detection_share: float = 0.4    # of a superpoint's sightings in frames of the group that lie in its masks
    link_distance: float = 0.2      # superpoints nearer than this touch: regions grow over it
    gap_distance: float = 0.5       # parts of a group nearer than this are one object: something stood before its middle
    min_points: int = 50            # of an instance
    contained_object: float = 0.8   # of an instance that another holds, for it to go
    view_scale: float = 5.0         # frames after which more of them hardly raise the score

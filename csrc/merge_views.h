// merge_views(starts, superpoints, counts, visible_starts, visible_superpoints, visible, frame_of_mask, tracks,
//             num_superpoints, min_points, iou, recall, track_iou) -> group (M,) int64, agreement (G,) float64
//
// M masks of F frames over S superpoints as sparse rows, ascending: the points of a mask, and what a frame sees.
// frame_of_mask (M,) int64 ascends; tracks (M,) int64, below 0 for none. The masks of a frame with at least min_points are
// groups of one; then frames are merged two by two, and what they make again, up to one. A group has its masks' points
// inside_s and what its frames see, seen_s, each frame counted once per mask. Between two groups, over all superpoints
// (held = inside / max(seen, 1) sqrt(seen)):
//   common = sum held held', area = sum held sqrt(seen'), area' = sum held' sqrt(seen),
//   iou = common / (area + area' - common), recall = common / min(area, area').
// Groups of the two sides with common > 0 join where iou reaches `iou`, or recall reaches `recall` and iou half of `iou`, or
// they share a track and iou reaches track_iou. agreement: mean over a group's joins of iou where that reaches `iou`, else of
// recall; 0 without joins. Groups are numbered first side first, each by its first group; masks too small have -1.
#pragma once

#include "pc3d.h"

#include <memory>
#include <vector>

namespace pc3d {
namespace merge_views {

struct Entry {
  int32_t superpoint, points;
};
using Row = std::vector<Entry>;  // superpoints ascending

struct Group {
  std::vector<int32_t> masks;
  Row inside;
  std::vector<double> held;         // of each entry of inside: of what is seen the share that lies inside, times its weight
  std::shared_ptr<const Row> seen;  // the masks of a frame share one
  std::vector<int64_t> tracks;
  double agreement = 0;  // sum over the joins
  int64_t joins = 0;
};

using Node = std::vector<Group>;  // the groups of the frames below a node of the tree

struct Limits {
  double iou, recall, track_iou;
};

// A group of the left side and one of the right that have points in common.
struct Pair {
  int32_t left, right;
  double common, area_left, area_right;
};

}  // namespace merge_views
}  // namespace pc3d

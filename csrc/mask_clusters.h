// mask_clusters(starts, holders, frame_of_holder, num_frames, percentiles, rate)
//   -> group (M,) int64, frame_starts (G + 1,) int64, frames (E,) int32
//
// M masks with the masks that hold them, in [0, H), sparse rows, ascending; the frames of the holders, (H,) int64 in
// [0, num_frames), observe a mask. Each mask starts as a node of its own. Of two nodes, supporters are the holders they have in
// common and observers the frames; levels are the percentiles of the positive observers of the pairs with a supporter, at
// least 1. Level after level all pairs with observers >= level and supporters >= rate observers are joined, and their holders
// and frames with them. Groups are numbered by their first mask; frames, ascending, are those that observe each.
#pragma once

#include "pc3d.h"

#include <vector>

namespace pc3d {
namespace mask_clusters {

// A node that may be joined with another, once a level is down to their observers.
struct Hit {
  int32_t other, observers;
};

struct Pair {
  int32_t first, second;
};

}  // namespace mask_clusters
}  // namespace pc3d

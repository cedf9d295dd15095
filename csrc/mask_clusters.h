// mask_clusters(starts, held_by, frame_starts, frames, num_holders, num_frames, percentiles, rate) -> group (M,) int64
//
// M masks with the masks that hold them, in [0, num_holders), and the frames that observe them, in [0, num_frames); sparse
// rows, ascending. Each mask starts as a node of its own. Of two nodes, supporters are the holders they have in common and
// observers the frames; levels are the percentiles of the positive observers of the pairs with a supporter, at least 1.
// Level after level all pairs with observers >= level and supporters >= rate observers are joined, and their holders and
// frames with them. Groups are numbered by their first mask.
#pragma once

#include "pc3d.h"

#include <vector>

namespace pc3d {
namespace mask_clusters {

// Nodes that may be joined, once a level is down to their observers.
struct Pair {
  int32_t first, second, observers;
};

}  // namespace mask_clusters
}  // namespace pc3d

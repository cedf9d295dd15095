// mask_testimony(starts, superpoints, counts, held, visible_starts, visible_superpoints, visible, frame_of_mask,
//                num_superpoints, observed_share, min_points, contained_share, undersegment_share)
//   -> contained_starts (M + 1,), contained (E,) int32, spoke (M,) int64, whole (M,) int64, undersegmented (M,) bool
//
// M masks of F frames over S superpoints, sparse rows all: the points of a mask (counts), of which those in its members are
// held (bool), and what a frame sees (visible: something where one of its masks has points), fewer than 2^31 points in all
// masks of a frame, and in all that it sees. frame_of_mask (M,) int64 ascends. With the members of mask m:
//   own = its points in them; seen_f = what frame f sees of them; shared_n = what mask n has of them; labelled_f = sum of
//   shared_n over the masks n of f.
// Frame f speaks of m where own >= min_points, seen_f > 0, seen_f >= observed_share own and labelled_f >= seen_f / 2.
// Mask n of a speaking frame holds m whole where shared_n > 0 and shared_n >= contained_share min(labelled_f, seen_f).
// m is undersegmented where no frame speaks of it, or more than undersegment_share of those that do do not hold it whole.
// contained: the masks, ascending, that hold m whole; undersegmented ones neither are held nor hold. whole: their frames.
#pragma once

#include "sparse_rows.h"

#include <vector>

namespace pc3d {
namespace mask_testimony {

struct Rows : SparseRows {
  const int32_t* values;
};

// Points of a superpoint that a frame sees and, times 2^32, that it has labelled.
struct Sight {
  uint64_t points;
  int32_t frame;
};

// Points of a superpoint in a mask, which has a place among all masks.
struct Shown {
  int32_t place, points;
};

// A frame that speaks of a mask, and the points of it that one of its masks needs to hold it whole.
struct Speaker {
  int32_t frame, enough;
};

}  // namespace mask_testimony
}  // namespace pc3d

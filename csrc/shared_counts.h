// How many points predicted and true instances share (meaning: pc3d/ops/shared_counts.py).
#pragma once

#include "pc3d.h"

namespace pc3d {

// bits (I, ceil(S/8)) uint8 in little bit order, segment (N,) int64 in [0, S), number (N,) int64 in [0, num_numbers)
// -> (I, num_numbers) int64.
Tensor shared_counts(const Tensor& bits, const Tensor& segment, const Tensor& number, int64_t num_segments,
                     int64_t num_numbers);

}  // namespace pc3d

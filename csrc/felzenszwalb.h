// Graph segmentation of Felzenszwalb and Huttenlocher (IJCV 2004) as ScanNet uses it for superpoints.
//
// Edges are taken by rising weight, NaN last; equal weights in the order given, or, exact, where std::sort of libstdc++
// leaves them. Components a and b join when w <= thr(a) and w <= thr(b); then thr = w + k / size, in float32. A second
// sweep over the same order joins every component smaller than min_size. Ids are dense, numbered by the first point that
// has them.
#pragma once

#include "pc3d.h"

namespace pc3d {

// edges (E, 2) int32 in [0, num_nodes), weights (E,) float32 -> (num_nodes,) int64.
Tensor felzenszwalb(const Tensor& edges, const Tensor& weights, int64_t num_nodes, double k_threshold, int64_t min_size,
                    bool exact);

}  // namespace pc3d

// Exact k nearest neighbours of every point among the others, by a k-d tree with boxes.
//
// Neighbours come by rising (squared distance, index), squared distance in float32 as (dx*dx + dy*dy) + dz*dz.
// A point is never its own neighbour; rows with fewer than k others are filled with the point itself.
// A tree, and not a grid of cells, because a single outlier kilometres away makes the cells of a grid useless.
#pragma once

#include "pc3d.h"

namespace pc3d {

// xyz (N, 3) float32 finite, 1 <= k <= 64 -> (N, k) int64.
Tensor knn(const Tensor& xyz, int64_t k);

}  // namespace pc3d

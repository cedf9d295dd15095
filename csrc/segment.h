// Sums and maxima of rows over segments, bitwise equal for any number of threads.
//
// The rows of a segment, in rising order, are cut into tiles of at most `tile_rows`; tiles are reduced one by one, then
// merged in a fixed order. So a segment with 99 % of the rows is shared out evenly, and no atomics are needed.
// Grouping: order (N,) the rows by segment, offsets (S + 1,) where each segment starts in it, tiles (S + 1,) the number
// of the first tile of each segment.
#pragma once

#include <tuple>

#include "pc3d.h"

namespace pc3d {

// index (N,) int64 in [0, S) -> order, offsets, tiles; all int64.
std::tuple<Tensor, Tensor, Tensor> segment_group(const Tensor& index, int64_t num_segments);

// x (N, C) float32 or float64 -> (S, C); 0 where empty.
Tensor segment_sum(const Tensor& x, const Tensor& index, const Tensor& order, const Tensor& offsets,
                   const Tensor& tiles);

// -> values (S, C), 0 where empty, and the first row (S, C) int64 that holds each, -1 where empty. The first NaN wins.
std::tuple<Tensor, Tensor> segment_max(const Tensor& x, const Tensor& index, const Tensor& order, const Tensor& offsets,
                                       const Tensor& tiles);

// y (S, C), index (N,) -> (N, C): row n is y[index[n]].
Tensor segment_expand(const Tensor& y, const Tensor& index, const Tensor& order, const Tensor& offsets, const Tensor& tiles);

}  // namespace pc3d

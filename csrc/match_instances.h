// Greedy matching of predicted with true instances of one scan, as ScanNet's benchmark does it (meaning:
// pc3d/ops/match_instances.py).
#pragma once

#include <tuple>

#include "pc3d.h"

namespace pc3d {

// iou (I, G) float64, ignored (I,) float64, labels (I,) int64, scores (I,) float64, truth_labels (G,) int64, truth_counts (G,)
// bool, overlaps (T,) float64 -> cell (K,) int64, hit (K,) bool, score (K,) float64 of what counts, and the cell of each miss.
// The cell of a class c at threshold t is c * T + t.
std::tuple<Tensor, Tensor, Tensor, Tensor> match_instances(const Tensor& iou, const Tensor& ignored, const Tensor& labels,
                                                           const Tensor& scores, const Tensor& truth_labels,
                                                           const Tensor& truth_counts, const Tensor& overlaps);

}  // namespace pc3d

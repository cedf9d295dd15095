// What is done to whole columns of a scan before it is a training sample (meaning: pc3d/ops/column_stats.py, map_points.py,
// unit_normals.py and instance_rows.py).
#pragma once

#include <tuple>

#include "pc3d.h"

namespace pc3d {

// points (N, 3) float32, N >= 1 -> rows low, high and mean (3, 3) float64.
Tensor column_stats(const Tensor& points);

// points (N, 3), shift (3,), matrix (3, 3) or (0, 3), float32 -> (points + shift) @ matrix, or points + shift.
Tensor map_points(const Tensor& points, const Tensor& shift, const Tensor& matrix);

// bytes (N, 3) int8 -> (N, 3) float32 of length 1; zeros stay zeros.
Tensor unit_normals(const Tensor& bytes);

// labels and instances (N,) int64 -> label and points of each instance (I,) by rising id, or (label, id), and row of each point's
// instance (N,), int64.
std::tuple<Tensor, Tensor, Tensor> instance_rows(const Tensor& labels, const Tensor& instances, int64_t num_labels, bool by_label);

}  // namespace pc3d

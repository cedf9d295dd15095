// Elastic distortion: white noise on a grid, blurred six times, read trilinearly at the points (meaning: pc3d/ops/elastic.py).
#pragma once

#include "pc3d.h"

namespace pc3d {

// positions (N, 3) float32, noise (3, X, Y, Z) float32 with at least two values along each axis -> (N, 3) float32. The grid
// spans -(X-1) * granularity to (X-1) * granularity along x, and so on; a point outside stays where it is.
Tensor elastic(const Tensor& positions, const Tensor& noise, double granularity, double magnitude);

}  // namespace pc3d

#include "elastic.h"

#include <algorithm>
#include <vector>

#define PC3D_SIMD elastic_plain
#define PC3D_TARGET
#define PC3D_WIDE 0
#include "elastic_kernel.h"
#undef PC3D_SIMD
#undef PC3D_TARGET
#undef PC3D_WIDE
#if defined(__x86_64__)
#define PC3D_SIMD elastic_avx2
#define PC3D_TARGET __attribute__((target("avx2")))
#define PC3D_WIDE 1
#include "elastic_kernel.h"
#undef PC3D_SIMD
#undef PC3D_TARGET
#undef PC3D_WIDE
#endif

namespace pc3d {
namespace {

Grid interleaved(const Tensor& noise) {
  Grid grid{{noise.size(1), noise.size(2), noise.size(3)}, {}};
  const int64_t count = grid.size[0] * grid.size[1] * grid.size[2];
  const float* from = data<float>(noise);
  grid.nodes.resize(count);
  for (int64_t i = 0; i < count; ++i) grid.nodes[i] = Shift{from[i], from[count + i], from[2 * count + i], 0.0f};
  return grid;
}

// Mean of a node and its two neighbours along one axis; beyond the border there is 0.
void blur(Grid& grid, int axis, std::vector<Shift>& out) {
  const int64_t step = grid.stride(axis), length = grid.size[axis], count = static_cast<int64_t>(grid.nodes.size());
  const Shift* in = grid.nodes.data();
  const Shift zero = {}, third = zero + 1.0f / 3.0f;
  out.resize(count);
  for (int64_t begin = 0; begin < count; begin += step * length)
    for (int64_t row = 0; row < length; ++row)
      for (int64_t i = begin + row * step; i < begin + (row + 1) * step; ++i)
        out[i] = ((row > 0 ? in[i - step] : zero) + in[i] + (row + 1 < length ? in[i + step] : zero)) * third;
  grid.nodes.swap(out);
}

decltype(&elastic_plain::move) best_kernel() {
#if defined(__x86_64__)
  if (best_isa() >= Isa::avx2) return elastic_avx2::move;
#endif
  return elastic_plain::move;
}

}  // namespace

Tensor elastic(const Tensor& positions_in, const Tensor& noise_in, double granularity, double magnitude) {
  const Tensor positions = torch::stable::contiguous(positions_in), noise = torch::stable::contiguous(noise_in);
  check(positions.dim() == 2 && positions.size(1) == 3 && positions.scalar_type() == ScalarType::Float,
        "elastic: positions must be float32 (N, 3)");
  check(noise.dim() == 4 && noise.size(0) == 3 && noise.scalar_type() == ScalarType::Float &&
            std::min({noise.size(1), noise.size(2), noise.size(3)}) >= 2,
        "elastic: noise must be float32 (3, X, Y, Z), each at least 2");
  Grid grid = interleaved(noise);
  std::vector<Shift> spare;
  for (int pass = 0; pass < 2; ++pass)
    for (int axis = 0; axis < 3; ++axis) blur(grid, axis, spare);

  Frame frame{};
  frame.scale = static_cast<float>(1.0 / (2.0 * granularity));
  frame.strength = static_cast<float>(magnitude);
  for (int axis = 0; axis < 3; ++axis) {
    frame.top[axis] = static_cast<float>(grid.size[axis] - 1);
    frame.half[axis] = frame.top[axis] * 0.5f;
    frame.last[axis] = static_cast<int32_t>(grid.size[axis]) - 2;
  }
  Tensor moved = empty(positions, {positions.size(0), 3}, ScalarType::Float);
  const float* from = data<float>(positions);
  float* to = mutable_data<float>(moved);
  const auto move = best_kernel();
  torch::stable::parallel_for(0, positions.size(0), 4096, [&](int64_t begin, int64_t end) {
    move(grid, frame, from + 3 * begin, to + 3 * begin, end - begin);
  });
  return moved;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("elastic", TORCH_BOX(&pc3d::elastic)); }

#include "elastic.h"

#include <algorithm>
#include <array>
#include <vector>

namespace pc3d {
namespace {

// The three shifts of a grid node side by side, so that one load fetches a corner; the fourth lane is unused.
typedef float Shift __attribute__((vector_size(16)));

struct Grid {
  std::array<int64_t, 3> size;
  std::vector<Shift> nodes;

  int64_t stride(int axis) const { return axis == 0 ? size[1] * size[2] : axis == 1 ? size[2] : 1; }
};

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

// The cell of one coordinate and the place in it; false outside the grid and for NaN.
bool locate(float coordinate, int64_t length, int64_t& cell, float& place) {
  if (!(coordinate >= 0.0f && coordinate <= static_cast<float>(length - 1))) return false;
  cell = std::min(static_cast<int64_t>(coordinate), length - 2);
  place = coordinate - static_cast<float>(cell);
  return true;
}

Shift mix(Shift a, Shift b, float t) { return a + t * (b - a); }

Shift read(const Grid& grid, const float* at) {
  int64_t x, y, z;
  float tx, ty, tz;
  if (!locate(at[0], grid.size[0], x, tx) || !locate(at[1], grid.size[1], y, ty) || !locate(at[2], grid.size[2], z, tz))
    return Shift{};
  const int64_t right = grid.stride(0), ahead = grid.stride(1);
  const Shift* node = grid.nodes.data() + x * right + y * ahead + z;
  const Shift near_low = mix(node[0], node[right], tx), near_high = mix(node[1], node[right + 1], tx);
  const Shift far_low = mix(node[ahead], node[ahead + right], tx), far_high = mix(node[ahead + 1], node[ahead + right + 1], tx);
  return mix(mix(near_low, far_low, ty), mix(near_high, far_high, ty), tz);
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

  Tensor moved = empty(positions, {positions.size(0), 3}, ScalarType::Float);
  const float *from = data<float>(positions), scale = static_cast<float>(1.0 / (2.0 * granularity));
  const float strength = static_cast<float>(magnitude);
  float half[3];
  for (int axis = 0; axis < 3; ++axis) half[axis] = static_cast<float>(grid.size[axis] - 1) * 0.5f;
  float* to = mutable_data<float>(moved);
  torch::stable::parallel_for(0, positions.size(0), 4096, [&](int64_t begin, int64_t end) {
    for (int64_t point = begin; point < end; ++point) {
      const float* p = from + 3 * point;
      const float at[3] = {p[0] * scale + half[0], p[1] * scale + half[1], p[2] * scale + half[2]};
      const Shift shift = read(grid, at);
      for (int axis = 0; axis < 3; ++axis) to[3 * point + axis] = p[axis] + strength * shift[axis];
    }
  });
  return moved;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("elastic", TORCH_BOX(&pc3d::elastic)); }

// The grid of an elastic distortion, and where points lie in it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace pc3d {

// The three shifts of a grid node side by side, so that one load fetches a corner; the fourth lane is unused.
typedef float Shift __attribute__((vector_size(16)));
typedef int32_t Cell __attribute__((vector_size(16)));

struct Grid {
  std::array<int64_t, 3> size;
  std::vector<Shift> nodes;

  int64_t stride(int axis) const { return axis == 0 ? size[1] * size[2] : axis == 1 ? size[2] : 1; }
};

struct Frame {
  Shift half, top;  // from the middle to the first node; the last node
  Cell last;        // the last cell
  float scale, strength;
};

}  // namespace pc3d

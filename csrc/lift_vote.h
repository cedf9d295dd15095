// lift_vote(xyz, starts, owners, spheres, pose, depth, depth_camera, depth_lens, masks, mask_camera, mask_lens, num_masks,
//           near, absolute, relative) -> seen (A, 2) int32, votes (B, 3) int32
//
// Points (3, N) float32 lie in blocks [starts[b], starts[b+1]) with bounding spheres (B, 4); neighbouring blocks of one
// owner are a run. A point is visible where depth (H, W) > 0 at its pixel agrees with its z in the camera:
//   |z - d| <= max(absolute, relative z), z > near.
// seen: per run with visible points (owner, how many); votes: per run and mask id > 0 that its visible points meet in masks
// (L, h, w), ids as the unsigned bits of int16, (owner, id, how many), ascending in id. Runs keep their order.
// A camera (13) is fx fy cx+.5 cy+.5 width height x0 x1 y0 y1 r2_max p1 p2: intrinsics from the corner of the first pixel,
// ideal coordinates of the image border, and a lens: its scale s(r^2) at equal steps up to r2_max, linear between.
// An id above num_masks throws. Counts are whole numbers: the same for every kernel and number of threads.
#pragma once

#include <cstdint>

namespace pc3d {
namespace lift {

struct View {
  const float* camera;  // as above
  const float* lens;    // null without a lens
  int64_t steps;        // entries of lens
};

constexpr int kBlock = 256;  // points of a block, at most

// What became of the points of one block.
struct Projected {
  int32_t pixel[kBlock], mask_pixel[kBlock];
  int32_t visible[kBlock];  // 0 or 1
};

struct Test {
  const float* pose;   // (3, 4) world to camera
  const float* depth;  // (H, W)
  float near, absolute, relative;
};

// Project `count` points (x, y, z apart) and test them; mask_pixel is written where the second view differs.
using Project = void (*)(const float* x, const float* y, const float* z, int count, const Test& test, const View& depth_view,
                         const View* mask_view, Projected& out);

}  // namespace lift
}  // namespace pc3d

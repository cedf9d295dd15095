// lift_vote(xyz, starts, owners, boxes, pieces, poses, depths, depth_cameras, masks, mask_cameras, num_masks, absolute,
//           near, relative, cut_share, cut_points)
//   -> seen (A, 2) int32, votes (B, 3) int32, piece_seen (C, 2) int32, piece_votes (D, 3) int32, rows (F, 4) int64
//
// Points (3, N) float32 lie in blocks [starts[b], starts[b+1]) in boxes (6, B), centre and half
// the sides; neighbouring blocks of one owner are a run. All that follows is of each of F frames, whose rows of the four tables lie one frame after another, as many
// as ``rows`` says. A point is visible where depth (H, W) > 0 at its pixel agrees with its z in the camera:
//   |z - d| <= max(absolute, relative z), z > near.
// seen: per run with visible points (owner, how many); votes: per run and mask id > 0 that its visible points meet in masks
// (L, h, w), ids as the unsigned bits of int16, (owner, id, how many), ascending in id. Runs keep their order.
// A mask cuts a run when the share of it among the visible points, cut_points or more, is above cut_share and below
// 1 - cut_share: then piece_seen and piece_votes hold the same of each piece of the run;
// pieces (N,) int32 are those of the points, ascending in a run.
// A camera (13 + T) is fx fy cx+.5 cy+.5 width height x0 x1 y0 y1 r2_max p1 p2: intrinsics from the corner of the first pixel,
// ideal coordinates of the image border, and a lens: its scale s(r^2) at T equal steps up to r2_max, linear between; T is 0
// without one.
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

constexpr int kTile = 8;        // pixels of a tile, both ways
constexpr int kLevels = 5;      // of squares of 1, 2, 4 and more tiles, both ways
constexpr int kMostLanes = 16;  // what a kernel may write past its results

struct Test {
  const float* pose;   // (3, 4) world to camera
  const float* depth;  // (H, W)
  const float* tiles;  // the largest depth of each tile; then of the squares of 2, 4, .. tiles that begin with each
  int32_t tiles_wide, level;  // tiles of a row, of a level
  float near, absolute, relative;
};

// What each instruction set has of its own: see lift_vote_kernel.h.
struct Kernel {
  void (*tile)(const float* rows, int64_t num_rows, int64_t width, float* out);
  void (*widen)(const float* tiles, int64_t high, int64_t wide, int64_t side, float* out);
  int (*cull)(const float* boxes, int64_t num_blocks, int64_t begin, int64_t end, const Test& test, const View& view,
              int32_t* out);
  int (*project)(const float* xyz, int64_t num_points, int64_t begin, int64_t end, const Test& test, const View& view,
                 const View* mask_view, int32_t* out_point, int32_t* out_pixel);
};

}  // namespace lift
}  // namespace pc3d

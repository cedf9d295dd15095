// scan_layout(xyz, segment, block, piece) -> order (N,) int64, points (3, N) float32, sizes (S,) int64,
//     block_starts (B + 1,) int64, block_owners (B,) int64, boxes (6, B) float32,
//     piece_starts (K + 1,) int64, piece_owners (K,) int64, piece_of_point (N,) int32, point_to_piece (N,) int64
//
// Points (N, 3) float32 along a Z-order curve of 1024^3 cubes, which begins at the lowest coordinates and spans the longest
// axis, those of a cube in their order; then those of a segment, (N,) int64 from 0, side by side, segments by their first
// points. points: as they stand then; sizes: of each segment, by number. The points of a segment are cut into as few blocks,
// and as few pieces, as have at most ``block`` and ``piece`` points, as even as can be: where each starts, and its segment.
// boxes: of the points of a block, the centre and half of each side. piece_of_point is in the new order, point_to_piece in the
// old.
#pragma once

#include "pc3d.h"

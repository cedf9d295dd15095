// grid_links(xyz, segment, num_segments, side) -> starts (S + 1,) int64, linked (E,) int32
//
// N points, xyz (3, N) float32 by axes, of S segments, segment (N,) int64. In a grid of cubes of a side, from the lowest
// coordinates on, two segments are linked where they have points in the same cube or in two that touch, at a corner or more.
// linked: the segments that each is linked to, ascending; one with points is linked to itself.
#pragma once

#include "pc3d.h"

// grid_parts(xyz, segment, starts, members, num_segments, side) -> part (E,) int64
//
// Points and segments of them as in grid_links, and sets of segments: sparse rows, starts int64 with int32, ascending. A set
// falls into parts that hang together: of segments with points in the same cube or in two that touch. part: of each entry of
// members, numbered by the first entry of a part.
#pragma once

#include "pc3d.h"

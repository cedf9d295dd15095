// linked_parts(starts, members, link_starts, linked) -> part (E,) int64
//
// Sets of nodes, and the nodes that each node is linked to, both ways: sparse rows, starts int64 with int32, ascending. A set
// falls into parts that hang together by links between its own members. part: of each entry of members, numbered by the first
// entry of a part.
#pragma once

#include "pc3d.h"

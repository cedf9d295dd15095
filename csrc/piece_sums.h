// piece_sums(set_starts, set_rows, starts, pieces, counts, pair_starts, pair_owners, first, number) -> (E,) int64
//
// R rows of counts by piece (pieces ascending), and G sets of rows, as sparse rows. Piece k belongs to the owner s with
// first[s] <= k < first[s] + number[s], (S,) int64. Pairs of a set and an owner are the sparse rows (G, S) of pair_starts and
// pair_owners. The result is, pair after pair, the sum over the set's rows of the counts of each of the owner's pieces.
#pragma once

#include "pc3d.h"

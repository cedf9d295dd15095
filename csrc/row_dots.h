// row_dots(starts, columns, values, num_columns, first, second) -> dots (P,) float64
//
// Sparse rows: starts (R + 1,) int64, columns (E,) int32 that ascend in each row, values (E,) float64. The inner product of rows
// first[p] and second[p], int64, for each p: its terms are added by ascending columns.
#pragma once

#include "pc3d.h"

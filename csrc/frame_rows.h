// frame_rows(tables, numbers, rows, num_columns) -> starts (R + 1,) int64, columns (E,) int32, counts (E,) int32
//
// Counts of F frames as sparse rows, columns ascending. Entries are (n, 3) int32 column, row of the frame from 1, and count, or
// (n, 2) column and count of frames with one row; those of a column in a frame stand side by side, each row once. Frame f has
// numbers[f] of them, in one table, after those of the frame before; and rows[f] rows. Both are (F,) int64.
#pragma once

#include "pc3d.h"

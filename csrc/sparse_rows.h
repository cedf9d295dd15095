// Sparse rows as ops of the host take them: starts (R + 1,) int64 and columns (E,) int32, both contiguous.
#pragma once

#include "pc3d.h"

#include <algorithm>
#include <string>

namespace pc3d {

struct SparseRows {
  const int64_t* starts;
  const int32_t* columns;
  int64_t count;
};

enum class Columns { in_any_order, ascending };

// Throws, in the name of an op, where starts do not fit, or a column is not in [0, num_columns) or not in order.
inline SparseRows sparse_rows(const std::string& op, const Tensor& starts, const Tensor& columns, int64_t num_columns,
                              Columns order) {
  const auto require = [&](bool ok, const char* problem) {
    if (!ok) check(false, (op + ": " + problem).c_str());
  };
  require(starts.dim() == 1 && starts.numel() > 0 && starts.scalar_type() == ScalarType::Long && starts.is_contiguous() &&
              columns.dim() == 1 && columns.scalar_type() == ScalarType::Int && columns.is_contiguous() && num_columns >= 0,
          "rows must be int64 (R + 1,) with int32 (E,)");
  const SparseRows rows{data<int64_t>(starts), data<int32_t>(columns), starts.numel() - 1};
  const int64_t entries = columns.numel();
  require(rows.starts[0] == 0 && rows.starts[rows.count] == entries &&
              std::is_sorted(rows.starts, rows.starts + rows.count + 1),
          "starts do not fit the entries");
  const int64_t last = std::min<int64_t>(num_columns - 1, INT32_MAX);
  uint32_t outside = 0;  // the highest bit; without a branch it is some entries at a time
  for (int64_t e = 0; e < entries; ++e)
    outside |= static_cast<uint32_t>(rows.columns[e]) | (static_cast<uint32_t>(last) - static_cast<uint32_t>(rows.columns[e]));
  bool ok = !(outside >> 31);
  if (order == Columns::in_any_order) {
    require(ok, "an entry is out of range");
    return rows;
  }
  uint32_t falls = 0;  // those between rows are taken off
  for (int64_t e = 1; e < entries; ++e) falls += rows.columns[e - 1] >= rows.columns[e];
  for (int64_t row = 1; row < rows.count; ++row)
    if (const int64_t e = rows.starts[row]; e > rows.starts[row - 1] && e < entries) falls -= rows.columns[e - 1] >= rows.columns[e];
  ok &= !falls;
  require(ok, "a row does not ascend or is out of range");
  return rows;
}

}  // namespace pc3d

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
  const auto in_range = [=](int32_t column) { return column >= 0 && column < num_columns; };
  bool ok = std::all_of(rows.columns, rows.columns + entries, in_range);
  if (order == Columns::in_any_order) {
    require(ok, "an entry is out of range");
    return rows;
  }
  for (int64_t row = 0; row < rows.count; ++row)
    for (int64_t e = rows.starts[row] + 1; e < rows.starts[row + 1]; ++e) ok &= rows.columns[e - 1] < rows.columns[e];
  require(ok, "a row does not ascend or is out of range");
  return rows;
}

}  // namespace pc3d

#include "row_dots.h"

#include "sparse_rows.h"
#include "tasks.h"

#include <algorithm>
#include <vector>

namespace pc3d {
namespace {

constexpr int64_t kPairs = 256;  // of a task

struct Rows : SparseRows {
  const double* values;
};

// A row with its zeros.
class Spread {
 public:
  Spread(const Rows& rows, int64_t num_columns) : rows_(rows), value_(num_columns) {}

  void hold(int64_t row) {
    if (row == row_) return;
    if (row_ >= 0)
      for (int64_t e = rows_.starts[row_]; e < rows_.starts[row_ + 1]; ++e) value_[rows_.columns[e]] = 0;
    for (int64_t e = rows_.starts[row]; e < rows_.starts[row + 1]; ++e) value_[rows_.columns[e]] = rows_.values[e];
    row_ = row;
  }

  double dot(int64_t row) const {
    double sum = 0;
    for (int64_t e = rows_.starts[row]; e < rows_.starts[row + 1]; ++e) sum += value_[rows_.columns[e]] * rows_.values[e];
    return sum;
  }

 private:
  Rows rows_;
  std::vector<double> value_;
  int64_t row_ = -1;
};

Rows rows_of(const Tensor& starts, const Tensor& columns, const Tensor& values, int64_t num_columns) {
  check(values.dim() == 1 && values.scalar_type() == ScalarType::Double && values.numel() == columns.numel(),
        "row_dots: rows must be int64 (R + 1,) and int32 (E,) with float64 (E,)");
  return {sparse_rows("row_dots", starts, columns, num_columns, Columns::ascending), data<double>(values)};
}

const int64_t* pairs_of(const Tensor& row, int64_t count) {
  check(row.dim() == 1 && row.scalar_type() == ScalarType::Long, "row_dots: pairs must be int64 (P,)");
  const int64_t* first = data<int64_t>(row);
  check(std::all_of(first, first + row.numel(), [=](int64_t r) { return r >= 0 && r < count; }),
        "row_dots: a pair is out of range");
  return first;
}

}  // namespace

Tensor row_dots_op(const Tensor& starts, const Tensor& columns, const Tensor& values, int64_t num_columns, const Tensor& first,
                   const Tensor& second) {
  using torch::stable::contiguous;
  const Tensor s = contiguous(starts), c = contiguous(columns), v = contiguous(values), a = contiguous(first),
               b = contiguous(second);
  const Rows rows = rows_of(s, c, v, num_columns);
  check(a.numel() == b.numel(), "row_dots: pairs must be int64 (P,)");
  const int64_t *one = pairs_of(a, rows.count), *other = pairs_of(b, rows.count), pairs = a.numel();
  Tensor out = empty(v, {pairs}, ScalarType::Double);
  double* dots = mutable_data<double>(out);
  run_tasks((pairs + kPairs - 1) / kPairs, [&] { return Spread(rows, num_columns); }, [&](Spread& row, int64_t task) {
    for (int64_t p = task * kPairs; p < std::min(pairs, (task + 1) * kPairs); ++p) {
      row.hold(one[p]);
      dots[p] = row.dot(other[p]);
    }
  });
  return out;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("row_dots", TORCH_BOX(&pc3d::row_dots_op)); }

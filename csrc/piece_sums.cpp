#include "piece_sums.h"

#include "sparse_rows.h"
#include "tasks.h"

#include <algorithm>
#include <vector>

namespace pc3d {
namespace {

using namespace piece_sums;

constexpr int64_t kRows = 64;  // of a task; one set is a task, as it may have most of the rows
constexpr int64_t kNone = INT64_MIN;

// Owner of each piece; every piece must have one.
std::vector<int32_t> owners_of(const int64_t* first, const int64_t* number, int64_t owners) {
  int64_t pieces = 0;
  for (int64_t s = 0; s < owners; ++s) {
    check(number[s] >= 0 && first[s] >= 0, "piece_sums: an owner has no pieces to speak of");
    pieces += number[s];
  }
  std::vector<int32_t> owner(pieces, -1);
  for (int64_t s = 0; s < owners; ++s) {
    check(first[s] + number[s] <= pieces || !number[s], "piece_sums: a piece is out of range");
    if (number[s]) std::fill_n(owner.begin() + first[s], number[s], static_cast<int32_t>(s));
  }
  check(std::find(owner.begin(), owner.end(), -1) == owner.end(), "piece_sums: a piece has no owner");
  return owner;
}

SparseRows rows_of(const Tensor& starts, const Tensor& columns, int64_t num_columns) {
  return sparse_rows("piece_sums", starts, columns, num_columns, Columns::in_any_order);
}

}  // namespace

Tensor piece_sums_op(const Tensor& set_starts, const Tensor& set_rows, const Tensor& starts, const Tensor& pieces,
                     const Tensor& counts, const Tensor& pair_starts, const Tensor& pair_owners, const Tensor& first,
                     const Tensor& number) {
  for (const Tensor* each : {&first, &number})
    check(each->scalar_type() == ScalarType::Long && each->is_contiguous() && each->numel() == first.numel(),
          "piece_sums: first and number must be int64 (S,)");
  const int64_t owners = first.numel(), *begin = data<int64_t>(first), *size = data<int64_t>(number);
  const std::vector<int32_t> owner = owners_of(begin, size, owners);
  const SparseRows rows = rows_of(starts, pieces, static_cast<int64_t>(owner.size()));
  const SparseRows sets = rows_of(set_starts, set_rows, rows.count), pairs = rows_of(pair_starts, pair_owners, owners);
  check(sets.count == pairs.count && counts.numel() == pieces.numel() && counts.scalar_type() == ScalarType::Int &&
            counts.is_contiguous(),
        "piece_sums: the sets or the counts do not fit");
  const int32_t* count = data<int32_t>(counts);

  std::vector<std::vector<Run>> runs((rows.count + kRows - 1) / kRows);  // of the rows of a task
  std::vector<int64_t> run_ends(rows.count);
  run_tasks(static_cast<int64_t>(runs.size()), [&](int64_t task) {
    const int64_t last = std::min(rows.count, (task + 1) * kRows);
    runs[task].reserve(rows.starts[last] - rows.starts[task * kRows]);
    for (int64_t row = task * kRows; row < last; ++row) {
      for (int64_t e = rows.starts[row], next; e < rows.starts[row + 1]; e = next) {
        const int32_t own = owner[rows.columns[e]];
        for (next = e + 1; next < rows.starts[row + 1] && owner[rows.columns[next]] == own; ++next) {}
        runs[task].push_back({own, e, next});
      }
      run_ends[row] = static_cast<int64_t>(runs[task].size());
    }
  });
  std::vector<int64_t> offset{0};
  for (int64_t q = 0; q < pair_owners.numel(); ++q) offset.push_back(offset.back() + size[pairs.columns[q]]);
  Tensor out = zeros(starts, {offset.back()}, ScalarType::Long);
  int64_t* sums = mutable_data<int64_t>(out);
  run_tasks(sets.count, [&] { return std::vector<int64_t>(owners, kNone); }, [&](std::vector<int64_t>& place, int64_t set) {
    if (pairs.starts[set] == pairs.starts[set + 1]) return;
    for (int64_t q = pairs.starts[set]; q < pairs.starts[set + 1]; ++q)
      place[pairs.columns[q]] = offset[q] - begin[pairs.columns[q]];
    for (int64_t r = sets.starts[set]; r < sets.starts[set + 1]; ++r) {
      const int64_t row = sets.columns[r];
      for (int64_t k = row % kRows ? run_ends[row - 1] : 0; k < run_ends[row]; ++k) {
        const Run& run = runs[row / kRows][k];
        if (place[run.owner] == kNone) continue;
        for (int64_t e = run.begin; e < run.end; ++e) sums[place[run.owner] + rows.columns[e]] += count[e];
      }
    }
    for (int64_t q = pairs.starts[set]; q < pairs.starts[set + 1]; ++q) place[pairs.columns[q]] = kNone;
  });
  return out;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("piece_sums", TORCH_BOX(&pc3d::piece_sums_op)); }

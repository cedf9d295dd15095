#include "piece_sums.h"

#include "sparse_rows.h"
#include "tasks.h"

#include <algorithm>
#include <functional>
#include <mutex>
#include <numeric>
#include <vector>

namespace pc3d {
namespace {

constexpr int64_t kTasks = 8;  // no more threads than that have sums of their own

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

// Entries by column: of column c the rows, ascending, and places, between starts[c] and starts[c + 1].
struct ByColumn {
  struct Entry {
    int32_t row;
    int64_t place;
  };

  ByColumn(const SparseRows& rows, int64_t num_columns) : starts(num_columns + 2), entries(rows.starts[rows.count]) {
    for (int64_t e = 0; e < rows.starts[rows.count]; ++e) ++starts[rows.columns[e] + 2];
    std::partial_sum(starts.begin(), starts.end(), starts.begin());
    for (int64_t row = 0; row < rows.count; ++row)
      for (int64_t e = rows.starts[row]; e < rows.starts[row + 1]; ++e)
        entries[starts[rows.columns[e] + 1]++] = {static_cast<int32_t>(row), e};
  }

  std::vector<int64_t> starts;
  std::vector<Entry> entries;
};

// The sums of a thread, which it adds to those of all when it is done: whole numbers, so any order will do.
struct Sums {
  Sums(int64_t sets, int64_t count, int64_t* all, std::mutex& mutex) : has_row(sets), own(count), all(all), mutex(mutex) {}
  Sums(const Sums&) = delete;
  ~Sums() {
    const std::lock_guard<std::mutex> lock(mutex);
    std::transform(own.begin(), own.end(), all, all, std::plus<>());
  }

  std::vector<char> has_row;  // each set, the row at hand
  std::vector<int64_t> own;
  int64_t* all;
  std::mutex& mutex;
};

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

  std::vector<int64_t> offset{0};  // of the sums of each pair
  for (int64_t q = 0; q < pair_owners.numel(); ++q) offset.push_back(offset.back() + size[pairs.columns[q]]);
  Tensor out = zeros(starts, {offset.back()}, ScalarType::Long);
  const ByColumn sets_of(sets, rows.count), pairs_of(pairs, owners);
  std::mutex mutex;
  const auto none = [&] { return Sums(sets.count, offset.back(), mutable_data<int64_t>(out), mutex); };
  run_tasks(std::min(kTasks, rows.count), none, [&](Sums& sums, int64_t task) {
    const int64_t tasks = std::min(kTasks, rows.count);
    for (int64_t row = task * rows.count / tasks; row < (task + 1) * rows.count / tasks; ++row) {
      const int64_t first_set = sets_of.starts[row], no_set = sets_of.starts[row + 1];
      if (first_set == no_set) continue;
      for (int64_t k = first_set; k < no_set; ++k) sums.has_row[sets_of.entries[k].row] = 1;
      for (int64_t e = rows.starts[row], next; e < rows.starts[row + 1]; e = next) {
        const int32_t own = owner[rows.columns[e]];
        const int64_t after = begin[own] + size[own];
        for (next = e + 1; next < rows.starts[row + 1] && rows.columns[next] < after; ++next) {}
        for (int64_t k = pairs_of.starts[own]; k < pairs_of.starts[own + 1]; ++k) {
          const auto [set, pair] = pairs_of.entries[k];
          if (!sums.has_row[set]) continue;
          int64_t* to = sums.own.data() + offset[pair] - begin[own];
          for (int64_t i = e; i < next; ++i) to[rows.columns[i]] += count[i];
        }
      }
      for (int64_t k = first_set; k < no_set; ++k) sums.has_row[sets_of.entries[k].row] = 0;
    }
  });
  return out;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("piece_sums", TORCH_BOX(&pc3d::piece_sums_op)); }

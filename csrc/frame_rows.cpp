#include "frame_rows.h"

#include "number_set.h"
#include "tasks.h"

#include <algorithm>
#include <atomic>
#include <vector>

namespace pc3d {
namespace {

// Of one frame.
struct Entries {
  int32_t column(int64_t e) const { return values[e * width]; }
  int32_t row(int64_t e) const { return width == 3 ? values[e * width + 1] - 1 : 0; }
  int32_t number(int64_t e) const { return values[e * width + width - 1]; }

  const int32_t* values;
  int64_t count, width;
};

// Where the entries of a frame are to go.
struct Rows {
  int64_t* ends;  // of each of its rows
  int64_t count, first;  // its rows, and the place of its first entry
  int32_t *columns, *counts;
};

// Where the entries of columns begin.
struct Worker {
  explicit Worker(int64_t columns) : met(columns), place(columns) {}
  NumberSet met;
  std::vector<int64_t> place;
};

// False where they do not fit.
bool enter(const Entries& entries, Worker& worker, const Rows& out) {
  std::vector<int64_t> next(out.count + 1);
  bool ascending = true;
  for (int64_t e = 0; e < entries.count; ++e) {
    const int32_t column = entries.column(e), row = entries.row(e);
    if (column < 0 || column >= static_cast<int64_t>(worker.place.size()) || row < 0 || row >= out.count) return false;
    ascending &= e == 0 || entries.column(e - 1) <= column;
    ++next[row + 1];
  }
  next[0] = out.first;
  for (int64_t row = 0; row < out.count; ++row) out.ends[row] = next[row + 1] += next[row];
  const auto put = [&](int64_t e) {
    const int64_t at = next[entries.row(e)]++;
    out.columns[at] = entries.column(e);
    out.counts[at] = entries.number(e);
  };
  if (ascending) {
    for (int64_t e = 0; e < entries.count; ++e) put(e);
    return true;
  }
  for (int64_t e = 0; e < entries.count; ++e) {
    if (e && entries.column(e) == entries.column(e - 1)) continue;
    worker.met.add(entries.column(e));
    worker.place[entries.column(e)] = e;
  }
  int64_t entered = 0;
  worker.met.take([&](int32_t column) {
    for (int64_t e = worker.place[column]; e < entries.count && entries.column(e) == column; ++e, ++entered) put(e);
  });
  return entered == entries.count;
}

std::vector<Entries> entries_of(const std::vector<Tensor>& tables, const int64_t* numbers, int64_t num_frames) {
  std::vector<Entries> out;
  for (const Tensor& table : tables) {
    check(table.dim() == 2 && (table.size(1) == 2 || table.size(1) == 3) && table.scalar_type() == ScalarType::Int &&
              table.is_contiguous(),
          "frame_rows: tables must be int32 (n, 2) or (n, 3)");
    const int32_t *next = data<int32_t>(table), *end = next + table.numel();
    while (next < end) {
      check(static_cast<int64_t>(out.size()) < num_frames, "frame_rows: tables have more entries than frames");
      out.push_back({next, numbers[out.size()], table.size(1)});
      check(out.back().count >= 0 && out.back().count <= (end - next) / table.size(1), "frame_rows: a frame is not in one table");
      next += out.back().count * table.size(1);
    }
  }
  for (size_t f = out.size(); f < static_cast<size_t>(num_frames); ++f) {
    check(numbers[f] == 0, "frame_rows: frames have more entries than tables");
    out.push_back({nullptr, 0, 2});
  }
  return out;
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> frame_rows_op(const std::vector<Tensor>& tables, const Tensor& numbers, const Tensor& rows,
                                                 int64_t num_columns) {
  const int64_t num_frames = rows.numel();
  for (const Tensor* each : {&numbers, &rows})
    check(each->scalar_type() == ScalarType::Long && each->is_contiguous() && each->numel() == num_frames,
          "frame_rows: numbers and rows must be int64 (F,)");
  const std::vector<Entries> frames = entries_of(tables, data<int64_t>(numbers), num_frames);
  std::vector<int64_t> row{0}, entry{0};  // where those of each frame start
  for (int64_t f = 0; f < num_frames; ++f) {
    row.push_back(row[f] + data<int64_t>(rows)[f]);
    entry.push_back(entry[f] + frames[f].count);
  }
  check(num_columns >= 0 && std::is_sorted(row.begin(), row.end()), "frame_rows: the number of rows or columns is below 0");
  Tensor starts = zeros(rows, {row.back() + 1}, ScalarType::Long);
  Tensor columns = empty(rows, {entry.back()}, ScalarType::Int), counts = empty(rows, {entry.back()}, ScalarType::Int);
  auto *column = mutable_data<int32_t>(columns), *count = mutable_data<int32_t>(counts);
  int64_t* ends = mutable_data<int64_t>(starts) + 1;
  std::atomic<bool> ok{true};
  run_tasks(num_frames, [&] { return Worker(num_columns); }, [&](Worker& worker, int64_t f) {
    if (!enter(frames[f], worker, {ends + row[f], row[f + 1] - row[f], entry[f], column, count})) ok = false;
  });
  check(ok, "frame_rows: an entry is out of range, or not beside those of its column");
  return {starts, columns, counts};
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("frame_rows", TORCH_BOX(&pc3d::frame_rows_op)); }

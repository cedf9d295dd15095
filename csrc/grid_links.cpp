#include "grid_links.h"

#include "grid_cells.h"
#include "number_set.h"

#include <tuple>

namespace pc3d {
namespace {

using namespace grid;

constexpr int64_t kCells = 64, kSegments = 64;  // of a task

// The segments in the cells that each cell touches: those of cell c are in part c / kCells, up to its end from the one before.
struct Near {
  std::vector<std::vector<NumberSet::Word>> parts;
  std::vector<int64_t> ends;

  const NumberSet::Word* begin(int64_t cell) const { return parts[cell / kCells].data() + (cell % kCells ? ends[cell - 1] : 0); }
  const NumberSet::Word* end(int64_t cell) const { return parts[cell / kCells].data() + ends[cell]; }
};

Near find_near_segments(const Cells& cells, int64_t num_segments) {
  const int64_t count = static_cast<int64_t>(cells.keys.size());
  Near out{std::vector<std::vector<NumberSet::Word>>((count + kCells - 1) / kCells), std::vector<int64_t>(count)};
  const auto none = [&] { return NumberSet(num_segments); };
  run_tasks(static_cast<int64_t>(out.parts.size()), none, [&](NumberSet& met, int64_t task) {
    for (int64_t cell = task * kCells; cell < std::min(count, (task + 1) * kCells); ++cell) {
      for (const Range& range : cells.near[cell])
        for (int64_t e = cells.starts[range.first]; e < cells.starts[range.last]; ++e) met.add(cells.segments[e]);
      met.take_words([&](NumberSet::Word word) { out.parts[task].push_back(word); });
      out.ends[cell] = static_cast<int64_t>(out.parts[task].size());
    }
  });
  return out;
}

}  // namespace

std::tuple<Tensor, Tensor> grid_links_op(const Tensor& xyz, const Tensor& segment, int64_t num_segments, double side) {
  const Cells cells = find_cells("grid_links", xyz, segment, num_segments, side);
  const Near near = find_near_segments(cells, num_segments);
  Tensor starts = zeros(segment, {num_segments + 1}, ScalarType::Long);

  std::vector<std::vector<int32_t>> linked((num_segments + kSegments - 1) / kSegments);
  int64_t* end = mutable_data<int64_t>(starts) + 1;
  const auto none = [&] { return NumberSet(num_segments); };
  run_tasks(static_cast<int64_t>(linked.size()), none, [&](NumberSet& met, int64_t task) {
    for (int64_t s = task * kSegments; s < std::min(num_segments, (task + 1) * kSegments); ++s) {
      for (int64_t k = cells.own_starts[s]; k < cells.own_starts[s + 1]; ++k)
        for (const NumberSet::Word *word = near.begin(cells.own[k]); word < near.end(cells.own[k]); ++word) met.add(*word);
      met.take([&](int32_t segment) { linked[task].push_back(segment); });
      end[s] = static_cast<int64_t>(linked[task].size());  // in the task
    }
  });
  int64_t before = 0;
  for (int64_t s = 0; s < num_segments; ++s) {
    end[s] += before;
    if (s % kSegments == kSegments - 1) before = end[s];
  }
  Tensor out = empty(segment, {num_segments ? end[num_segments - 1] : 0}, ScalarType::Int);
  int32_t* to = mutable_data<int32_t>(out);
  for (const auto& part : linked) to = std::copy(part.begin(), part.end(), to);
  return {starts, out};
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("grid_links", TORCH_BOX(&pc3d::grid_links_op)); }

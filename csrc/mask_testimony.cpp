#include "mask_testimony.h"

#include "tasks.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

namespace pc3d {
namespace {

using namespace mask_testimony;

constexpr int64_t kRows = 64;  // masks of a task
constexpr double kNever = std::numeric_limits<double>::infinity();

Columns by_column(const Rows& rows, int64_t num_columns) {
  Columns out{std::vector<int64_t>(num_columns + 1), std::vector<Entry>(rows.starts[rows.count])};
  for (int64_t e = 0; e < rows.starts[rows.count]; ++e) ++out.starts[rows.columns[e]];
  int64_t sum = 0;
  for (int64_t& start : out.starts) sum += std::exchange(start, sum);
  std::vector<int64_t> place(out.starts);
  for (int64_t row = 0; row < rows.count; ++row)
    for (int64_t e = rows.starts[row]; e < rows.starts[row + 1]; ++e)
      out.entries[place[rows.columns[e]]++] = {static_cast<int32_t>(row), rows.values[e]};
  return out;
}

// Sums over the rows of some columns; what is not touched is 0.
class Sums {
 public:
  explicit Sums(int64_t size) : sums_(size) {}

  void add(int32_t at, int32_t value) {
    if (!sums_[at]) touched_.push_back(at);
    sums_[at] += value;
  }
  int32_t operator[](int32_t at) const { return sums_[at]; }
  const std::vector<int32_t>& touched() const { return touched_; }
  void clear() {
    for (const int32_t at : touched_) sums_[at] = 0;
    touched_.clear();
  }

 private:
  std::vector<int32_t> sums_, touched_;  // points of a scan, of which there are less than 2^31
};

struct Shares {
  double observed, min_points, contained, undersegment;
};

// What the frames say of one mask.
struct Heard {
  std::vector<int32_t> contained;
  int64_t spoke = 0;
  bool undersegmented = false;
};

struct Scratch {
  Sums shared, seen, labelled;
  std::vector<double> enough;  // points of a frame's mask, for it to hold the mask in question whole; kNever: it says nothing
};

class Testimony {
 public:
  Testimony(const Rows& members, const Rows& counts, const Rows& visible, const int64_t* frame_of_mask, int64_t num_superpoints,
            const Shares& shares)
      : members_(members), counts_(counts), masks_(by_column(counts, num_superpoints)),
        frames_(by_column(visible, num_superpoints)), num_frames_(visible.count), frame_of_mask_(frame_of_mask),
        shares_(shares) {}

  Scratch scratch() const {
    return {Sums(counts_.count), Sums(num_frames_), Sums(num_frames_), std::vector<double>(num_frames_)};
  }

  void ask(int32_t mask, Scratch& s, Heard& out) const {
    const int64_t own = own_points(mask);
    for (int64_t e = members_.starts[mask]; e < members_.starts[mask + 1]; ++e) {
      add(masks_, members_.columns[e], s.shared);
      add(frames_, members_.columns[e], s.seen);
    }
    for (const int32_t other : s.shared.touched()) s.labelled.add(frame_of(other), s.shared[other]);
    for (const int32_t frame : s.seen.touched()) {
      const bool speaking = speaks(frame, own, s);
      out.spoke += speaking;
      s.enough[frame] = speaking ? shares_.contained * std::min(s.labelled[frame], s.seen[frame]) : kNever;
    }
    for (const int32_t other : s.shared.touched())
      if (s.seen[frame_of(other)] && s.shared[other] >= s.enough[frame_of(other)]) out.contained.push_back(other);
    std::sort(out.contained.begin(), out.contained.end());
    int64_t whole = 0;
    for (size_t i = 0; i < out.contained.size(); ++i)
      whole += !i || frame_of(out.contained[i]) != frame_of(out.contained[i - 1]);
    out.undersegmented = !out.spoke || static_cast<double>(out.spoke - whole) > shares_.undersegment * out.spoke;
    s.shared.clear(), s.seen.clear(), s.labelled.clear();
  }

 private:
  static void add(const Columns& from, int32_t column, Sums& to) {
    for (int64_t e = from.starts[column]; e < from.starts[column + 1]; ++e) to.add(from.entries[e].row, from.entries[e].value);
  }

  int32_t frame_of(int32_t mask) const { return static_cast<int32_t>(frame_of_mask_[mask]); }

  int64_t own_points(int32_t mask) const {  // both rows ascend
    int64_t own = 0, e = counts_.starts[mask];
    for (int64_t i = members_.starts[mask]; i < members_.starts[mask + 1]; ++i) {
      while (e < counts_.starts[mask + 1] && counts_.columns[e] < members_.columns[i]) ++e;
      if (e < counts_.starts[mask + 1] && counts_.columns[e] == members_.columns[i]) own += counts_.values[e];
    }
    return own;
  }

  bool speaks(int32_t frame, int64_t own, const Scratch& s) const {
    const double seen = static_cast<double>(s.seen[frame]);
    return own >= shares_.min_points && seen > 0 && seen >= shares_.observed * own && s.labelled[frame] >= 0.5 * seen;
  }

  Rows members_, counts_;
  Columns masks_, frames_;
  int64_t num_frames_;
  const int64_t* frame_of_mask_;
  Shares shares_;
};

Rows rows_of(const Tensor& starts, const Tensor& columns, const Tensor* values, int64_t num_columns) {
  check(starts.dim() == 1 && starts.numel() > 0 && starts.scalar_type() == ScalarType::Long && starts.is_contiguous(),
        "mask_testimony: starts must be int64 (rows + 1,)");
  check(columns.dim() == 1 && columns.scalar_type() == ScalarType::Int && columns.is_contiguous() &&
            (!values || (values->scalar_type() == ScalarType::Int && values->is_contiguous() &&
                         values->numel() == columns.numel())),
        "mask_testimony: entries must be int32 (E,)");
  const Rows rows{data<int64_t>(starts), data<int32_t>(columns), values ? data<int32_t>(*values) : nullptr, starts.numel() - 1};
  check(rows.starts[0] == 0 && rows.starts[rows.count] == columns.numel() &&
            std::is_sorted(rows.starts, rows.starts + rows.count + 1),
        "mask_testimony: starts do not fit the entries");
  check(std::all_of(rows.columns, rows.columns + columns.numel(), [&](int32_t c) { return c >= 0 && c < num_columns; }),
        "mask_testimony: a column is out of range");
  return rows;
}

// The masks that hold each mask, without the undersegmented ones.
std::tuple<Tensor, Tensor, Tensor, Tensor> gather(const Tensor& like, const std::vector<Heard>& heard) {
  const int64_t count = static_cast<int64_t>(heard.size());
  Tensor starts = empty(like, {count + 1}, ScalarType::Long), spoke = empty(like, {count}, ScalarType::Long);
  Tensor undersegmented = empty(like, {count}, ScalarType::Bool);
  std::vector<int32_t> kept;
  mutable_data<int64_t>(starts)[0] = 0;
  for (int64_t m = 0; m < count; ++m) {
    if (!heard[m].undersegmented)
      std::copy_if(heard[m].contained.begin(), heard[m].contained.end(), std::back_inserter(kept),
                   [&](int32_t other) { return !heard[other].undersegmented; });
    mutable_data<int64_t>(starts)[m + 1] = static_cast<int64_t>(kept.size());
    mutable_data<int64_t>(spoke)[m] = heard[m].spoke;
    mutable_data<bool>(undersegmented)[m] = heard[m].undersegmented;
  }
  Tensor contained = empty(like, {static_cast<int64_t>(kept.size())}, ScalarType::Int);
  std::copy(kept.begin(), kept.end(), mutable_data<int32_t>(contained));
  return {starts, contained, spoke, undersegmented};
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor> mask_testimony_op(
    const Tensor& member_starts, const Tensor& members, const Tensor& starts, const Tensor& superpoints, const Tensor& counts,
    const Tensor& visible_starts, const Tensor& visible_superpoints, const Tensor& visible, const Tensor& frame_of_mask,
    int64_t num_superpoints, double observed_share, double min_points, double contained_share, double undersegment_share) {
  const Rows held = rows_of(member_starts, members, nullptr, num_superpoints);
  const Rows points = rows_of(starts, superpoints, &counts, num_superpoints);
  const Rows seen = rows_of(visible_starts, visible_superpoints, &visible, num_superpoints);
  check(held.count == points.count && frame_of_mask.numel() == points.count && frame_of_mask.is_contiguous() &&
            frame_of_mask.scalar_type() == ScalarType::Long,
        "mask_testimony: every mask needs members and a frame");
  const int64_t* frames = data<int64_t>(frame_of_mask);
  check(std::is_sorted(frames, frames + points.count) &&
            (!points.count || (frames[0] >= 0 && frames[points.count - 1] < seen.count)),
        "mask_testimony: frames of masks must ascend, within those that see");
  const Testimony testimony(held, points, seen, frames, num_superpoints,
                            {observed_share, min_points, contained_share, undersegment_share});
  std::vector<Heard> heard(points.count);
  run_tasks((points.count + kRows - 1) / kRows, [&] { return testimony.scratch(); }, [&](Scratch& scratch, int64_t task) {
    for (int64_t m = task * kRows; m < std::min((task + 1) * kRows, points.count); ++m)
      testimony.ask(static_cast<int32_t>(m), scratch, heard[m]);
  });
  return gather(starts, heard);
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("mask_testimony", TORCH_BOX(&pc3d::mask_testimony_op)); }

#include "mask_testimony.h"

#include "tasks.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>
#include <utility>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace pc3d {
namespace {

using namespace mask_testimony;

constexpr int64_t kRows = 64;  // masks of a task
constexpr int64_t kLanes = 16;  // places for masks of a frame come in so many

std::vector<int64_t> column_starts(const Rows& rows, int64_t num_columns) {
  std::vector<int64_t> starts(num_columns + 1);
  for (int64_t e = 0; e < rows.starts[rows.count]; ++e) ++starts[rows.columns[e]];
  int64_t sum = 0;
  for (int64_t& start : starts) sum += std::exchange(start, sum);
  return starts;
}

// Over some rows.
int64_t points_of(const Rows& rows, int64_t first, int64_t last) {
  return std::accumulate(rows.values + rows.starts[first], rows.values + rows.starts[last], int64_t{0});
}

struct Shares {
  double observed, min_points, contained, undersegment;
};

// Room for the entries of each column.
template <class Entry>
struct ByColumn {
  ByColumn(const Rows& rows, int64_t num_columns) : starts(column_starts(rows, num_columns)), entries(starts.back()) {}

  std::vector<int64_t> starts;
  std::vector<Entry> entries;
};

// What the frames say of the masks of a task.
struct Heard {
  std::vector<int32_t> contained;  // of one mask after another
  std::vector<int64_t> ends, spoke;
  std::vector<char> undersegmented;
};

// Members of a mask, and over them: points that each frame sees and has labelled, and points of each mask, at its place.
struct Sums {
  std::vector<int32_t> members;
  std::vector<uint64_t> frames;
  std::vector<int32_t> masks;
  std::vector<Speaker> speakers;
  std::vector<int32_t> holding;
};

// Which of kLanes masks have ``enough`` points, more than 0: bits.
uint32_t at_least(const int32_t* points, int32_t enough) {
#if defined(__SSE2__)
  const auto more = [=](int k) {
    return _mm_cmpgt_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(points) + k), _mm_set1_epi32(enough - 1));
  };
  return _mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(more(0), more(1)), _mm_packs_epi32(more(2), more(3))));
#else
  uint32_t bits = 0;
  for (int k = 0; k < kLanes; ++k) bits |= static_cast<uint32_t>(points[k] >= enough) << k;
  return bits;
#endif
}

class Testimony {
 public:
  Testimony(const Rows& counts, const bool* held, const Rows& visible, const int64_t* frame_of_mask, int64_t num_superpoints,
            const Shares& shares)
      : counts_(counts), held_(held), first_(visible.count + 1), place_(visible.count + 1), shares_(shares),
        sights_(visible, num_superpoints), shown_(counts, num_superpoints) {
    for (int64_t mask = 0; mask < counts.count; ++mask) ++first_[frame_of_mask[mask] + 1];
    std::partial_sum(first_.begin(), first_.end(), first_.begin());
    for (int64_t f = 0; f < visible.count; ++f)
      place_[f + 1] = place_[f] + (first_[f + 1] - first_[f] + kLanes - 1) / kLanes * kLanes;
    auto sight = sights_.starts, shown = shown_.starts;  // where the next of each superpoint goes
    for (int64_t f = 0; f < visible.count; ++f) {
      check(points_of(visible, f, f + 1) <= INT32_MAX && points_of(counts, first_[f], first_[f + 1]) <= INT32_MAX,
            "mask_testimony: more points in a frame than 31 bits can count");
      for (int64_t e = visible.starts[f]; e < visible.starts[f + 1]; ++e)
        sights_.entries[sight[visible.columns[e]]++] = {static_cast<uint64_t>(visible.values[e]), static_cast<int32_t>(f)};
      for (int64_t m = first_[f]; m < first_[f + 1]; ++m)
        for (int64_t e = counts.starts[m]; e < counts.starts[m + 1]; ++e) {
          const int32_t s = counts.columns[e];
          check(sight[s] > sights_.starts[s] && sights_.entries[sight[s] - 1].frame == f,
                "mask_testimony: a mask has points where its frame sees none");
          sights_.entries[sight[s] - 1].points += static_cast<uint64_t>(counts.values[e]) << 32;
          shown_.entries[shown[s]++] = {static_cast<int32_t>(place_[f] + m - first_[f]), counts.values[e]};
        }
    }
  }

  Sums sums() const {
    return {std::vector<int32_t>(shown_.starts.size()), std::vector<uint64_t>(num_frames()),
            std::vector<int32_t>(place_.back()), std::vector<Speaker>(num_frames() + 1),
            std::vector<int32_t>(counts_.count + 1)};
  }

  // Adds to ``out``; sums are 0 before and after.
  void ask(int64_t mask, Sums& sums, Heard& out) const {
    const auto [count, own] = find_members(mask, sums.members.data());
    int64_t spoke = 0, whole = 0;
    if (own >= shares_.min_points) {
      add_members(sums.members.data(), count, sums.frames.data(), sums.masks.data());
      spoke = find_speakers(own, sums.frames.data(), sums.speakers.data());
      int32_t* end = sums.holding.data();
      for (int64_t k = 0; k < spoke; ++k) {
        const int32_t* before = end;
        end = add_holding(sums.speakers[k], sums.masks.data(), end);
        whole += end != before;
      }
      out.contained.insert(out.contained.end(), sums.holding.data(), end);
      std::fill(sums.frames.begin(), sums.frames.end(), 0);
      std::fill(sums.masks.begin(), sums.masks.end(), 0);
    }
    out.ends.push_back(static_cast<int64_t>(out.contained.size()));
    out.spoke.push_back(spoke);
    out.undersegmented.push_back(!spoke || static_cast<double>(spoke - whole) > shares_.undersegment * spoke);
  }

 private:
  int64_t num_frames() const { return static_cast<int64_t>(first_.size()) - 1; }

  // How many members a mask has, and its points in them.
  std::pair<int64_t, int64_t> find_members(int64_t mask, int32_t* members) const {
    int64_t count = 0, own = 0;
    for (int64_t e = counts_.starts[mask]; e < counts_.starts[mask + 1]; ++e) {
      members[count] = counts_.columns[e];
      count += held_[e];
      own += held_[e] * int64_t{counts_.values[e]};
    }
    return {count, own};
  }

  void add_members(const int32_t* members, int64_t count, uint64_t* frames, int32_t* masks) const {
    for (int64_t i = 0; i < count; ++i) {
      const int32_t s = members[i];
      const Sight* no_sight = sights_.entries.data() + sights_.starts[s + 1];
#pragma GCC unroll 4
      for (const Sight* sight = sights_.entries.data() + sights_.starts[s]; sight < no_sight; ++sight)
        frames[sight->frame] += sight->points;
      const Shown* not_shown = shown_.entries.data() + shown_.starts[s + 1];
#pragma GCC unroll 4
      for (const Shown* shown = shown_.entries.data() + shown_.starts[s]; shown < not_shown; ++shown)
        masks[shown->place] += shown->points;
    }
  }

  // Without a branch: which frames speak is hard to foresee.
  int64_t find_speakers(int64_t own, const uint64_t* sums, Speaker* speakers) const {
    const int64_t least = static_cast<int64_t>(std::ceil(std::min(std::max(1.0, shares_.observed * own), 1e18)));
    const int64_t frames = num_frames();
    int64_t count = 0;
    for (int64_t frame = 0; frame < frames; ++frame) {
      const int64_t seen = static_cast<uint32_t>(sums[frame]), labelled = sums[frame] >> 32;
      speakers[count] = {static_cast<int32_t>(frame), static_cast<int32_t>(std::min(labelled, seen))};
      count += (seen >= least) & (2 * labelled >= seen);
    }
    for (int64_t k = 0; k < count; ++k) {
      const double share = std::min<double>(INT32_MAX, shares_.contained * speakers[k].enough);
      const int32_t enough = static_cast<int32_t>(share);
      speakers[k].enough = std::max(1, enough + (enough < share));
    }
    return count;
  }

  // Writes the masks of a frame that hold the mask whole: mostly one, or none.
  int32_t* add_holding(const Speaker& speaker, const int32_t* points, int32_t* to) const {
    int64_t mask = first_[speaker.frame];
    for (int64_t at = place_[speaker.frame]; at < place_[speaker.frame + 1]; at += kLanes, mask += kLanes) {
      uint32_t bits = at_least(points + at, speaker.enough);
      *to = static_cast<int32_t>(mask + __builtin_ctz(bits | 1u << kLanes));
      to += bits != 0;
      for (bits &= bits - 1; bits; bits &= bits - 1) *to++ = static_cast<int32_t>(mask + __builtin_ctz(bits));
    }
    return to;
  }

  Rows counts_;
  const bool* held_;  // which entries of a mask are its members
  std::vector<int64_t> first_, place_;  // of the masks of each frame: the number of the first, and its place in sums
  Shares shares_;
  ByColumn<Sight> sights_;
  ByColumn<Shown> shown_;
};

Rows rows_of(const Tensor& starts, const Tensor& columns, const Tensor& values, int64_t num_columns) {
  check(values.scalar_type() == ScalarType::Int && values.is_contiguous() && values.numel() == columns.numel(),
        "mask_testimony: points must be int32 (E,)");
  const int32_t* points = data<int32_t>(values);
  check(std::all_of(points, points + values.numel(), [](int32_t some) { return some >= 0; }),
        "mask_testimony: points are below 0");
  return {sparse_rows("mask_testimony", starts, columns, num_columns, Columns::in_any_order), points};
}

// Leaves of the holders of a task's masks those that are not bad, of masks that are not, and counts their frames.
void keep_good(Heard& part, int64_t mask, const bool* bad, const int64_t* frame_of_mask, int64_t* whole) {
  int64_t from = 0, size = 0;
  for (int64_t& last : part.ends) {
    int64_t frames = 0, before = -1;
    for (const bool asks = !bad[mask]; from < last; ++from) {
      const int32_t holder = part.contained[size] = part.contained[from];
      const bool holds = asks & !bad[holder];
      frames += holds & (frame_of_mask[holder] != before);
      before = holds ? frame_of_mask[holder] : before;
      size += holds;
    }
    last = size;
    whole[mask++] = frames;
  }
  part.contained.resize(size);
}

// The masks that hold each mask, without the undersegmented ones, and of how many frames they are.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> gather(const Tensor& frame_of_mask, std::vector<Heard> heard) {
  const int64_t count = frame_of_mask.numel();
  Tensor starts = empty(frame_of_mask, {count + 1}, ScalarType::Long), spoke = empty(frame_of_mask, {count}, ScalarType::Long);
  Tensor whole = empty(frame_of_mask, {count}, ScalarType::Long);
  Tensor undersegmented = empty(frame_of_mask, {count}, ScalarType::Bool);
  int64_t* number = mutable_data<int64_t>(spoke);
  bool* bad = mutable_data<bool>(undersegmented);
  for (const Heard& part : heard) {
    number = std::copy(part.spoke.begin(), part.spoke.end(), number);
    bad = std::copy(part.undersegmented.begin(), part.undersegmented.end(), bad);
  }
  bad -= count;
  run_tasks(static_cast<int64_t>(heard.size()), [&](int64_t task) {
    keep_good(heard[task], task * kRows, bad, data<int64_t>(frame_of_mask), mutable_data<int64_t>(whole));
  });
  int64_t *end = mutable_data<int64_t>(starts), before = *end = 0;
  for (const Heard& part : heard) {
    for (const int64_t last : part.ends) *++end = before + last;
    before = *end;
  }
  Tensor contained = empty(frame_of_mask, {before}, ScalarType::Int);
  int32_t* to = mutable_data<int32_t>(contained);
  for (const Heard& part : heard) to = std::copy(part.contained.begin(), part.contained.end(), to);
  return {starts, contained, spoke, whole, undersegmented};
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> mask_testimony_op(
    const Tensor& starts, const Tensor& superpoints, const Tensor& counts, const Tensor& held, const Tensor& visible_starts,
    const Tensor& visible_superpoints, const Tensor& visible, const Tensor& frame_of_mask, int64_t num_superpoints,
    double observed_share, double min_points, double contained_share, double undersegment_share) {
  const Rows points = rows_of(starts, superpoints, counts, num_superpoints);
  const Rows seen = rows_of(visible_starts, visible_superpoints, visible, num_superpoints);
  check(held.scalar_type() == ScalarType::Bool && held.is_contiguous() && held.numel() == counts.numel(),
        "mask_testimony: held must be bool (E,)");
  check(frame_of_mask.numel() == points.count && frame_of_mask.is_contiguous() &&
            frame_of_mask.scalar_type() == ScalarType::Long,
        "mask_testimony: every mask needs a frame");
  const int64_t* frames = data<int64_t>(frame_of_mask);
  check(std::is_sorted(frames, frames + points.count) &&
            (!points.count || (frames[0] >= 0 && frames[points.count - 1] < seen.count)),
        "mask_testimony: frames of masks must ascend, within those that see");
  const Testimony testimony(points, data<bool>(held), seen, frames, num_superpoints,
                            {observed_share, min_points, contained_share, undersegment_share});
  std::vector<Heard> heard((points.count + kRows - 1) / kRows);
  run_tasks(static_cast<int64_t>(heard.size()), [&] { return testimony.sums(); }, [&](Sums& sums, int64_t task) {
    for (int64_t mask = task * kRows; mask < std::min((task + 1) * kRows, points.count); ++mask)
      testimony.ask(mask, sums, heard[task]);
  });
  return gather(frame_of_mask, std::move(heard));
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("mask_testimony", TORCH_BOX(&pc3d::mask_testimony_op)); }

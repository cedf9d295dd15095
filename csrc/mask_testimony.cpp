#include "mask_testimony.h"

#include "tasks.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
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
  ByColumn() = default;
  ByColumn(const Rows& rows, int64_t num_columns) : starts(column_starts(rows, num_columns)), entries(starts.back()) {}

  std::vector<int64_t> starts;
  std::vector<Entry> entries;
};

// Members of a mask, ascending, and its points in them.
struct Members {
  const int32_t *first, *last;
  int64_t points;
};

// What the frames say of a mask, if it has enough points to ask.
struct Heard {
  int64_t spoke = 0, whole = 0;  // frames; whole: those that hold it
  bool undersegmented = true;
  int64_t first = 0, last = 0;   // of the masks that hold it, among those that its task found
};

// Over the members of a mask, the last that was asked about: points that each frame sees and has labelled, and points of each
// mask, at its place.
struct Sums {
  int32_t mask = -1;
  std::vector<uint64_t> frames;
  std::vector<int32_t> masks, added, removed;
  std::vector<Speaker> speakers;
  std::vector<int32_t> holding;
};

// Which of kLanes masks have ``enough`` points, more than 0: bits.
uint32_t at_least(const int32_t* points, int32_t enough) {
#if defined(__x86_64__)
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

constexpr int64_t kFrames = 8;  // sums of frames come in so many, 0 after the last

// What frames that see at least so many points, and have labelled half of them, need to hold a mask whole. Without a branch:
// which frames speak is hard to foresee.
int64_t any_speakers(const uint64_t* sums, int64_t frames, int64_t least, double contained, Speaker* speakers) {
  int64_t count = 0;
  for (int64_t frame = 0; frame < frames; ++frame) {
    const int64_t seen = static_cast<uint32_t>(sums[frame]), labelled = sums[frame] >> 32;
    speakers[count] = {static_cast<int32_t>(frame), static_cast<int32_t>(std::min(labelled, seen))};
    count += (seen >= least) & (2 * labelled >= seen);
  }
  for (int64_t k = 0; k < count; ++k) {
    const double share = std::min<double>(INT32_MAX, contained * speakers[k].enough);
    const int32_t enough = static_cast<int32_t>(share);
    speakers[k].enough = std::max(1, enough + (enough < share));
  }
  return count;
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512dq,popcnt"))) int64_t avx512_speakers(const uint64_t* sums, int64_t frames, int64_t least,
                                                                           double contained, Speaker* speakers) {
  Speaker* end = speakers;
  __m512i number = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
  for (int64_t frame = 0; frame < frames; frame += kFrames) {
    const __m512i sum = _mm512_loadu_si512(sums + frame), labelled = _mm512_srli_epi64(sum, 32);
    const __m512i seen = _mm512_and_si512(sum, _mm512_set1_epi64(UINT32_MAX));
    const __mmask8 speak = _mm512_cmpge_epi64_mask(seen, _mm512_set1_epi64(least)) &
                           _mm512_cmpge_epi64_mask(_mm512_add_epi64(labelled, labelled), seen);
    const __m512d share = _mm512_mul_pd(_mm512_set1_pd(contained), _mm512_cvtepi64_pd(_mm512_min_epi64(labelled, seen)));
    const __m512d whole = _mm512_roundscale_pd(_mm512_min_pd(share, _mm512_set1_pd(INT32_MAX)), _MM_FROUND_TO_POS_INF);
    const __m512i enough = _mm512_cvttpd_epi64(_mm512_max_pd(whole, _mm512_set1_pd(1)));
    _mm512_storeu_si512(end, _mm512_maskz_compress_epi64(speak, _mm512_or_si512(_mm512_slli_epi64(enough, 32), number)));
    end += __builtin_popcount(speak);
    number = _mm512_add_epi64(number, _mm512_set1_epi64(kFrames));
  }
  return end - speakers;
}
#endif

class Testimony {
 public:
  Testimony(const Rows& counts, const bool* held, const Rows& visible, const int64_t* frame_of_mask, int64_t num_superpoints,
            const Shares& shares)
      : first_(visible.count + 1), place_(visible.count + 1), shares_(shares) {
    for (int64_t mask = 0; mask < counts.count; ++mask) ++first_[frame_of_mask[mask] + 1];
    std::partial_sum(first_.begin(), first_.end(), first_.begin());
    for (int64_t f = 0; f < visible.count; ++f) {
      place_[f + 1] = place_[f] + (first_[f + 1] - first_[f] + kLanes - 1) / kLanes * kLanes;
      check(points_of(visible, f, f + 1) <= INT32_MAX && points_of(counts, first_[f], first_[f + 1]) <= INT32_MAX,
            "mask_testimony: more points in a frame than 31 bits can count");
    }
    bool seen = true;
    run_tasks(2, [&](int64_t task) {
      if (task) find_members(counts, held), find_order(), find_shown(counts, num_superpoints);
      else seen = find_sights(counts, visible, num_superpoints);
    });
    check(seen, "mask_testimony: a mask has points where its frame sees none");
  }

  Sums sums() const {
    Sums sums;
    sums.frames.resize(num_frames() + kFrames), sums.speakers.resize(num_frames() + kFrames);
    sums.masks.resize(place_.back()), sums.holding.resize(members_.size() + 1);
    sums.added.resize(shown_.starts.size()), sums.removed.resize(shown_.starts.size());
    return sums;
  }

  // Masks with enough points, by their first and last members: those that follow each other mostly share many.
  const std::vector<int32_t>& order() const { return order_; }

  // Adds the masks that hold it to ``found``.
  Heard ask(int32_t mask, Sums& sums, std::vector<int32_t>& found) const {
    sum_members(mask, sums);
    Heard heard;
    heard.first = static_cast<int64_t>(found.size());
    heard.spoke = find_speakers(members_[mask].points, sums.frames.data(), sums.speakers.data());
    int32_t* end = sums.holding.data();
    for (int64_t k = 0; k < heard.spoke; ++k) {
      const int32_t* before = end;
      end = add_holding(sums.speakers[k], sums.masks.data(), end);
      heard.whole += end != before;
    }
    found.insert(found.end(), sums.holding.data(), end);
    heard.last = static_cast<int64_t>(found.size());
    heard.undersegmented = !heard.spoke || static_cast<double>(heard.spoke - heard.whole) > shares_.undersegment * heard.spoke;
    return heard;
  }

 private:
  int64_t num_frames() const { return static_cast<int64_t>(first_.size()) - 1; }

  void find_members(const Rows& counts, const bool* held) {
    held_superpoints_.resize(counts.starts[counts.count] + 1);
    int32_t* end = held_superpoints_.data();
    for (int64_t mask = 0; mask < counts.count; ++mask) {
      Members one{end, end, 0};
      for (int64_t e = counts.starts[mask]; e < counts.starts[mask + 1]; ++e) {
        *end = counts.columns[e];
        end += held[e];
        one.points += held[e] * int64_t{counts.values[e]};
      }
      one.last = end;
      members_.push_back(one);
    }
  }

  void find_order() {
    std::vector<std::pair<uint64_t, int32_t>> keys;
    for (size_t mask = 0; mask < members_.size(); ++mask) {
      const Members& one = members_[mask];
      if (one.points < shares_.min_points) continue;
      const uint64_t key = one.first == one.last ? 0 : static_cast<uint64_t>(one.first[0]) << 32 | one.last[-1];
      keys.push_back({key, static_cast<int32_t>(mask)});
    }
    std::sort(keys.begin(), keys.end());
    for (const auto& [key, mask] : keys) order_.push_back(mask);
  }

  void find_shown(const Rows& counts, int64_t num_superpoints) {
    shown_ = {counts, num_superpoints};
    auto next = shown_.starts;  // where the next of each superpoint goes
    for (int64_t f = 0; f < num_frames(); ++f)
      for (int64_t m = first_[f]; m < first_[f + 1]; ++m)
        for (int64_t e = counts.starts[m]; e < counts.starts[m + 1]; ++e)
          shown_.entries[next[counts.columns[e]]++] = {static_cast<int32_t>(place_[f] + m - first_[f]), counts.values[e]};
  }

  // Whether a frame sees what its masks have.
  bool find_sights(const Rows& counts, const Rows& visible, int64_t num_superpoints) {
    sights_ = {visible, num_superpoints};
    auto next = sights_.starts;  // where the next of each superpoint goes
    Sight *sights = sights_.entries.data(), elsewhere{0, -1};
    bool seen = true;
    for (int64_t f = 0; f < num_frames(); ++f) {
      for (int64_t e = visible.starts[f]; e < visible.starts[f + 1]; ++e)
        sights[next[visible.columns[e]]++] = {static_cast<uint64_t>(visible.values[e]), static_cast<int32_t>(f)};
      for (int64_t e = counts.starts[first_[f]]; e < counts.starts[first_[f + 1]]; ++e) {
        const int32_t s = counts.columns[e];
        Sight& last = next[s] > sights_.starts[s] ? sights[next[s] - 1] : elsewhere;
        seen &= last.frame == f;
        last.points += static_cast<uint64_t>(counts.values[e]) << 32;
      }
    }
    return seen;
  }

  // Sums over the members of a mask, by what it has other than the one before or, where that would be more, anew.
  void sum_members(int32_t mask, Sums& sums) const {
    const Members own = members_[mask], before = sums.mask < 0 ? Members{nullptr, nullptr, 0} : members_[sums.mask];
    sums.mask = mask;
    int32_t *added = sums.added.data(), *removed = sums.removed.data();
    added = std::set_difference(own.first, own.last, before.first, before.last, added);
    removed = std::set_difference(before.first, before.last, own.first, own.last, removed);
    const int32_t *first = sums.added.data(), *first_removed = sums.removed.data();
    if (entries(first, added) + entries(first_removed, removed) > entries(own.first, own.last)) {
      std::fill(sums.frames.begin(), sums.frames.end(), 0);
      std::fill(sums.masks.begin(), sums.masks.end(), 0);
      return add<1>(own.first, own.last, sums);
    }
    add<-1>(first_removed, removed, sums);
    add<1>(first, added, sums);
  }

  // That superpoints have.
  int64_t entries(const int32_t* first, const int32_t* last) const {
    return std::accumulate(first, last, int64_t{0}, [&](int64_t sum, int32_t s) {
      return sum + sights_.starts[s + 1] - sights_.starts[s] + shown_.starts[s + 1] - shown_.starts[s];
    });
  }

  // Adds superpoints to the sums, or takes them out.
  template <int kSign>
  void add(const int32_t* first, const int32_t* last, Sums& sums) const {
    uint64_t* frames = sums.frames.data();
    int32_t* masks = sums.masks.data();
    for (; first < last; ++first) {
      const Sight* no_sight = sights_.entries.data() + sights_.starts[*first + 1];
#pragma GCC unroll 4
      for (const Sight* sight = sights_.entries.data() + sights_.starts[*first]; sight < no_sight; ++sight)
        frames[sight->frame] += kSign * sight->points;
      const Shown* not_shown = shown_.entries.data() + shown_.starts[*first + 1];
#pragma GCC unroll 4
      for (const Shown* shown = shown_.entries.data() + shown_.starts[*first]; shown < not_shown; ++shown)
        masks[shown->place] += kSign * shown->points;
    }
  }

  int64_t find_speakers(int64_t own, const uint64_t* sums, Speaker* speakers) const {
    const int64_t least = static_cast<int64_t>(std::ceil(std::min(std::max(1.0, shares_.observed * own), 1e18)));
#if defined(__x86_64__)
    if (isa_ >= Isa::avx512) return avx512_speakers(sums, num_frames(), least, shares_.contained, speakers);
#endif
    return any_speakers(sums, num_frames(), least, shares_.contained, speakers);
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

  Isa isa_ = best_isa();                // reads the environment: once
  std::vector<int64_t> first_, place_;  // of the masks of each frame: the number of the first, and its place in sums
  Shares shares_;
  ByColumn<Sight> sights_;
  ByColumn<Shown> shown_;
  std::vector<int32_t> held_superpoints_;  // one mask after another
  std::vector<Members> members_;           // of each mask
  std::vector<int32_t> order_;
};

Rows rows_of(const Tensor& starts, const Tensor& columns, const Tensor& values, int64_t num_columns) {
  check(values.scalar_type() == ScalarType::Int && values.is_contiguous() && values.numel() == columns.numel(),
        "mask_testimony: points must be int32 (E,)");
  const int32_t* points = data<int32_t>(values);
  check(std::all_of(points, points + values.numel(), [](int32_t some) { return some >= 0; }),
        "mask_testimony: points are below 0");
  return {sparse_rows("mask_testimony", starts, columns, num_columns, Columns::in_any_order), points};
}

// Leaves of what a task found those that are not undersegmented, of masks that are not, and counts their frames; those that are
// undersegmented have frame -1.
void keep_good(std::vector<int32_t>& found, const int32_t* first, const int32_t* last, std::vector<Heard>& heard,
               const int32_t* frames) {
  int64_t size = 0;
  for (; first < last; ++first) {
    Heard& one = heard[*first];
    const int64_t begin = size, end = one.undersegmented ? one.first : one.last;
    int64_t whole = 0;
    int32_t before = -1;
    for (int64_t k = one.first; k < end; ++k) {
      const int32_t holder = found[size] = found[k], frame = frames[holder];
      size += frame >= 0;
      whole += frame > before;  // they ascend
      before = std::max(before, frame);
    }
    one.first = begin, one.last = size, one.whole = whole;
  }
}

// The masks that hold each mask, without the undersegmented ones, and of how many frames they are; each task found those of
// kRows masks of an order.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> gather(const Tensor& frame_of_mask, std::vector<Heard> heard,
                                                          const std::vector<int32_t>& order,
                                                          std::vector<std::vector<int32_t>> found) {
  const int64_t count = frame_of_mask.numel(), asked = static_cast<int64_t>(order.size());
  Tensor starts = empty(frame_of_mask, {count + 1}, ScalarType::Long), spoke = empty(frame_of_mask, {count}, ScalarType::Long);
  Tensor whole = empty(frame_of_mask, {count}, ScalarType::Long);
  Tensor undersegmented = empty(frame_of_mask, {count}, ScalarType::Bool);
  bool* bad = mutable_data<bool>(undersegmented);
  std::vector<int32_t> frames(count);
  for (int64_t mask = 0; mask < count; ++mask) {
    bad[mask] = heard[mask].undersegmented;
    frames[mask] = bad[mask] ? -1 : static_cast<int32_t>(data<int64_t>(frame_of_mask)[mask]);
  }
  run_tasks(static_cast<int64_t>(found.size()), [&](int64_t task) {
    keep_good(found[task], order.data() + task * kRows, order.data() + std::min(asked, (task + 1) * kRows), heard,
              frames.data());
  });
  int64_t* start = mutable_data<int64_t>(starts);
  *start = 0;
  for (int64_t mask = 0; mask < count; ++mask) {
    start[mask + 1] = start[mask] + heard[mask].last - heard[mask].first;
    mutable_data<int64_t>(spoke)[mask] = heard[mask].spoke;
    mutable_data<int64_t>(whole)[mask] = heard[mask].whole;
  }
  Tensor contained = empty(frame_of_mask, {start[count]}, ScalarType::Int);
  int32_t* out = mutable_data<int32_t>(contained);
  run_tasks(static_cast<int64_t>(found.size()), [&](int64_t task) {
    for (int64_t k = task * kRows; k < std::min(asked, (task + 1) * kRows); ++k) {
      const Heard& one = heard[order[k]];
      std::copy(found[task].data() + one.first, found[task].data() + one.last, out + start[order[k]]);
    }
  });
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
  const std::vector<int32_t>& order = testimony.order();
  const int64_t asked = static_cast<int64_t>(order.size());
  std::vector<Heard> heard(points.count);
  std::vector<std::vector<int32_t>> found((asked + kRows - 1) / kRows);
  run_tasks(static_cast<int64_t>(found.size()), [&] { return testimony.sums(); }, [&](Sums& sums, int64_t task) {
    for (int64_t k = task * kRows; k < std::min((task + 1) * kRows, asked); ++k)
      heard[order[k]] = testimony.ask(order[k], sums, found[task]);
  });
  return gather(frame_of_mask, std::move(heard), order, std::move(found));
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("mask_testimony", TORCH_BOX(&pc3d::mask_testimony_op)); }

#include "lift_vote.h"

#include "pc3d.h"
#include "tasks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define PC3D_SIMD lift_plain
#define PC3D_TARGET
#define PC3D_LANES 4
#include "lift_vote_kernel.h"
#undef PC3D_SIMD
#undef PC3D_TARGET
#undef PC3D_LANES
#if defined(__x86_64__)
#define PC3D_SIMD lift_avx2
#define PC3D_TARGET __attribute__((target("avx2")))
#define PC3D_LANES 8
#include "lift_vote_kernel.h"
#undef PC3D_SIMD
#undef PC3D_TARGET
#undef PC3D_LANES
#define PC3D_SIMD lift_avx512
#define PC3D_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")))
#define PC3D_LANES 16
#include "lift_vote_kernel.h"
#undef PC3D_SIMD
#undef PC3D_TARGET
#undef PC3D_LANES
#endif

namespace pc3d {
namespace {

using namespace lift;

constexpr int64_t kCamera = 13;
constexpr int64_t kTasks = 16;  // shares of the blocks of one frame
constexpr int kAhead = 64;      // pixels that the caches are asked for before they are looked up
static_assert(kAhead >= kMostLanes, "there is room for both in one place");

Kernel best_kernel() {
#if defined(__x86_64__)
  if (best_isa() >= Isa::avx512) return {lift_avx512::tile, lift_avx512::widen, lift_avx512::cull, lift_avx512::project};
  if (best_isa() == Isa::avx2) return {lift_avx2::tile, lift_avx2::widen, lift_avx2::cull, lift_avx2::project};
#endif
  return {lift_plain::tile, lift_plain::widen, lift_plain::cull, lift_plain::project};
}

// Rows of whole numbers, one after another, in room that was made for them.
template <size_t N>
class Table {
 public:
  void make_room(int64_t rows) { rows_.reset(new int32_t[N * rows]); }

  void add(const std::array<int32_t, N>& row) {
    std::copy(row.begin(), row.end(), rows_.get() + N * size_);
    ++size_;
  }

  int64_t size() const { return size_; }
  int32_t* operator[](int64_t row) { return rows_.get() + N * row; }
  const int32_t* operator[](int64_t row) const { return rows_.get() + N * row; }

 private:
  std::unique_ptr<int32_t[]> rows_;
  int64_t size_ = 0;
};

// Rows that one share of the blocks adds to the result.
struct Rows {
  Table<2> seen, piece_seen;
  Table<3> votes, piece_votes;
  bool bad_id = false, bad_piece = false;  // threads must not throw
};

// When a mask cuts a run, and into what its points fall then.
struct Cut {
  const int32_t* piece_of_point;
  float share;
  int64_t points;
};

class Vote {
 public:
  Vote(const Tensor& xyz, const Tensor& starts, const Tensor& owners, const Tensor& spheres, const Test& test,
       const View& depth_view, const Tensor& masks, const View& mask_view, bool same_view, int64_t num_masks, const Cut& cut,
       const Kernel& kernel)
      : xyz_(data<float>(xyz)), num_points_(xyz.size(1)), starts_(data<int64_t>(starts)), owners_(data<int32_t>(owners)),
        spheres_(data<float>(spheres)), blocks_(owners.size(0)), test_(test), depth_view_(depth_view), mask_view_(mask_view),
        same_view_(same_view), masks_(reinterpret_cast<const uint16_t*>(data<int16_t>(masks))), layers_(masks.size(0)),
        mask_pixels_(masks.size(1) * masks.size(2)), num_masks_(num_masks), cut_(cut), kernel_(kernel) {}

  // Blocks [begin, end), which do not cut a run.
  void share(int64_t begin, int64_t end, Rows& rows) const {
    const size_t room = starts_[end] - starts_[begin] + kAhead;
    const std::unique_ptr<int32_t[]> point(new int32_t[room]), pixel(new int32_t[room]);
    const int32_t visible = project(begin, end, point.get(), pixel.get());
    const std::unique_ptr<int32_t[]> ids(new int32_t[visible * layers_]);
    Scratch scratch{ids.get(), std::vector<int32_t>(num_masks_ + 1), {}};
    rows.seen.make_room(visible), rows.piece_seen.make_room(visible);
    rows.votes.make_room(visible * layers_), rows.piece_votes.make_room(visible * layers_);
    int64_t block = begin;
    for (int32_t first = 0, last; first < visible; first = last) {
      while (starts_[block + 1] <= point[first]) ++block;
      const int32_t owner = owners_[block];
      while (block + 1 < end && owners_[block + 1] == owner) ++block;
      for (last = first; last < visible && point[last] < starts_[block + 1]; ++last) {}
      const int64_t before = rows.votes.size();
      const int32_t points = last - first;
      rows.seen.add({owner, points});
      for (int64_t layer = 0; layer < layers_; ++layer)
        look_up(masks_ + layer * mask_pixels_, pixel.get() + first, points, ids.get() + layer * points);
      tally(owner, points, scratch, rows.votes, rows.bad_id);
      if (is_cut(rows.votes, before, points)) by_piece(point.get() + first, points, scratch.ids, rows);
    }
  }

 private:
  struct Scratch {
    int32_t* ids;                          // of the points of a run, layer after layer
    std::vector<int32_t> counts, touched;  // counts are 0 between runs
  };

  // Add what a run holds of each piece that its points lie in.
  void by_piece(const int32_t* point, int32_t points, const int32_t* ids, Rows& rows) const {
    int32_t before = -1;
    for (int32_t first = 0, last; first < points; first = last) {
      const int32_t piece = cut_.piece_of_point[point[first]];
      for (last = first + 1; last < points && cut_.piece_of_point[point[last]] == piece; ++last) {}
      rows.piece_seen.add({piece, last - first});
      rows.bad_piece |= piece <= std::exchange(before, piece);
      const int64_t row = rows.piece_votes.size();
      for (int64_t layer = 0; layer < layers_; ++layer)
        for_each_stretch(ids + layer * points, first, last,
                         [&](int32_t id, int32_t count) { add_to_piece(rows.piece_votes, row, piece, id, count); });
    }
  }

  // Add points of a mask to the rows of a piece, from the given one on, ascending in id: they are few.
  static void add_to_piece(Table<3>& votes, int64_t first, int32_t piece, int32_t id, int32_t count) {
    int64_t row = votes.size();
    while (row > first && votes[row - 1][1] > id) --row;
    if (row > first && votes[row - 1][1] == id) {
      votes[row - 1][2] += count;
      return;
    }
    votes.add({piece, id, count});
    std::rotate(votes[row], votes[votes.size() - 1], votes[votes.size()]);
  }

  // Neighbouring points [begin, end) of one id but 0: f(id, how many).
  template <class F>
  static void for_each_stretch(const int32_t* ids, int32_t begin, int32_t end, const F& f) {
    for (int32_t i = begin, next; i < end; i = next) {
      for (next = i + 1; next < end && ids[next] == ids[i]; ++next) {}
      if (ids[i]) f(ids[i], next - i);
    }
  }

  // Ids at some pixels, which no cache may hold yet: asked for kMostLanes ahead.
  static void look_up(const uint16_t* plane, const int32_t* pixel, int32_t points, int32_t* ids) {
    for (int32_t i = 0; i < points; ++i) {
      __builtin_prefetch(plane + std::max(pixel[i + kAhead], 0));
      ids[i] = pixel[i] < 0 ? 0 : plane[pixel[i]];
    }
  }

  // Add a row (owner, id, points) of each mask that the points of a run lie in.
  void tally(int32_t owner, int32_t points, Scratch& s, Table<3>& out, bool& bad_id) const {
    for (int64_t layer = 0; layer < layers_; ++layer)
      for_each_stretch(s.ids + layer * points, 0, points, [&](int32_t id, int32_t count) {
        if (id > num_masks_) {
          bad_id = true;
          return;
        }
        if (!s.counts[id]) s.touched.push_back(id);
        s.counts[id] += count;
      });
    if (s.touched.size() > 1) std::sort(s.touched.begin(), s.touched.end());
    for (const int32_t id : s.touched) {
      out.add({owner, id, s.counts[id]});
      s.counts[id] = 0;
    }
    s.touched.clear();
  }

  bool is_cut(const Table<3>& votes, int64_t begin, int32_t visible) const {
    if (visible < cut_.points) return false;
    const float low = cut_.share * static_cast<float>(visible), high = static_cast<float>(visible) - low;
    for (int64_t row = begin; row < votes.size(); ++row)
      if (votes[row][2] > low && votes[row][2] < high) return true;
    return false;
  }

  // Visible points of blocks [begin, end), ascending: how many.
  int32_t project(int64_t begin, int64_t end, int32_t* point, int32_t* pixel) const {
    std::vector<int32_t> blocks(end - begin + kMostLanes);
    const int num_blocks = kernel_.cull(spheres_, blocks_, begin, end, test_, depth_view_, blocks.data());
    int32_t visible = 0;
    for (int i = 0, next; i < num_blocks; i = next) {
      for (next = i + 1; next < num_blocks && blocks[next] == blocks[next - 1] + 1; ++next) {}
      visible += kernel_.project(xyz_, num_points_, starts_[blocks[i]], starts_[blocks[next - 1] + 1], test_, depth_view_,
                                 same_view_ ? nullptr : &mask_view_, point + visible, pixel + visible);
    }
    return visible;
  }

  const float* xyz_;
  int64_t num_points_;
  const int64_t* starts_;
  const int32_t* owners_;
  const float* spheres_;
  int64_t blocks_;
  Test test_;
  View depth_view_, mask_view_;
  bool same_view_;
  const uint16_t* masks_;
  int64_t layers_, mask_pixels_, num_masks_;
  Cut cut_;
  Kernel kernel_;
};

View view_of(const Tensor& camera, const Tensor& lens, int64_t height, int64_t width) {
  check(camera.numel() == kCamera && camera.scalar_type() == ScalarType::Float, "lift_vote: a camera must be float32 (13)");
  check(lens.scalar_type() == ScalarType::Float && lens.dim() == 1 && lens.numel() != 1, "lift_vote: a lens must be float32 (T)");
  const float* c = data<float>(camera);
  check(c[4] == static_cast<float>(width) && c[5] == static_cast<float>(height),
        "lift_vote: a camera has another size than its image");
  check(width * height < (int64_t{1} << 31), "lift_vote: an image is too large");
  return {c, lens.numel() ? data<float>(lens) : nullptr, lens.numel()};
}

bool same(const View& a, const View& b) {
  return std::equal(a.camera, a.camera + kCamera, b.camera) && a.steps == b.steps &&
         (!a.lens || std::equal(a.lens, a.lens + a.steps, b.lens));
}

void check_blocks(const Tensor& xyz, const Tensor& starts, const Tensor& owners, const Tensor& spheres) {
  check(xyz.dim() == 2 && xyz.size(0) == 3 && xyz.scalar_type() == ScalarType::Float, "lift_vote: xyz must be float32 (3, N)");
  const int64_t blocks = owners.numel();
  check(owners.scalar_type() == ScalarType::Int && starts.scalar_type() == ScalarType::Long && starts.numel() == blocks + 1 &&
            spheres.scalar_type() == ScalarType::Float && spheres.numel() == 4 * blocks,
        "lift_vote: starts, owners and spheres do not fit");
  const int64_t* start = data<int64_t>(starts);
  check(start[0] == 0 && start[blocks] == xyz.size(1), "lift_vote: starts do not cover the points");
  for (int64_t b = 0; b < blocks; ++b)
    check(start[b] <= start[b + 1], "lift_vote: a block is out of order");
}

int64_t tiles_of(int64_t pixels) { return (pixels + kTile - 1) / kTile; }

// The largest depths of tiles and of squares of them, as Test has them; the image is in the caches after it.
std::vector<float> tile(const Kernel& kernel, const Tensor& depth, int64_t wide) {
  const int64_t height = depth.size(0), width = depth.size(1), high = tiles_of(height);
  std::vector<float> out(kLevels * high * wide + (1 << kLevels));
  run_tasks(high, [&](int64_t row) {
    const int64_t first = row * kTile;
    kernel.tile(data<float>(depth) + first * width, std::min<int64_t>(kTile, height - first), width, out.data() + row * wide);
  });
  for (int k = 0; k + 1 < kLevels; ++k)
    kernel.widen(out.data() + k * high * wide, high, wide, 1 << k, out.data() + (k + 1) * high * wide);
  return out;
}

// Cut the blocks into shares that do not cut a run.
std::vector<int64_t> cut(const int32_t* owners, int64_t blocks) {
  std::vector<int64_t> cuts{0};
  for (int64_t share = 1; share <= kTasks; ++share) {
    int64_t end = blocks * share / kTasks;
    while (end > cuts.back() && end < blocks && owners[end] == owners[end - 1]) ++end;
    if (end > cuts.back()) cuts.push_back(end);
  }
  return cuts;
}

template <size_t N>
Tensor gather(const Tensor& like, const std::vector<Rows>& shares, Table<N> Rows::*table) {
  int64_t total = 0;
  for (const Rows& rows : shares) total += (rows.*table).size();
  Tensor out = empty(like, {total, static_cast<int64_t>(N)}, ScalarType::Int);
  int32_t* to = mutable_data<int32_t>(out);
  for (const Rows& rows : shares) to = std::copy((rows.*table)[0], (rows.*table)[(rows.*table).size()], to);
  return out;
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor> lift_vote(
    const Tensor& xyz, const Tensor& starts, const Tensor& owners, const Tensor& spheres, const Tensor& pose,
    const Tensor& depth, const Tensor& depth_camera, const Tensor& depth_lens, const Tensor& masks, const Tensor& mask_camera,
    const Tensor& mask_lens, int64_t num_masks, double near, double absolute, double relative, const Tensor& pieces,
    double cut_share, int64_t cut_points) {
  using torch::stable::contiguous;
  const Tensor x = contiguous(xyz), s = contiguous(starts), o = contiguous(owners), b = contiguous(spheres),
               t = contiguous(pose), d = contiguous(depth), dc = contiguous(depth_camera), dl = contiguous(depth_lens),
               m = contiguous(masks), mc = contiguous(mask_camera), ml = contiguous(mask_lens), p = contiguous(pieces);
  check_blocks(x, s, o, b);
  check(t.numel() == 12 && t.scalar_type() == ScalarType::Float, "lift_vote: pose must be float32 (3, 4)");
  check(d.dim() == 2 && d.scalar_type() == ScalarType::Float, "lift_vote: depth must be float32 (H, W)");
  check(m.dim() == 3 && m.scalar_type() == ScalarType::Short, "lift_vote: masks must be int16 (L, h, w)");
  check(p.dim() == 1 && p.scalar_type() == ScalarType::Int && p.numel() == xyz.size(1), "lift_vote: pieces must be int32 (N,)");
  check(num_masks >= 0 && num_masks <= 65535, "lift_vote: num_masks must be 0 to 65535");
  const View depth_view = view_of(dc, dl, d.size(0), d.size(1)), mask_view = view_of(mc, ml, m.size(1), m.size(2));
  const Kernel kernel = best_kernel();
  const int64_t wide = (tiles_of(d.size(1)) + kMostLanes - 1) / kMostLanes * kMostLanes + kMostLanes;  // zeros on the right
  const int64_t level = tiles_of(d.size(0)) * wide;
  const std::vector<float> tiles = tile(kernel, d, wide);
  const Test test{data<float>(t), data<float>(d), tiles.data(), static_cast<int32_t>(wide), static_cast<int32_t>(level),
                  static_cast<float>(near), static_cast<float>(absolute), static_cast<float>(relative)};
  const Vote vote(x, s, o, b, test, depth_view, m, mask_view, same(depth_view, mask_view), num_masks,
                  {data<int32_t>(p), static_cast<float>(cut_share), cut_points}, kernel);
  const std::vector<int64_t> cuts = cut(data<int32_t>(o), o.numel());
  std::vector<Rows> shares(cuts.size() - 1);
  run_tasks(shares.size(), [&](int64_t i) { vote.share(cuts[i], cuts[i + 1], shares[i]); });
  for (const Rows& rows : shares) {
    check(!rows.bad_id, "lift_vote: a mask id is out of range");
    check(!rows.bad_piece, "lift_vote: pieces must ascend");
  }
  return {gather(x, shares, &Rows::seen), gather(x, shares, &Rows::votes), gather(x, shares, &Rows::piece_seen),
          gather(x, shares, &Rows::piece_votes)};
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("lift_vote", TORCH_BOX(&pc3d::lift_vote)); }

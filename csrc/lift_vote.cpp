#include "lift_vote.h"

#include "pc3d.h"
#include "tasks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <tuple>
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

Kernel best_kernel() {
#if defined(__x86_64__)
  if (best_isa() >= Isa::avx512) return {lift_avx512::tile, lift_avx512::cull, lift_avx512::project};
  if (best_isa() == Isa::avx2) return {lift_avx2::tile, lift_avx2::cull, lift_avx2::project};
#endif
  return {lift_plain::tile, lift_plain::cull, lift_plain::project};
}

// Rows that one share of the blocks adds to the result.
struct Rows {
  std::vector<int32_t> seen, votes, piece_seen, piece_votes;
  bool bad_id = false;  // threads must not throw
};

// When a mask cuts a run, and into what its points fall then.
struct Cut {
  const int64_t* starts;
  int64_t pieces;
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
    const size_t room = starts_[end] - starts_[begin] + kMostLanes;
    const std::unique_ptr<int32_t[]> point(new int32_t[room]), pixel(new int32_t[room]);
    const int32_t visible = project(begin, end, point.get(), pixel.get());
    std::fill_n(point.get() + visible, kMostLanes, INT32_MAX);
    const std::unique_ptr<int32_t[]> ids(new int32_t[room * std::max<int64_t>(layers_, 1)]);
    Scratch scratch{ids.get(), std::vector<int32_t>(num_masks_ + 1), {}};
    rows.piece_seen.reserve(visible / 4);
    rows.piece_votes.reserve(visible / 2);
    int64_t block = begin;
    for (int32_t first = 0, last; first < visible; first = last) {
      while (starts_[block + 1] <= point[first]) ++block;
      const int32_t owner = owners_[block];
      while (block + 1 < end && owners_[block + 1] == owner) ++block;
      for (last = first; last < visible && point[last] < starts_[block + 1]; ++last) {}
      const size_t before = rows.votes.size();
      const int32_t points = last - first;
      append<2>(rows.seen, {owner, points});
      for (int64_t layer = 0; layer < layers_; ++layer)
        look_up(masks_ + layer * mask_pixels_, pixel.get() + first, points, ids.get() + layer * points);
      tally(owner, 0, points, points, scratch, rows.votes, rows.bad_id);
      if (!is_cut(rows.votes, before, points)) continue;
      by_piece(point.get() + first, points, scratch, rows);
    }
  }

 private:
  struct Scratch {
    int32_t* ids;                          // of the points of a run, layer after layer
    std::vector<int32_t> counts, touched;  // counts are 0 between runs
  };

  // Add what a run holds of each piece that its points lie in.
  void by_piece(const int32_t* point, int32_t points, Scratch& s, Rows& rows) const {
    const int64_t* end = std::upper_bound(cut_.starts, cut_.starts + cut_.pieces + 1, point[0]);
    for (int32_t start = 0, next; start < points; start = next) {
      while (*end <= point[start]) ++end;
      next = start + count_below(point + start, static_cast<int32_t>(*end));
      const int32_t piece = static_cast<int32_t>(end - cut_.starts - 1), id = s.ids[start];
      append<2>(rows.piece_seen, {piece, next - start});
      int32_t other = layers_ != 1;
      for (int32_t i = start + 1; i < next; ++i) other |= s.ids[i] ^ id;
      if (other) tally(piece, start, next, points, s, rows.piece_votes, rows.bad_id);
      else if (id) append<3>(rows.piece_votes, {piece, id, next - start});
    }
  }

  // How many of ascending numbers are below a limit: eight at a time, so what follows the last must not be.
  static int32_t count_below(const int32_t* number, int32_t limit) {
    for (int32_t count = 0;;) {
      int32_t more = 0;
      for (int32_t i = 0; i < 8; ++i) more += number[count + i] < limit;
      count += more;
      if (more < 8) return count;
    }
  }

  template <size_t N>
  static void append(std::vector<int32_t>& to, const std::array<int32_t, N>& row) {
    to.insert(to.end(), row.begin(), row.end());
  }

  static void look_up(const uint16_t* plane, const int32_t* pixel, int32_t points, int32_t* ids) {
    for (int32_t i = 0; i < points; ++i) ids[i] = pixel[i] < 0 ? 0 : plane[pixel[i]];
  }

  // Add a row (owner, id, points) of each mask that points [begin, end) of a run lie in.
  void tally(int32_t owner, int32_t begin, int32_t end, int32_t points, Scratch& s, std::vector<int32_t>& out,
             bool& bad_id) const {
    for (int64_t layer = 0; layer < layers_; ++layer) {
      const int32_t* ids = s.ids + layer * points;
      for (int32_t i = begin, next; i < end; i = next) {  // neighbours mostly lie in one mask
        const int32_t id = ids[i];
        for (next = i + 1; next < end && ids[next] == id; ++next) {}
        if (!id) continue;
        if (id > num_masks_) {
          bad_id = true;
          continue;
        }
        if (!s.counts[id]) s.touched.push_back(id);
        s.counts[id] += next - i;
      }
    }
    if (s.touched.size() > 1) std::sort(s.touched.begin(), s.touched.end());
    for (const int32_t id : s.touched) {
      append<3>(out, {owner, id, s.counts[id]});
      s.counts[id] = 0;
    }
    s.touched.clear();
  }

  bool is_cut(const std::vector<int32_t>& votes, size_t begin, int32_t visible) const {
    if (visible < cut_.points) return false;
    const float low = cut_.share * static_cast<float>(visible), high = static_cast<float>(visible) - low;
    for (size_t at = begin; at < votes.size(); at += 3)
      if (votes[at + 2] > low && votes[at + 2] < high) return true;
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

void check_pieces(const Tensor& starts, int64_t points) {
  check(starts.scalar_type() == ScalarType::Long && starts.numel() > 0, "lift_vote: piece_starts must be int64 (K + 1,)");
  const int64_t *start = data<int64_t>(starts), pieces = starts.numel() - 1;
  check(start[0] == 0 && start[pieces] == points && std::is_sorted(start, start + pieces + 1),
        "lift_vote: pieces do not cover the points");
}

int64_t tiles_of(int64_t pixels) { return (pixels + kTile - 1) / kTile; }

// The largest depth of each tile of the image; the image is in the cache after it.
std::vector<float> tile(const Kernel& kernel, const float* depth, int64_t height, int64_t width) {
  std::vector<float> out(tiles_of(height) * tiles_of(width));
  run_tasks(tiles_of(height), [&](int64_t row) {
    const int64_t first = row * kTile;
    kernel.tile(depth + first * width, std::min<int64_t>(kTile, height - first), width, out.data() + row * tiles_of(width));
  });
  return out;
}

// Ask for the masks in the order of memory, before points ask for them in theirs: 10 % off a frame whose masks no cache holds.
void fetch(const Tensor& masks) {
  constexpr int64_t kLine = 64 / sizeof(int16_t);
  const int16_t* plane = data<int16_t>(masks);
  for (int64_t at = 0; at < masks.numel(); at += kLine) __builtin_prefetch(plane + at, 0, 2);
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

Tensor gather(const Tensor& like, const std::vector<Rows>& shares, std::vector<int32_t> Rows::*column, int64_t width) {
  int64_t total = 0;
  for (const Rows& rows : shares) total += (rows.*column).size();
  Tensor out = empty(like, {total / width, width}, ScalarType::Int);
  int32_t* to = mutable_data<int32_t>(out);
  for (const Rows& rows : shares) to = std::copy((rows.*column).begin(), (rows.*column).end(), to);
  return out;
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor> lift_vote(
    const Tensor& xyz, const Tensor& starts, const Tensor& owners, const Tensor& spheres, const Tensor& pose,
    const Tensor& depth, const Tensor& depth_camera, const Tensor& depth_lens, const Tensor& masks, const Tensor& mask_camera,
    const Tensor& mask_lens, int64_t num_masks, double near, double absolute, double relative, const Tensor& piece_starts,
    double cut_share, int64_t cut_points) {
  using torch::stable::contiguous;
  const Tensor x = contiguous(xyz), s = contiguous(starts), o = contiguous(owners), b = contiguous(spheres),
               t = contiguous(pose), d = contiguous(depth), dc = contiguous(depth_camera), dl = contiguous(depth_lens),
               m = contiguous(masks), mc = contiguous(mask_camera), ml = contiguous(mask_lens), p = contiguous(piece_starts);
  check_blocks(x, s, o, b);
  check(t.numel() == 12 && t.scalar_type() == ScalarType::Float, "lift_vote: pose must be float32 (3, 4)");
  check(d.dim() == 2 && d.scalar_type() == ScalarType::Float, "lift_vote: depth must be float32 (H, W)");
  check(m.dim() == 3 && m.scalar_type() == ScalarType::Short, "lift_vote: masks must be int16 (L, h, w)");
  check_pieces(p, xyz.size(1));
  check(num_masks >= 0 && num_masks <= 65535, "lift_vote: num_masks must be 0 to 65535");
  const View depth_view = view_of(dc, dl, d.size(0), d.size(1)), mask_view = view_of(mc, ml, m.size(1), m.size(2));
  const Kernel kernel = best_kernel();
  const std::vector<float> tiles = tile(kernel, data<float>(d), d.size(0), d.size(1));
  fetch(m);
  const Test test{data<float>(t), data<float>(d), tiles.data(), static_cast<int32_t>(tiles_of(d.size(1))),
                  static_cast<float>(near), static_cast<float>(absolute), static_cast<float>(relative)};
  const Vote vote(x, s, o, b, test, depth_view, m, mask_view, same(depth_view, mask_view), num_masks,
                  {data<int64_t>(p), p.numel() - 1, static_cast<float>(cut_share), cut_points}, kernel);
  const std::vector<int64_t> cuts = cut(data<int32_t>(o), o.numel());
  std::vector<Rows> shares(cuts.size() - 1);
  run_tasks(shares.size(), [&](int64_t i) { vote.share(cuts[i], cuts[i + 1], shares[i]); });
  for (const Rows& rows : shares) check(!rows.bad_id, "lift_vote: a mask id is out of range");
  return {gather(x, shares, &Rows::seen, 2), gather(x, shares, &Rows::votes, 3), gather(x, shares, &Rows::piece_seen, 2),
          gather(x, shares, &Rows::piece_votes, 3)};
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("lift_vote", TORCH_BOX(&pc3d::lift_vote)); }

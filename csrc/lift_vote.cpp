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
constexpr int64_t kTables = 4;   // of Rows
constexpr int64_t kShares = 16;  // of the blocks of a frame that comes alone
constexpr int kAhead = 64;       // pixels that the caches are asked for before they are looked up
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

  // Give back the room that is left.
  void shrink() {
    std::unique_ptr<int32_t[]> rows(new int32_t[N * size_]);
    std::copy((*this)[0], (*this)[size_], rows.get());
    rows_ = std::move(rows);
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

// When a mask cuts a run.
struct Cut {
  float share;
  int64_t points;
};

// Points in blocks, as the op has them.
struct Scan {
  const float* xyz;
  int64_t num_points;
  const int64_t* starts;
  const int32_t* owners;
  const float* boxes;
  int64_t blocks;
  const int32_t* piece_of_point;
};

// One frame. What its pointers point to lives as long as the tensors.
struct Frame {
  Tensor pose, depth, depth_camera, masks, mask_camera;
  View depth_view, mask_view;
  int64_t num_masks;
  float absolute;
};

class Vote {
 public:
  Vote(const Scan& scan, const Frame& frame, const Test& test, const Cut& cut, const Kernel& kernel)
      : scan_(scan), test_(test), depth_view_(frame.depth_view), mask_view_(frame.mask_view),
        same_view_(same(depth_view_, mask_view_)), masks_(reinterpret_cast<const uint16_t*>(data<int16_t>(frame.masks))),
        layers_(frame.masks.size(0)), mask_pixels_(frame.masks.size(1) * frame.masks.size(2)), num_masks_(frame.num_masks),
        cut_(cut), kernel_(kernel) {}

  // Blocks [begin, end), which do not cut a run.
  void share(int64_t begin, int64_t end, Rows& rows) const {
    const size_t room = scan_.starts[end] - scan_.starts[begin] + kAhead;
    const std::unique_ptr<int32_t[]> point(new int32_t[room]), pixel(new int32_t[room]);
    const int32_t visible = project(begin, end, point.get(), pixel.get());
    const std::unique_ptr<int32_t[]> ids(new int32_t[visible * layers_]);
    Scratch scratch{ids.get(), std::vector<int32_t>(num_masks_ + 1), {}};
    rows.seen.make_room(visible), rows.piece_seen.make_room(visible);
    rows.votes.make_room(visible * layers_), rows.piece_votes.make_room(visible * layers_);
    int64_t block = begin;
    for (int32_t first = 0, last; first < visible; first = last) {
      while (scan_.starts[block + 1] <= point[first]) ++block;
      const int32_t owner = scan_.owners[block];
      while (block + 1 < end && scan_.owners[block + 1] == owner) ++block;
      for (last = first; last < visible && point[last] < scan_.starts[block + 1]; ++last) {}
      const int64_t before = rows.votes.size();
      const int32_t points = last - first;
      rows.seen.add({owner, points});
      for (int64_t layer = 0; layer < layers_; ++layer)
        look_up(masks_ + layer * mask_pixels_, pixel.get() + first, points, ids.get() + layer * points);
      tally(owner, points, scratch, rows.votes, rows.bad_id);
      if (is_cut(rows.votes, before, points)) by_piece(point.get() + first, points, scratch.ids, rows);
    }
    rows.seen.shrink(), rows.votes.shrink(), rows.piece_seen.shrink(), rows.piece_votes.shrink();
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
      const int32_t piece = scan_.piece_of_point[point[first]];
      for (last = first + 1; last < points && scan_.piece_of_point[point[last]] == piece; ++last) {}
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
    const int num_blocks = kernel_.cull(scan_.boxes, scan_.blocks, begin, end, test_, depth_view_, blocks.data());
    int32_t visible = 0;
    for (int i = 0, next; i < num_blocks; i = next) {
      for (next = i + 1; next < num_blocks && blocks[next] == blocks[next - 1] + 1; ++next) {}
      visible += kernel_.project(scan_.xyz, scan_.num_points, scan_.starts[blocks[i]], scan_.starts[blocks[next - 1] + 1], test_,
                                 depth_view_, same_view_ ? nullptr : &mask_view_, point + visible, pixel + visible);
    }
    return visible;
  }

  static bool same(const View& a, const View& b) {
    return a.steps == b.steps && std::equal(a.camera, a.camera + kCamera + a.steps, b.camera);
  }

  const Scan& scan_;
  const Test test_;
  const View depth_view_, mask_view_;
  const bool same_view_;
  const uint16_t* masks_;
  const int64_t layers_, mask_pixels_, num_masks_;
  const Cut cut_;
  const Kernel kernel_;
};

View view_of(const Tensor& camera, int64_t height, int64_t width) {
  const int64_t steps = camera.numel() - kCamera;
  check(camera.dim() == 1 && steps >= 0 && steps != 1 && camera.scalar_type() == ScalarType::Float,
        "lift_vote: a camera must be float32 (13 + T)");
  const float* c = data<float>(camera);
  check(c[4] == static_cast<float>(width) && c[5] == static_cast<float>(height),
        "lift_vote: a camera has another size than its image");
  check(width * height < (int64_t{1} << 31), "lift_vote: an image is too large");
  return {c, steps ? c + kCamera : nullptr, steps};
}

Frame frame_of(const Tensor& pose, const Tensor& depth, const Tensor& depth_camera, const Tensor& masks,
               const Tensor& mask_camera, int64_t num_masks, double absolute) {
  using torch::stable::contiguous;
  check(pose.numel() == 12 && pose.scalar_type() == ScalarType::Float, "lift_vote: a pose must be float32 (3, 4)");
  check(depth.dim() == 2 && depth.scalar_type() == ScalarType::Float, "lift_vote: depth must be float32 (H, W)");
  check(masks.dim() == 3 && masks.scalar_type() == ScalarType::Short, "lift_vote: masks must be int16 (L, h, w)");
  check(num_masks >= 0 && num_masks <= 65535, "lift_vote: num_masks must be 0 to 65535");
  Frame out{contiguous(pose), contiguous(depth), contiguous(depth_camera), contiguous(masks), contiguous(mask_camera), {}, {},
            num_masks, static_cast<float>(absolute)};
  out.depth_view = view_of(out.depth_camera, depth.size(0), depth.size(1));
  out.mask_view = view_of(out.mask_camera, masks.size(1), masks.size(2));
  return out;
}

void check_blocks(const Tensor& xyz, const Tensor& starts, const Tensor& owners, const Tensor& boxes, const Tensor& pieces) {
  check(xyz.dim() == 2 && xyz.size(0) == 3 && xyz.scalar_type() == ScalarType::Float, "lift_vote: xyz must be float32 (3, N)");
  const int64_t blocks = owners.numel();
  check(owners.scalar_type() == ScalarType::Int && starts.scalar_type() == ScalarType::Long && starts.numel() == blocks + 1 &&
            boxes.scalar_type() == ScalarType::Float && boxes.numel() == 6 * blocks,
        "lift_vote: starts, owners and boxes do not fit");
  check(pieces.dim() == 1 && pieces.scalar_type() == ScalarType::Int && pieces.numel() == xyz.size(1),
        "lift_vote: pieces must be int32 (N,)");
  const int64_t* start = data<int64_t>(starts);
  check(start[0] == 0 && start[blocks] == xyz.size(1), "lift_vote: starts do not cover the points");
  for (int64_t b = 0; b < blocks; ++b)
    check(start[b] <= start[b + 1], "lift_vote: a block is out of order");
}

int64_t tiles_of(int64_t pixels) { return (pixels + kTile - 1) / kTile; }

// The largest depths of tiles and of squares of them, as Test has them; the image is in the caches after it. What is right of
// the last tile of a row is any number: no square reaches there that holds what is in the image.
std::unique_ptr<float[]> tile(const Kernel& kernel, const Tensor& depth, int64_t wide) {
  const int64_t height = depth.size(0), width = depth.size(1), high = tiles_of(height);
  std::unique_ptr<float[]> out(new float[kLevels * high * wide + (1 << kLevels)]);
  run_tasks(high, [&](int64_t row) {
    const int64_t first = row * kTile;
    kernel.tile(data<float>(depth) + first * width, std::min<int64_t>(kTile, height - first), width, out.get() + row * wide);
  });
  for (int k = 0; k + 1 < kLevels; ++k)
    kernel.widen(out.get() + k * high * wide, high, wide, 1 << k, out.get() + (k + 1) * high * wide);
  return out;
}

// Cut the blocks into shares that do not cut a run.
std::vector<int64_t> cut(const int32_t* owners, int64_t blocks, int64_t count) {
  std::vector<int64_t> cuts{0};
  for (int64_t share = 1; share <= count; ++share) {
    int64_t end = blocks * share / count;
    while (end > cuts.back() && end < blocks && owners[end] == owners[end - 1]) ++end;
    if (end > cuts.back()) cuts.push_back(end);
  }
  return cuts;
}

// What all shares of all frames add to a table, and to its column of `rows` how many rows each frame does.
template <size_t N>
Tensor gather(const Tensor& like, const std::vector<std::vector<Rows>>& frames, Table<N> Rows::*table, int64_t* rows) {
  std::vector<int64_t> begin{0};
  for (const std::vector<Rows>& shares : frames) {
    begin.push_back(begin.back());
    for (const Rows& share : shares) begin.back() += (share.*table).size();
    *rows = begin.back() - *(begin.end() - 2);
    rows += kTables;
  }
  Tensor out = empty(like, {begin.back(), static_cast<int64_t>(N)}, ScalarType::Int);
  int32_t* first = mutable_data<int32_t>(out);
  run_tasks(frames.size(), [&](int64_t i) {
    int32_t* to = first + N * begin[i];
    for (const Rows& share : frames[i]) to = std::copy((share.*table)[0], (share.*table)[(share.*table).size()], to);
  });
  return out;
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> lift_vote(
    const Tensor& xyz, const Tensor& starts, const Tensor& owners, const Tensor& boxes, const Tensor& pieces,
    std::vector<Tensor> poses, std::vector<Tensor> depths, std::vector<Tensor> depth_cameras, std::vector<Tensor> masks,
    std::vector<Tensor> mask_cameras, std::vector<int64_t> num_masks, std::vector<double> absolute, double near,
    double relative, double cut_share, int64_t cut_points) {
  using torch::stable::contiguous;
  const Tensor x = contiguous(xyz), s = contiguous(starts), o = contiguous(owners), b = contiguous(boxes),
               p = contiguous(pieces);
  check_blocks(x, s, o, b, p);
  const Scan scan{data<float>(x), x.size(1), data<int64_t>(s), data<int32_t>(o), data<float>(b), o.numel(), data<int32_t>(p)};
  const size_t count = poses.size();
  check(depths.size() == count && depth_cameras.size() == count && masks.size() == count && mask_cameras.size() == count &&
            num_masks.size() == count && absolute.size() == count, "lift_vote: every frame must have everything");
  std::vector<Frame> frames;
  for (size_t i = 0; i < count; ++i)
    frames.push_back(frame_of(poses[i], depths[i], depth_cameras[i], masks[i], mask_cameras[i], num_masks[i], absolute[i]));

  // Threads take whole frames, or else shares of the one that there is.
  const Kernel kernel = best_kernel();
  const std::vector<int64_t> cuts = cut(scan.owners, scan.blocks, count == 1 ? kShares : 1);
  std::vector<std::vector<Rows>> counted(count);
  run_tasks(count, [&](int64_t i) {
    const Frame& frame = frames[i];
    const int64_t high = tiles_of(frame.depth.size(0));
    const int64_t wide = (tiles_of(frame.depth.size(1)) + kMostLanes - 1) / kMostLanes * kMostLanes + kMostLanes;
    const std::unique_ptr<float[]> tiles = tile(kernel, frame.depth, wide);
    const Test test{data<float>(frame.pose), data<float>(frame.depth), tiles.get(), static_cast<int32_t>(wide),
                    static_cast<int32_t>(high * wide), static_cast<float>(near), frame.absolute, static_cast<float>(relative)};
    const Vote vote(scan, frame, test, {static_cast<float>(cut_share), cut_points}, kernel);
    counted[i].resize(cuts.size() - 1);
    run_tasks(cuts.size() - 1, [&](int64_t k) { vote.share(cuts[k], cuts[k + 1], counted[i][k]); });
  });
  for (const std::vector<Rows>& shares : counted)
    for (const Rows& share : shares) {
      check(!share.bad_id, "lift_vote: a mask id is out of range");
      check(!share.bad_piece, "lift_vote: pieces must ascend");
    }
  Tensor rows = empty(x, {static_cast<int64_t>(count), kTables}, ScalarType::Long);
  int64_t* of_frame = mutable_data<int64_t>(rows);
  return {gather(x, counted, &Rows::seen, of_frame), gather(x, counted, &Rows::votes, of_frame + 1),
          gather(x, counted, &Rows::piece_seen, of_frame + 2), gather(x, counted, &Rows::piece_votes, of_frame + 3), rows};
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("lift_vote", TORCH_BOX(&pc3d::lift_vote)); }

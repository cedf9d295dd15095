#include "segment.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "by_segment.h"
#include "cuda_call.h"
#include "segment_kernels.h"

namespace pc3d {
namespace {

using segment::tile_rows;

struct Groups {
  const int64_t *order, *offsets, *tiles;
  int64_t num_rows, num_segments;
};

Groups checked_groups(const Tensor& x, const Tensor& order, const Tensor& offsets, const Tensor& tiles) {
  check(x.dim() == 2 && order.dim() == 1 && order.size(0) == x.size(0), "segment op: x must be (N, C) and order (N,)");
  check(offsets.dim() == 1 && tiles.dim() == 1 && offsets.size(0) == tiles.size(0) && offsets.size(0) > 0,
        "segment op: offsets and tiles must be (S + 1,)");
  check(order.scalar_type() == ScalarType::Long && offsets.scalar_type() == ScalarType::Long &&
            tiles.scalar_type() == ScalarType::Long,
        "segment op: order, offsets and tiles must be int64");
  check(same_device(x, order) && same_device(x, offsets) && same_device(x, tiles),
        "segment op: x and its grouping must be on one device");
  check(order.is_contiguous() && offsets.is_contiguous() && tiles.is_contiguous(), "segment op: grouping must be contiguous");
  return {data<int64_t>(order), data<int64_t>(offsets), data<int64_t>(tiles), order.size(0), offsets.size(0) - 1};
}

// Calls body(channel, width as a constant) over all channels, eight at a time while there are eight.
template <class Body>
void by_channels(int64_t channels, const Body& body) {
  int64_t c = 0;
  for (; c + 8 <= channels; c += 8) body(c, std::integral_constant<int, 8>());
  for (; c < channels; ++c) body(c, std::integral_constant<int, 1>());
}

// Work per thread of about 32k numbers; results do not depend on it.
int64_t grain(int64_t numbers_per_item) { return std::max<int64_t>(1, 32768 / std::max<int64_t>(1, numbers_per_item)); }

// Calls body(tile, its number, its segment) for the tiles [begin, end).
template <class Body>
void each_tile(const Groups& g, int64_t begin, int64_t end, const Body& body) {
  int64_t s = segment::segment_of_tile(g.tiles, g.num_segments, begin);
  for (int64_t t = begin; t < end; ++t) {
    while (g.tiles[s + 1] <= t) ++s;
    body(segment::tile_of(g.offsets, g.tiles, s, t), t, s);
  }
}

bool is_one_tile(const Groups& g, int64_t s) { return g.tiles[s + 1] - g.tiles[s] == 1; }

// Space for what tiles give, before those of a segment are put together. A segment of one tile, as voxels are, needs none.
template <class T>
std::unique_ptr<T[]> uninitialised(int64_t count) { return std::unique_ptr<T[]>(new T[count]); }

template <class T>
void cpu_sum(const T* x, const Groups& g, int64_t channels, T* out) {
  const int64_t num_tiles = g.tiles[g.num_segments];
  const auto partial = uninitialised<T>(num_tiles * channels);
  torch::stable::parallel_for(0, num_tiles, grain(tile_rows * channels), [&](int64_t begin, int64_t end) {
    each_tile(g, begin, end, [&](const segment::Tile& tile, int64_t t, int64_t s) {
      T* to = is_one_tile(g, s) ? out + s * channels : partial.get() + t * channels;
      by_channels(channels, [&](int64_t c, auto width) {
        segment::sum_tile<width.value>(x + c, g.order, tile, channels, to + c);
      });
    });
  });
  torch::stable::parallel_for(0, g.num_segments, grain(channels), [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s)
      for (int64_t c = 0; c < channels && !is_one_tile(g, s); ++c) {
        T total = 0;
        for (int lane = 0; lane < segment::merge_lanes; ++lane)
          total += segment::sum_lane(partial.get() + c, g.tiles[s], g.tiles[s + 1], channels, lane);
        out[s * channels + c] = total;
      }
  });
}

template <class T>
void cpu_max(const T* x, const Groups& g, int64_t channels, T* out, int64_t* out_row) {
  const int64_t num_tiles = g.tiles[g.num_segments];
  const auto partial = uninitialised<T>(num_tiles * channels);
  const auto partial_row = uninitialised<int64_t>(num_tiles * channels);
  torch::stable::parallel_for(0, num_tiles, grain(tile_rows * channels), [&](int64_t begin, int64_t end) {
    each_tile(g, begin, end, [&](const segment::Tile& tile, int64_t t, int64_t s) {
      const bool whole = is_one_tile(g, s);
      T* to = whole ? out + s * channels : partial.get() + t * channels;
      int64_t* to_row = whole ? out_row + s * channels : partial_row.get() + t * channels;
      by_channels(channels, [&](int64_t c, auto width) {
        segment::max_tile<width.value>(x + c, g.order, tile, channels, to + c, to_row + c);
      });
    });
  });
  torch::stable::parallel_for(0, g.num_segments, grain(channels), [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s)
      for (int64_t c = 0; c < channels && !is_one_tile(g, s); ++c) {
        segment::Best<T> best{0, -1};
        for (int lane = 0; lane < segment::merge_lanes; ++lane)
          best = better_of(best, segment::max_lane(partial.get() + c, partial_row.get() + c, g.tiles[s], g.tiles[s + 1],
                                                   channels, lane));
        out[s * channels + c] = best.value;
        out_row[s * channels + c] = best.row;
      }
  });
}

// Calls body with a null pointer of x's element type: the ops take float32 and float64, Python widens the half types.
template <class Body>
void by_type(const Tensor& x, const Body& body) {
  if (x.scalar_type() == ScalarType::Float) return body(static_cast<float*>(nullptr));
  check(x.scalar_type() == ScalarType::Double, "segment op: x must be float32 or float64");
  body(static_cast<double*>(nullptr));
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> segment_group(const Tensor& index_in, int64_t num_segments) {
  const Tensor index = torch::stable::contiguous(index_in);
  check(index.dim() == 1 && index.scalar_type() == ScalarType::Long, "segment_group: index must be int64 (N,)");
  const int64_t count = index.size(0);
  Tensor order = empty(index, {count}, ScalarType::Long);
  Tensor offsets = zeros(index, {num_segments + 1}, ScalarType::Long);
  Tensor tiles = zeros(index, {num_segments + 1}, ScalarType::Long);
  const int64_t* segment_of = data<int64_t>(index);
  int64_t *start = mutable_data<int64_t>(offsets), *tile = mutable_data<int64_t>(tiles), *row = mutable_data<int64_t>(order);
  sort_by_segment(segment_of, count, num_segments, [](int64_t n) { return n; }, start, row);
  for (int64_t s = 0; s < num_segments; ++s) tile[s + 1] = tile[s] + (start[s + 1] - start[s] + tile_rows - 1) / tile_rows;
  return {order, offsets, tiles};
}

Tensor segment_sum(const Tensor& x_in, const Tensor&, const Tensor& order, const Tensor& offsets, const Tensor& tiles) {
  const Tensor x = torch::stable::contiguous(x_in);
  const Groups groups = checked_groups(x, order, offsets, tiles);
  Tensor out = empty(x, {groups.num_segments, x.size(1)}, x.scalar_type());
  by_type(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    cpu_sum(data<T>(x), groups, x.size(1), mutable_data<T>(out));
  });
  return out;
}

std::tuple<Tensor, Tensor> segment_max(const Tensor& x_in, const Tensor&, const Tensor& order, const Tensor& offsets,
                                       const Tensor& tiles) {
  const Tensor x = torch::stable::contiguous(x_in);
  const Groups groups = checked_groups(x, order, offsets, tiles);
  Tensor out = empty(x, {groups.num_segments, x.size(1)}, x.scalar_type());
  Tensor row = empty(x, {groups.num_segments, x.size(1)}, ScalarType::Long);
  by_type(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    cpu_max(data<T>(x), groups, x.size(1), mutable_data<T>(out), mutable_data<int64_t>(row));
  });
  return {out, row};
}

Tensor segment_expand(const Tensor& y_in, const Tensor& index_in, const Tensor&, const Tensor& offsets, const Tensor&) {
  const Tensor y = torch::stable::contiguous(y_in), index = torch::stable::contiguous(index_in);
  check(y.dim() == 2 && index.dim() == 1 && index.scalar_type() == ScalarType::Long,
        "segment_expand: y must be (S, C) and index int64 (N,)");
  check(offsets.dim() == 1 && offsets.size(0) == y.size(0) + 1, "segment_expand: offsets must be (S + 1,)");
  Tensor out = empty(y, {index.size(0), y.size(1)}, y.scalar_type());
  const size_t row_bytes = y.size(1) * y.element_size();
  const auto* from = data<char>(y);
  auto* to = mutable_data<char>(out);
  const int64_t* segment_of = data<int64_t>(index);
  torch::stable::parallel_for(0, index.size(0), grain(y.size(1)), [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) std::memcpy(to + n * row_bytes, from + segment_of[n] * row_bytes, row_bytes);
  });
  return out;
}

#ifdef PC3D_CUDA
namespace {

segment::Shape launch_shape(const Tensor& x, const Groups& groups) {
  return {groups.num_segments, x.size(1), groups.num_rows / tile_rows + groups.num_segments};
}

Tensor segment_sum_cuda(const Tensor& x_in, const Tensor&, const Tensor& order, const Tensor& offsets,
                        const Tensor& tiles) {
  const Tensor x = torch::stable::contiguous(x_in);
  const Groups groups = checked_groups(x, order, offsets, tiles);
  const segment::Shape shape = launch_shape(x, groups);
  Tensor out = zeros(x, {shape.num_segments, shape.channels}, x.scalar_type());
  if (x.numel() == 0 || out.numel() == 0) return out;
  const OnDevice on(x);
  Tensor partial = empty(x, {shape.max_tiles, shape.channels}, x.scalar_type());
  by_type(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    segment::cuda_sum(data<T>(x), groups.order, groups.offsets, groups.tiles, shape, mutable_data<T>(partial),
                      mutable_data<T>(out), on.stream());
  });
  check_launch("segment_sum");
  return out;
}

std::tuple<Tensor, Tensor> segment_max_cuda(const Tensor& x_in, const Tensor&, const Tensor& order, const Tensor& offsets,
                                            const Tensor& tiles) {
  const Tensor x = torch::stable::contiguous(x_in);
  const Groups groups = checked_groups(x, order, offsets, tiles);
  const segment::Shape shape = launch_shape(x, groups);
  Tensor out = zeros(x, {shape.num_segments, shape.channels}, x.scalar_type());
  Tensor row = empty(x, {shape.num_segments, shape.channels}, ScalarType::Long);
  torch::stable::fill_(row, -1);
  if (x.numel() == 0 || out.numel() == 0) return {out, row};
  const OnDevice on(x);
  Tensor partial = empty(x, {shape.max_tiles, shape.channels}, x.scalar_type());
  Tensor partial_row = empty(x, {shape.max_tiles, shape.channels}, ScalarType::Long);
  by_type(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    segment::cuda_max(data<T>(x), groups.order, groups.offsets, groups.tiles, shape, mutable_data<T>(partial),
                      mutable_data<int64_t>(partial_row), mutable_data<T>(out), mutable_data<int64_t>(row), on.stream());
  });
  check_launch("segment_max");
  return {out, row};
}

}  // namespace
#endif

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) {
  m.impl("segment_group", TORCH_BOX(&pc3d::segment_group));
  m.impl("segment_sum", TORCH_BOX(&pc3d::segment_sum));
  m.impl("segment_max", TORCH_BOX(&pc3d::segment_max));
  m.impl("segment_expand", TORCH_BOX(&pc3d::segment_expand));
}

#ifdef PC3D_CUDA
STABLE_TORCH_LIBRARY_IMPL(pc3d, CUDA, m) {
  m.impl("segment_sum", TORCH_BOX(&pc3d::segment_sum_cuda));
  m.impl("segment_max", TORCH_BOX(&pc3d::segment_max_cuda));
}
#endif

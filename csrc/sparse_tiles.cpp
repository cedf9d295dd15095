#include "sparse_tiles.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "cuda_call.h"
#include "host_block.h"

namespace pc3d {
namespace {

using tiles::Chunk;
using tiles::Convolution;
using tiles::Type;
using tiles::WeightGradient;

// Enough blocks for every multiprocessor of a large GPU to have two. Sizes alone decide, so that results do not depend on it.
constexpr int64_t kWantedBlocks = 264, kMostSplits = 8, kLeastSteps = 16;
constexpr int64_t kLeastPiece = 1024, kMostPieces = 512;

// Blocks of threads, played here by the CPU, run below by a GPU.
struct OnHost {
  OnHost(const Tensor&, bool late) : late(late) {}

  template <class Kind>
  void convolve(int64_t tile_rows, const Convolution& problem, void* out) const {
    tiles::with_body<Kind>(tile_rows, problem, [&](const auto& body) { play(body); });
    if (problem.splits > 1) each(tiles::merge_splits<Kind>(problem, out), problem.num_out * problem.columns);
  }
  template <class Kind>
  void weight_gradient(const WeightGradient& problem, void* out) const {
    play(typename Kind::Gradient{problem});
    each(tiles::merge_pieces<Kind>(problem, out), problem.taps * problem.grad_columns * problem.x_columns);
  }

 private:
  template <class Body>
  void play(const Body& body) const {
    for (int64_t number = 0; number < body.blocks(); ++number) {
      tiles::HostBlock block(late);
      body(block, number);
    }
  }
  template <class Body>
  void each(const Body& body, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) body(i);
  }

  bool late;
};

#ifdef PC3D_CUDA
struct OnCuda {
  OnCuda(const Tensor& like, bool) : device(like) {}

  template <class Kind>
  void convolve(int64_t tile_rows, const Convolution& problem, void* out) const {
    tiles::cuda_convolve<Kind>(tile_rows, problem, out, device.stream());
    check_launch("sparse_conv_tiled");
  }
  template <class Kind>
  void weight_gradient(const WeightGradient& problem, void* out) const {
    tiles::cuda_weight_gradient<Kind>(problem, out, device.stream());
    check_launch("sparse_conv_tiled_weight_grad");
  }

 private:
  OnDevice device;
};
#endif

Type type_of(const Tensor& x, bool tf32) {
  switch (x.scalar_type()) {
    case ScalarType::Half: return Type::half;
    case ScalarType::BFloat16: return Type::bfloat16;
    case ScalarType::Float: return tf32 ? Type::tf32 : Type::float32;
    case ScalarType::Double: return Type::float64;
    default: throw std::invalid_argument("sparse_conv_tiled: x must be float16, bfloat16, float32 or float64");
  }
}

ScalarType sum_type(const Tensor& x) { return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float; }

// Rows as the kernels read them: contiguous, padded with zeros to whole chunks, and on a boundary of 16 bytes.
Tensor in_chunks(const Tensor& rows) {
  const int64_t numbers = sizeof(Chunk) / rows.element_size(), last = rows.size(rows.dim() - 1);
  if (const int64_t missing = ceil_div(last, numbers) * numbers - last) return torch::stable::pad(rows, {0, missing});
  const Tensor whole = torch::stable::contiguous(rows);
  return reinterpret_cast<uintptr_t>(whole.const_data_ptr()) % sizeof(Chunk) ? torch::stable::clone(whole) : whole;
}
int64_t row_chunks(const Tensor& rows) { return rows.size(rows.dim() - 1) * rows.element_size() / sizeof(Chunk); }

void check_index(const Tensor& index, const Tensor& x, ScalarType dtype) {
  check(index.scalar_type() == dtype && index.is_contiguous(), "sparse_conv_tiled: an index tensor has the wrong dtype or gaps");
  check(same_device(index, x), "sparse_conv_tiled: x, weight and tiles must be on one device");
}

// How many blocks share the steps of a tile, where tiles are few.
int64_t split_count(int64_t blocks, int64_t steps_per_tile) {
  return std::max<int64_t>(1, std::min({kMostSplits, kWantedBlocks / blocks, steps_per_tile / kLeastSteps}));
}

void check_grid(int64_t blocks) {
  check(blocks <= std::numeric_limits<int32_t>::max(), "sparse_conv_tiled: too many blocks for one launch");
}

template <class Device>
Tensor convolve(const Tensor& x_in, const Tensor& weight_in, const Tensor& out_rows, const Tensor& step_offsets,
                const Tensor& steps, const Tensor& in_rows, int64_t num_out, bool tf32, bool late) {
  check(x_in.dim() == 2 && weight_in.dim() == 3 && weight_in.size(2) == x_in.size(1) &&
            weight_in.scalar_type() == x_in.scalar_type(),
        "sparse_conv_tiled: weight must be (out, taps, in) in the dtype of x");
  check(same_device(x_in, weight_in), "sparse_conv_tiled: x, weight and tiles must be on one device");
  check_index(out_rows, x_in, ScalarType::Int);
  check_index(step_offsets, x_in, ScalarType::Long);
  check_index(steps, x_in, ScalarType::Int);
  check_index(in_rows, x_in, ScalarType::Int);
  const int64_t tile_rows = in_rows.dim() == 2 ? in_rows.size(1) : 0, num_tiles = step_offsets.numel() - 1;
  check((tile_rows == 64 || tile_rows == 128) && num_tiles >= 0 && out_rows.numel() == num_tiles * tile_rows &&
            num_out <= out_rows.numel() && steps.numel() == 2 * in_rows.size(0),
        "sparse_conv_tiled: the parts of the tiles do not fit together");

  const int64_t columns = weight_in.size(0), taps = weight_in.size(1);
  const Type type = type_of(x_in, tf32);
  if (num_out == 0 || columns == 0 || steps.numel() == 0 || x_in.size(1) == 0)
    return zeros(x_in, {num_out, columns}, x_in.scalar_type());
  const Device device(x_in, late);
  const Tensor x = in_chunks(x_in), weight = in_chunks(weight_in);
  const Tensor y = empty(x, {num_out, columns}, x.scalar_type());
  Convolution problem{static_cast<const Chunk*>(x.const_data_ptr()), static_cast<const Chunk*>(weight.const_data_ptr()),
                      data<int32_t>(out_rows), data<int64_t>(step_offsets), data<int32_t>(steps), data<int32_t>(in_rows),
                      y.mutable_data_ptr(), num_out, num_tiles, taps, columns, row_chunks(x), 1};
  tiles::with_kind(type, [&](auto kind) {
    using Kind = decltype(kind);
    std::optional<Tensor> sums;
    tiles::with_body<Kind>(tile_rows, problem, [&](const auto& body) {
      check_grid(body.blocks() * kMostSplits);
      problem.splits = split_count(body.blocks(), in_rows.size(0) * ceil_div(problem.chunks, tiles::step_chunks) / num_tiles);
    });
    if (problem.splits > 1) {
      sums = empty(x, {problem.splits * num_out * columns}, sum_type(x));
      problem.y = sums->mutable_data_ptr();
    }
    device.template convolve<Kind>(tile_rows, problem, y.mutable_data_ptr());
  });
  return y;
}

template <class Device>
Tensor weight_gradient(const Tensor& x_in, const Tensor& grad_in, const Tensor& in_rows, const Tensor& out_rows,
                       const Tensor& tap_offsets, bool tf32, bool late) {
  check(x_in.dim() == 2 && grad_in.dim() == 2 && x_in.scalar_type() == grad_in.scalar_type(),
        "sparse_conv_tiled_weight_grad: x and grad must be matrices of one dtype");
  check(same_device(x_in, grad_in), "sparse_conv_tiled: x, weight and tiles must be on one device");
  check_index(in_rows, x_in, ScalarType::Int);
  check_index(out_rows, x_in, ScalarType::Int);
  check_index(tap_offsets, x_in, ScalarType::Long);
  check(in_rows.numel() == out_rows.numel() && tap_offsets.numel() >= 1,
        "sparse_conv_tiled_weight_grad: the parts of the map do not fit together");

  const int64_t taps = tap_offsets.numel() - 1, rows = grad_in.size(1), columns = x_in.size(1), pairs = in_rows.numel();
  const Type type = type_of(x_in, tf32);
  if (pairs == 0 || rows == 0 || columns == 0) return zeros(x_in, {rows, taps, columns}, x_in.scalar_type());
  const Device device(x_in, late);
  const Tensor x = in_chunks(x_in), grad = in_chunks(grad_in);
  const int64_t piece_pairs = std::max(kLeastPiece, ceil_div(pairs, kMostPieces)), pieces = pairs / piece_pairs + taps;
  const Tensor partial = empty(x, {pieces * rows * columns}, sum_type(x));
  const Tensor result = empty(x, {rows, taps, columns}, x.scalar_type());
  const WeightGradient problem{static_cast<const Chunk*>(x.const_data_ptr()), static_cast<const Chunk*>(grad.const_data_ptr()),
                               data<int32_t>(in_rows), data<int32_t>(out_rows), data<int64_t>(tap_offsets),
                               partial.mutable_data_ptr(), taps, columns, row_chunks(x), rows, row_chunks(grad), piece_pairs,
                               pieces};
  tiles::with_kind(type, [&](auto kind) {
    using Kind = decltype(kind);
    check_grid(typename Kind::Gradient{problem}.blocks());
    device.template weight_gradient<Kind>(problem, result.mutable_data_ptr());
  });
  return result;
}

Tensor twin_convolve(Tensor x, Tensor weight, Tensor out_rows, Tensor step_offsets, Tensor steps, Tensor in_rows,
                     int64_t num_out, bool tf32, bool late) {
  return convolve<OnHost>(x, weight, out_rows, step_offsets, steps, in_rows, num_out, tf32, late);
}
Tensor twin_weight_gradient(Tensor x, Tensor grad, Tensor in_rows, Tensor out_rows, Tensor tap_offsets, bool tf32, bool late) {
  return weight_gradient<OnHost>(x, grad, in_rows, out_rows, tap_offsets, tf32, late);
}

#ifdef PC3D_CUDA
Tensor cuda_convolve(Tensor x, Tensor weight, Tensor out_rows, Tensor step_offsets, Tensor steps, Tensor in_rows,
                     int64_t num_out, bool tf32) {
  return convolve<OnCuda>(x, weight, out_rows, step_offsets, steps, in_rows, num_out, tf32, false);
}
Tensor cuda_weight_gradient(Tensor x, Tensor grad, Tensor in_rows, Tensor out_rows, Tensor tap_offsets, bool tf32) {
  return weight_gradient<OnCuda>(x, grad, in_rows, out_rows, tap_offsets, tf32, false);
}
#endif

}  // namespace
}  // namespace pc3d

// The twins run the bodies of the CUDA kernels on the CPU, thread by thread, for the tests. `late`: see HostBlock.
STABLE_TORCH_LIBRARY_FRAGMENT(pc3d, m) {
  m.def("twin_sparse_conv_tiled(Tensor x, Tensor weight, Tensor out_rows, Tensor step_offsets, Tensor steps, Tensor in_rows,"
        " int num_out, bool tf32, bool late) -> Tensor");
  m.def("twin_sparse_conv_tiled_weight_grad(Tensor x, Tensor grad, Tensor in_rows, Tensor out_rows, Tensor tap_offsets,"
        " bool tf32, bool late) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) {
  m.impl("twin_sparse_conv_tiled", TORCH_BOX(&pc3d::twin_convolve));
  m.impl("twin_sparse_conv_tiled_weight_grad", TORCH_BOX(&pc3d::twin_weight_gradient));
}
#ifdef PC3D_CUDA
STABLE_TORCH_LIBRARY_IMPL(pc3d, CUDA, m) {
  m.impl("sparse_conv_tiled", TORCH_BOX(&pc3d::cuda_convolve));
  m.impl("sparse_conv_tiled_weight_grad", TORCH_BOX(&pc3d::cuda_weight_gradient));
}
#endif

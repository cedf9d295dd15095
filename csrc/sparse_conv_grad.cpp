// The weight gradient of the sparse convolution; see sparse_conv.h.

#include "pc3d.h"
#include "sparse_conv.h"
#include "sparse_conv_blocks.h"
#include "tasks.h"

#include <algorithm>
#include <vector>

namespace pc3d {
namespace {

template <class T>
const GradKernels<T>& kernels();
template <>
const GradKernels<double>& kernels<double>() { return plain_grad_double; }
template <>
const GradKernels<float>& kernels<float>() {
#if defined(__x86_64__)
  const Isa isa = best_isa();
  if (isa >= Isa::avx512) return avx512_grad_float;
  if (isa == Isa::avx2) return avx2_grad_float;
#endif
  return plain_grad_float;
}

constexpr int64_t kGradBlock = 512;        // outputs whose rows stay cached while all taps use them
constexpr int64_t kGradChunk = 8192;       // outputs per partial sum of dW, at least
constexpr int64_t kMaxGradChunks = 16;
constexpr int64_t kMinGradTasks = 8;

// How dW is shared out: `chunks` partial sums over outputs, each in `groups` of taps. Both depend on sizes only.
struct GradPlan {
  GradPlan(int64_t blocks, int64_t taps)
      : chunks(std::clamp<int64_t>(blocks * kGradBlock / kGradChunk, 1, kMaxGradChunks)),
        groups(std::min(taps, ceil_div(kMinGradTasks, chunks))) {}
  int64_t chunks, groups;
};

// Add the partial sums (chunk, tap, in, padded out) in order into dW (out, tap, in).
template <class T>
void sum_chunks(const T* partial, int64_t chunks, int64_t taps, int64_t channels, int64_t columns, int64_t stride, T* grad) {
  run_tasks(taps, [&](int64_t tap) {
    std::vector<T> sum(stride);
    for (int64_t c = 0; c < channels; ++c) {
      std::fill(sum.begin(), sum.end(), T(0));
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const T* row = partial + ((chunk * taps + tap) * channels + c) * stride;
        for (int64_t j = 0; j < columns; ++j) sum[j] += row[j];
      }
      for (int64_t j = 0; j < columns; ++j) grad[(j * taps + tap) * channels + c] = sum[j];
    }
  });
}

template <class T>
Tensor weight_gradient(const Tensor& x, const Tensor& dy, const Tensor& in_rows, const Tensor& out_rows,
                       const Tensor& tap_offsets) {
  const GradKernels<T>& kernel = kernels<T>();
  const int64_t channels = x.size(1), columns = dy.size(1);
  const Panels panels(columns, kernel.width, kernel.max_vectors);
  const BlockedMap map(in_rows, out_rows, tap_offsets, x.size(0), dy.size(0), kGradBlock);
  const GradPlan plan(map.blocks(), map.taps());
  const int64_t taps = map.taps(), stride = panels.vectors * panels.width;
  Tensor partial = empty(x, {plan.chunks * taps * channels * stride}, x.scalar_type());
  run_tasks(plan.chunks * plan.groups, [&](int64_t task) {
    const int64_t chunk = task / plan.groups, group = task % plan.groups;
    const int64_t first_tap = taps * group / plan.groups, last_tap = taps * (group + 1) / plan.groups;
    T* sums = mutable_data<T>(partial) + chunk * taps * channels * stride;
    std::fill(sums + first_tap * channels * stride, sums + last_tap * channels * stride, T(0));
    for (int64_t b = map.blocks() * chunk / plan.chunks; b < map.blocks() * (chunk + 1) / plan.chunks; ++b)
      for (int64_t tap = first_tap; tap < last_tap; ++tap)
        for (int64_t p = 0; p < panels.count; ++p)
          kernel.outer(data<T>(x), channels, data<T>(dy) + panels.first_column(p), columns, panels.columns(p),
                       sums + tap * channels * stride + panels.first_column(p), stride, map.pairs(tap, b));
  });
  Tensor grad = empty(x, {columns, taps, channels}, x.scalar_type());
  sum_chunks(data<T>(partial), plan.chunks, taps, channels, columns, stride, mutable_data<T>(grad));
  return grad;
}

}  // namespace

Tensor sparse_conv_weight_grad(Tensor x, Tensor grad, Tensor in_rows, Tensor out_rows, Tensor tap_offsets) {
  check_map(in_rows, out_rows, tap_offsets);
  check(x.dim() == 2 && grad.dim() == 2, "sparse_conv_weight_grad: x and grad must be matrices");
  check(x.scalar_type() == grad.scalar_type(), "sparse_conv_weight_grad: x and grad need one dtype");
  if (x.scalar_type() == ScalarType::BFloat16)
    return narrowed(sparse_conv_weight_grad(widened(x), widened(grad), in_rows, out_rows, tap_offsets));
  x = torch::stable::contiguous(x);
  grad = torch::stable::contiguous(grad);
  if (x.scalar_type() == ScalarType::Double) return weight_gradient<double>(x, grad, in_rows, out_rows, tap_offsets);
  check(x.scalar_type() == ScalarType::Float, "sparse_conv_weight_grad: x must be float64, float32 or bfloat16");
  return weight_gradient<float>(x, grad, in_rows, out_rows, tap_offsets);
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) {
  m.impl("sparse_conv_weight_grad", TORCH_BOX(&pc3d::sparse_conv_weight_grad));
}

#include "sparse_conv.h"

#include "pc3d.h"
#include "tasks.h"

#include <algorithm>
#include <vector>

namespace pc3d {
namespace {

template <class T>
const ConvKernels<T>& kernels();
template <>
const ConvKernels<double>& kernels<double>() { return plain_conv_double; }
template <>
const ConvKernels<float>& kernels<float>() {
#if defined(__x86_64__)
  const Isa isa = best_isa();
  if (isa >= Isa::avx512) return avx512_conv_float;
  if (isa == Isa::avx2) return avx2_conv_float;
#endif
  return plain_conv_float;
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A kernel map, with the pairs of each tap cut at every `block` output rows.
class BlockedMap {
 public:
  BlockedMap(const Tensor& in_rows, const Tensor& out_rows, const Tensor& tap_offsets, int64_t num_in, int64_t num_out,
             int64_t block)
      : in_(data<int32_t>(in_rows)), out_(data<int32_t>(out_rows)), tap_(data<int64_t>(tap_offsets)),
        taps_(tap_offsets.numel() - 1), block_(block), num_out_(num_out), blocks_(ceil_div(num_out, block)),
        starts_(taps_ * (blocks_ + 1)) {
    check(tap_[0] == 0 && tap_[taps_] == in_rows.numel(), "sparse_conv: tap_offsets do not cover the pairs");
    for (int64_t k = 0; k < taps_; ++k) check_ends(tap_[k], tap_[k + 1], num_in, num_out);
    run_tasks(taps_, [this](int64_t k) { cut(k); });
  }

  int64_t taps() const { return taps_; }
  int64_t blocks() const { return blocks_; }
  int64_t begin(int64_t block) const { return block * block_; }
  int64_t end(int64_t block) const { return std::min(num_out_, (block + 1) * block_); }
  Pairs pairs(int64_t tap, int64_t block) const {
    const int64_t* start = starts_.data() + tap * (blocks_ + 1) + block;
    return {in_ + start[0], out_ + start[0], start[1] - start[0]};
  }

 private:
  // Rows of a tap ascend, so its ends bound them all.
  void check_ends(int64_t first, int64_t last, int64_t num_in, int64_t num_out) const {
    check(first <= last, "sparse_conv: tap_offsets must ascend");
    if (first == last) return;
    check(in_[first] >= 0 && in_[last - 1] < num_in, "sparse_conv: in_rows are out of range");
    check(out_[first] >= 0 && out_[last - 1] < num_out, "sparse_conv: out_rows are out of range");
  }

  void cut(int64_t tap) {
    int64_t* start = starts_.data() + tap * (blocks_ + 1);
    const int64_t last = tap_[tap + 1];
    start[0] = tap_[tap];
    for (int64_t b = 0; b < blocks_; ++b) {  // a tap has at most one pair for each output
      const int64_t limit = std::min(last, start[b] + block_);
      start[b + 1] = std::lower_bound(out_ + start[b], out_ + limit, static_cast<int32_t>(end(b))) - out_;
    }
  }

  const int32_t *in_, *out_;
  const int64_t* tap_;
  int64_t taps_, block_, num_out_, blocks_;
  std::vector<int64_t> starts_;
};

// Output channels cut into panels of whole vectors, as even as can be.
struct Panels {
  Panels(int64_t channels, int width, int max_vectors)
      : channels(channels), width(width), vectors(ceil_div(channels, width)), count(ceil_div(vectors, max_vectors)) {}

  int64_t first_vector(int64_t panel) const { return vectors * panel / count; }
  int64_t first_column(int64_t panel) const { return first_vector(panel) * width; }
  int64_t padded(int64_t panel) const { return first_column(panel + 1) - first_column(panel); }
  int64_t columns(int64_t panel) const { return std::min(channels, first_column(panel + 1)) - first_column(panel); }

  int64_t channels, width, vectors, count;
};

// The weight (out, taps, in), in any memory order, as [panel][tap][in][padded columns].
template <class T>
Tensor packed_weight(const Tensor& weight, const Panels& panels) {
  const int64_t taps = weight.size(1), channels = weight.size(2);
  const int64_t out_step = weight.stride(0), tap_step = weight.stride(1), in_step = weight.stride(2);
  Tensor packed = empty(weight, {taps * channels * panels.vectors * panels.width}, weight.scalar_type());
  const T* from = data<T>(weight);
  T* to = mutable_data<T>(packed);
  run_tasks(panels.count * taps, [&](int64_t task) {
    const int64_t panel = task / taps, tap = task % taps;
    const int64_t width = panels.padded(panel), columns = panels.columns(panel);
    const T* source = from + panels.first_column(panel) * out_step + tap * tap_step;
    T* row = to + taps * channels * panels.first_column(panel) + tap * channels * width;
    for (int64_t c = 0; c < channels; ++c, row += width) {
      for (int64_t j = 0; j < columns; ++j) row[j] = source[j * out_step + c * in_step];
      std::fill(row + columns, row + width, T(0));
    }
  });
  return packed;
}

// Outputs per block: enough to use the weights of a panel again while they are cached, yet tasks for all threads.
int64_t block_size(int64_t num_out, int64_t panels, int64_t weight_bytes) {
  int64_t block = weight_bytes <= 512 * 1024 ? 256 : 1024;
  while (block > 64 && ceil_div(num_out, block) * panels < 8) block /= 2;
  return block;
}

template <class T>
Tensor convolve(const Tensor& x, const Tensor& weight, const Tensor& in_rows, const Tensor& out_rows, const Tensor& tap_offsets,
                int64_t num_out) {
  const ConvKernels<T>& kernel = kernels<T>();
  const int64_t columns = weight.size(0), channels = weight.size(2), taps = weight.size(1);
  const Panels panels(columns, kernel.width, kernel.max_vectors);
  const int64_t panel_bytes = taps * channels * (panels.count ? panels.padded(0) : 0) * sizeof(T);
  const BlockedMap map(in_rows, out_rows, tap_offsets, x.size(0), num_out, block_size(num_out, panels.count, panel_bytes));
  const Tensor packed = packed_weight<T>(weight, panels);
  Tensor y = empty(x, {num_out, columns}, x.scalar_type());
  const T* w = data<T>(packed);
  run_tasks(panels.count * map.blocks(), [&](int64_t task) {
    const int64_t panel = task / map.blocks(), block = task % map.blocks();
    const int64_t first = panels.first_column(panel), width = panels.columns(panel);
    T* out = mutable_data<T>(y) + first;
    for (int64_t row = map.begin(block); row < map.end(block); ++row) std::fill_n(out + row * columns, width, T(0));
    for (int64_t tap = 0; tap < taps; ++tap) {
      const T* tap_weight = w + taps * channels * first + tap * channels * panels.padded(panel);
      kernel.multiply(data<T>(x), channels, tap_weight, out, columns, width, map.pairs(tap, block));
    }
  });
  return y;
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
  const ConvKernels<T>& kernel = kernels<T>();
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

void check_map(const Tensor& in_rows, const Tensor& out_rows, const Tensor& tap_offsets) {
  check(in_rows.scalar_type() == ScalarType::Int && out_rows.scalar_type() == ScalarType::Int,
        "sparse_conv: rows must be int32");
  check(in_rows.is_contiguous() && out_rows.is_contiguous(), "sparse_conv: rows must be contiguous");
  check(in_rows.numel() == out_rows.numel(), "sparse_conv: in_rows and out_rows must be equally many");
  check(tap_offsets.scalar_type() == ScalarType::Long && tap_offsets.is_contiguous() && tap_offsets.numel() >= 1,
        "sparse_conv: tap_offsets must be contiguous int64");
}

}  // namespace

Tensor sparse_conv(Tensor x, Tensor weight, Tensor in_rows, Tensor out_rows, Tensor tap_offsets, int64_t num_out) {
  check_map(in_rows, out_rows, tap_offsets);
  check(x.dim() == 2 && weight.dim() == 3 && weight.size(2) == x.size(1) && weight.size(1) == tap_offsets.numel() - 1,
        "sparse_conv: weight must be (out, taps, in)");
  check(x.scalar_type() == weight.scalar_type(), "sparse_conv: x and weight need one dtype");
  x = torch::stable::contiguous(x);
  if (x.scalar_type() == ScalarType::Double) return convolve<double>(x, weight, in_rows, out_rows, tap_offsets, num_out);
  check(x.scalar_type() == ScalarType::Float, "sparse_conv: x must be float32 or float64");
  return convolve<float>(x, weight, in_rows, out_rows, tap_offsets, num_out);
}

Tensor sparse_conv_weight_grad(Tensor x, Tensor grad, Tensor in_rows, Tensor out_rows, Tensor tap_offsets) {
  check_map(in_rows, out_rows, tap_offsets);
  check(x.dim() == 2 && grad.dim() == 2, "sparse_conv_weight_grad: x and grad must be matrices");
  check(x.scalar_type() == grad.scalar_type(), "sparse_conv_weight_grad: x and grad need one dtype");
  x = torch::stable::contiguous(x);
  grad = torch::stable::contiguous(grad);
  if (x.scalar_type() == ScalarType::Double) return weight_gradient<double>(x, grad, in_rows, out_rows, tap_offsets);
  check(x.scalar_type() == ScalarType::Float, "sparse_conv_weight_grad: x must be float32 or float64");
  return weight_gradient<float>(x, grad, in_rows, out_rows, tap_offsets);
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) {
  m.impl("sparse_conv", TORCH_BOX(&pc3d::sparse_conv));
  m.impl("sparse_conv_weight_grad", TORCH_BOX(&pc3d::sparse_conv_weight_grad));
}

#include "sparse_conv.h"

#include "large_pages.h"
#include "pc3d.h"
#include "sparse_conv_amx.h"
#include "sparse_conv_blocks.h"
#include "tasks.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <optional>
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
#if PC3D_AMX
  if (isa == Isa::amx) return amx_conv_float;
#endif
  if (isa >= Isa::avx512) return avx512_conv_float;
  if (isa == Isa::avx2) return avx2_conv_float;
#endif
  return plain_conv_float;
}
#if defined(__x86_64__)
template <>
const ConvKernels<Bf16>& kernels<Bf16>() {
#if PC3D_AMX
  if (best_isa() == Isa::amx) return amx_conv_bf16;
#endif
  return avx512bf16_conv;
}
#endif

bool multiplies_bf16() { return best_isa() >= Isa::avx512bf16; }

constexpr int64_t kPanelBytes = 1536 * 1024;  // weights of a panel, which all blocks of outputs read again
constexpr int64_t kSumBytes = 256 * 1024;     // sums of a block and panel, which all taps add to
constexpr int64_t kMinTasks = 8;

template <class T>
Inputs<T> inputs_of(const std::vector<Tensor>& xs) {
  Inputs<T> inputs{static_cast<int>(xs.size()), {}, {}};
  for (size_t i = 0; i < xs.size(); ++i) {
    inputs.rows[i] = data<T>(xs[i]);
    inputs.channels[i] = xs[i].size(1);
  }
  return inputs;
}

template <class T>
Panels panels_of(const ConvKernels<T>& kernel, const Inputs<T>& x, int64_t columns, int64_t taps) {
  const int64_t vector_bytes = std::max<int64_t>(1, taps * kernel.tap_bytes(x, 1));
  return Panels(columns, kernel.width, std::clamp<int64_t>(kPanelBytes / vector_bytes, 1, kernel.max_vectors));
}

// The weight (out, taps, in), in any memory order, as [panel][tap] of what the kernel wants.
template <class T>
Tensor packed_weight(const Tensor& weight, const Inputs<T>& x, const ConvKernels<T>& kernel, const Panels& panels) {
  const int64_t taps = weight.size(1);
  const int64_t vector_bytes = taps * kernel.tap_bytes(x, 1);
  Tensor packed = empty(weight, {panels.vectors * vector_bytes}, ScalarType::Byte);
  const T* from = data<T>(weight);
  uint8_t* to = mutable_data<uint8_t>(packed);
  run_tasks(panels.count * taps, [&](int64_t task) {
    const int64_t panel = task / taps, tap = task % taps, vectors = panels.vectors_of(panel);
    const T* source = from + panels.first_column(panel) * weight.stride(0) + tap * weight.stride(1);
    kernel.pack({source, weight.stride(0), weight.stride(2), panels.columns(panel)}, x, vectors,
                to + panels.first_vector(panel) * vector_bytes + tap * kernel.tap_bytes(x, vectors));
  });
  return packed;
}

// Outputs per block: as many as keep their sums cached, yet tasks for all threads.
int64_t block_size(int64_t num_out, int64_t panels, int64_t row_bytes) {
  int64_t block = 2048;
  while (block > 64 && (block * row_bytes > kSumBytes || ceil_div(num_out, block) * panels < kMinTasks)) block /= 2;
  return block;
}

// What a thread needs for its tasks: sums of one block, on whole cache lines.
template <class T>
class Worker {
 public:
  Worker(const ConvKernels<T>& kernel, int64_t sums)
      : kernel_(kernel), sums_(static_cast<Sum<T>*>(std::aligned_alloc(64, ceil_div(sums * sizeof(Sum<T>), 64) * 64)), &std::free) {
    if (kernel_.enter) kernel_.enter(true);
  }
  ~Worker() {
    if (kernel_.enter) kernel_.enter(false);
  }
  Sum<T>* sums() const { return sums_.get(); }

 private:
  const ConvKernels<T>& kernel_;
  std::unique_ptr<Sum<T>[], decltype(&std::free)> sums_;
};

// Scales and shifts of normalisations, padded to whole vectors.
template <class T>
class Norms {
 public:
  Norms(const std::vector<Tensor>& scales, const std::vector<Tensor>& shifts, int64_t padded)
      : padded_(padded), values_(2 * scales.size() * padded) {
    for (size_t n = 0; n < scales.size(); ++n) {
      std::copy_n(data<Sum<T>>(scales[n]), scales[n].numel(), values_.begin() + 2 * n * padded);
      std::copy_n(data<Sum<T>>(shifts[n]), shifts[n].numel(), values_.begin() + (2 * n + 1) * padded);
    }
  }
  const Sum<T>* scale(int n) const { return values_.data() + 2 * n * padded_; }
  const Sum<T>* shift(int n) const { return scale(n) + padded_; }

 private:
  int64_t padded_;
  std::vector<Sum<T>> values_;
};

struct Call {
  std::vector<Tensor> xs;
  Tensor weight;
  std::optional<Tensor> packed;
  Tensor in_rows, out_rows, tap_offsets;
  int64_t num_out;
  std::optional<Tensor> residual;
  std::vector<Tensor> scales, shifts;
  bool raw;
  std::vector<Tensor> results;  // raw sums if wanted, then one matrix for each normalisation
};

template <class T>
void convolve(const Call& call) {
  const ConvKernels<T>& kernel = kernels<T>();
  const Inputs<T> x = inputs_of<T>(call.xs);
  const int64_t columns = call.weight.size(0), taps = call.weight.size(1), norms = call.scales.size();
  const Panels panels = panels_of(kernel, x, columns, taps);
  const int64_t most = panels.count ? (ceil_div(panels.vectors, panels.count)) * panels.width : 0;
  const int64_t block = block_size(call.num_out, panels.count, most * sizeof(Sum<T>));
  const BlockedMap map(call.in_rows, call.out_rows, call.tap_offsets, call.xs[0].size(0), call.num_out, block);
  const Tensor packed = call.packed ? *call.packed : packed_weight(call.weight, x, kernel, panels);
  check(packed.is_cpu() && packed.is_contiguous() && packed.numel() == panels.vectors * taps * kernel.tap_bytes(x, 1),
        "sparse_conv: packed is not this weight, or was packed for another instruction set");
  const Norms<T> norm(call.scales, call.shifts, panels.vectors * panels.width);
  for (const Tensor& y : call.results) prefer_large_pages(y.mutable_data_ptr(), y.numel() * sizeof(T));

  const auto outputs = [&](int64_t row, int64_t column) {
    const int64_t at = row * columns + column;
    Outputs<T> y{};
    y.stride = columns;
    y.residual = call.residual ? data<T>(*call.residual) + at : nullptr;
    y.raw = call.raw ? mutable_data<T>(call.results[0]) + at : nullptr;
    y.norms = static_cast<int>(norms);
    for (int n = 0; n < y.norms; ++n) {
      y.scale[n] = norm.scale(n) + column;
      y.shift[n] = norm.shift(n) + column;
      y.activated[n] = mutable_data<T>(call.results[call.raw + n]) + at;
    }
    return y;
  };
  const auto make_worker = [&] { return Worker<T>(kernel, block * most); };
  run_tasks(panels.count * map.blocks(), make_worker, [&](const Worker<T>& worker, int64_t task) {
    const int64_t panel = task / map.blocks(), b = task % map.blocks(), vectors = panels.vectors_of(panel);
    const int64_t first = map.begin(b), rows = map.end(b) - first, stride = vectors * panels.width;
    const uint8_t* w = data<uint8_t>(packed) + taps * panels.first_vector(panel) * kernel.tap_bytes(x, 1);
    std::fill_n(worker.sums(), rows * stride, Sum<T>(0));
    for (int64_t tap = 0; tap < taps; ++tap)
      kernel.multiply(x, w + tap * kernel.tap_bytes(x, vectors), vectors, worker.sums(), first, map.pairs(tap, b));
    kernel.finish(worker.sums(), stride, rows, panels.columns(panel), outputs(first, panels.first_column(panel)));
  });
}

// Every matrix of a call in float32, the results in bfloat16 again.
void convolve_widened(Call call) {
  const std::vector<Tensor> results = call.results;
  for (Tensor& x : call.xs) x = widened(x);
  call.weight = widened(call.weight);
  if (call.residual) call.residual = widened(*call.residual);
  for (Tensor& y : call.results) y = empty(y, {call.num_out, call.weight.size(0)}, ScalarType::Float);
  convolve<float>(call);
  for (size_t i = 0; i < results.size(); ++i) narrow(call.results[i], results[i]);
}

void dispatch(const Call& call) {
  switch (call.weight.scalar_type()) {
    case ScalarType::Double: return convolve<double>(call);
    case ScalarType::Float: return convolve<float>(call);
    case ScalarType::BFloat16:
#if defined(__x86_64__)
      if (multiplies_bf16()) return convolve<Bf16>(call);
#endif
      return convolve_widened(call);
    default: check(false, "sparse_conv: x must be float64, float32 or bfloat16");
  }
}

void check_call(const Call& call) {
  check_map(call.in_rows, call.out_rows, call.tap_offsets);
  const Tensor& weight = call.weight;
  check(!call.xs.empty() && call.xs.size() <= kMaxInputs, "sparse_conv: one or two inputs are needed");
  int64_t channels = 0;
  for (const Tensor& x : call.xs) {
    check(x.dim() == 2 && x.size(0) == call.xs[0].size(0), "sparse_conv: inputs must be matrices of equally many rows");
    check(x.scalar_type() == weight.scalar_type(), "sparse_conv: x and weight need one dtype");
    channels += x.size(1);
  }
  check(weight.dim() == 3 && weight.size(2) == channels && weight.size(1) == call.tap_offsets.numel() - 1,
        "sparse_conv: weight must be (out, taps, in)");
  check(call.scales.size() == call.shifts.size() && call.scales.size() <= kMaxNorms,
        "sparse_conv: up to four scales, and as many shifts");
  const bool wide = weight.scalar_type() == ScalarType::Double;
  for (const auto* norms : {&call.scales, &call.shifts})
    for (const Tensor& norm : *norms)
      check(norm.dim() == 1 && norm.size(0) == weight.size(0) && norm.is_contiguous() &&
                norm.scalar_type() == (wide ? ScalarType::Double : ScalarType::Float),
            "sparse_conv: scales and shifts need a float of the sums' type for each output channel");
  const auto fits = [&](const Tensor& y) {
    return y.dim() == 2 && y.size(0) == call.num_out && y.size(1) == weight.size(0) && y.scalar_type() == weight.scalar_type();
  };
  check(!call.residual || fits(*call.residual), "sparse_conv: residual must be (outputs, out) in the dtype of the weight");
  check(call.results.size() == call.raw + call.scales.size(), "sparse_conv: a result for y, if raw, and one for each norm");
  for (const Tensor& y : call.results)
    check(fits(y) && y.is_contiguous() && y.is_cpu(), "sparse_conv: results must be (outputs, out) in the dtype of the weight");
}

std::vector<Tensor> empty_results(const Tensor& weight, int64_t num_out, int64_t count) {
  std::vector<Tensor> results;
  for (int64_t i = 0; i < count; ++i) results.push_back(empty(weight, {num_out, weight.size(0)}, weight.scalar_type()));
  return results;
}

// What a call packs its weight into, for inputs of these widths.
template <class T>
Tensor pack(const Tensor& weight, const std::vector<int64_t>& widths) {
  Inputs<T> x{static_cast<int>(widths.size()), {}, {}};
  std::copy(widths.begin(), widths.end(), x.channels);
  const ConvKernels<T>& kernel = kernels<T>();
  return packed_weight(weight, x, kernel, panels_of(kernel, x, weight.size(0), weight.size(1)));
}

}  // namespace

Tensor sparse_conv(Tensor x, Tensor weight, Tensor in_rows, Tensor out_rows, Tensor tap_offsets, int64_t num_out) {
  const Call call{{torch::stable::contiguous(x)}, weight, {}, in_rows, out_rows, tap_offsets, num_out, {}, {}, {}, true,
                  empty_results(weight, num_out, 1)};
  check_call(call);
  dispatch(call);
  return call.results[0];
}

void native_conv_norm_relu_into(std::vector<Tensor> xs, Tensor weight, std::optional<Tensor> packed, Tensor in_rows,
                                Tensor out_rows, Tensor tap_offsets, int64_t num_out, std::optional<Tensor> residual,
                                std::vector<Tensor> scales, std::vector<Tensor> shifts, bool raw, std::vector<Tensor> results) {
  for (Tensor& x : xs) x = torch::stable::contiguous(x);
  if (residual) residual = torch::stable::contiguous(*residual);
  const Call call{xs, weight, packed, in_rows, out_rows, tap_offsets, num_out, residual, scales, shifts, raw, results};
  check_call(call);
  dispatch(call);
}

std::vector<Tensor> sparse_conv_norm_relu(std::vector<Tensor> xs, Tensor weight, std::optional<Tensor> packed, Tensor in_rows,
                                          Tensor out_rows, Tensor tap_offsets, int64_t num_out, std::optional<Tensor> residual,
                                          std::vector<Tensor> scales, std::vector<Tensor> shifts, bool raw) {
  const std::vector<Tensor> results = empty_results(weight, num_out, raw + scales.size());
  native_conv_norm_relu_into(xs, weight, packed, in_rows, out_rows, tap_offsets, num_out, residual, scales, shifts, raw, results);
  return results;
}

Tensor native_pack_weight(Tensor weight, std::vector<int64_t> widths) {
  check(weight.dim() == 3, "native_pack_weight: weight must be (out, taps, in)");
  check(!widths.empty() && widths.size() <= kMaxInputs && std::accumulate(widths.begin(), widths.end(), int64_t(0)) == weight.size(2),
        "native_pack_weight: widths must be one or two that add up to the channels of the weight");
  if (weight.scalar_type() == ScalarType::Double) return pack<double>(weight, widths);
#if defined(__x86_64__)
  if (weight.scalar_type() == ScalarType::BFloat16 && multiplies_bf16()) return pack<Bf16>(weight, widths);
#endif
  return pack<float>(widened(weight), widths);
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_FRAGMENT(pc3d, m) {
  m.def("native_pack_weight(Tensor weight, int[] widths) -> Tensor");
  m.def("native_conv_norm_relu_into(Tensor[] xs, Tensor weight, Tensor? packed, Tensor in_rows, Tensor out_rows,"
        " Tensor tap_offsets, int num_out, Tensor? residual, Tensor[] scales, Tensor[] shifts, bool raw, Tensor(a!)[] results)"
        " -> ()");
}
STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) {
  m.impl("sparse_conv", TORCH_BOX(&pc3d::sparse_conv));
  m.impl("native_conv_norm_relu_into", TORCH_BOX(&pc3d::native_conv_norm_relu_into));
  m.impl("sparse_conv_norm_relu", TORCH_BOX(&pc3d::sparse_conv_norm_relu));
  m.impl("native_pack_weight", TORCH_BOX(&pc3d::native_pack_weight));
}

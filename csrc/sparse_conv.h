// Sparse convolution over a kernel map (contract in pc3d/ops/sparse_conv.py), and the innermost products it is made of.
//
//   sparse_conv:             y[o] = sum over taps k, pairs (i, o) of k:  W[:, k, :] x[i]
//   sparse_conv_norm_relu:   the same plus a residual, then relu(scale y + shift) as often as asked, in one pass
//   sparse_conv_weight_grad: dW[:, k, :] = sum over pairs (i, o) of k:  dy[o] x[i]^T
//
// Pairs of a tap ascend in both rows, so the pairs of a block of outputs are one range. Nothing is gathered: the
// products read rows of x where they lie, and the sums of a block stay in the cache while all its taps are added.
// Sums run over taps, then pairs, then channels in one order, whatever the block size or number of threads.
#pragma once

#include <cstdint>

namespace pc3d {

struct Bf16 {
  uint16_t bits;
};

// What values of a type are summed in.
template <class T>
struct Summed {
  using Type = T;
};
template <>
struct Summed<Bf16> {
  using Type = float;
};
template <class T>
using Sum = typename Summed<T>::Type;

// Some pairs of one tap: x row in[i] meets sum out[i]; rows of `out` are distinct.
struct Pairs {
  const int32_t* in;
  const int32_t* out;
  int64_t count;
};

// The input: up to kMaxInputs matrices side by side, so that a concatenation need not be made.
constexpr int kMaxInputs = 2;
template <class T>
struct Inputs {
  int count;
  const T* rows[kMaxInputs];
  int64_t channels[kMaxInputs];
};

// Weight of one tap and panel: element (column j, channel c) at w[j * out_step + c * in_step].
template <class T>
struct TapWeight {
  const T* w;
  int64_t out_step, in_step, columns;
};

// Where the sums of a block of outputs go; pointers are to its first row and column, rows are `stride` apart.
constexpr int kMaxNorms = 4;
template <class T>
struct Outputs {
  int64_t stride;
  const T* residual;  // or null
  T* raw;             // or null
  int norms;
  const Sum<T>* scale[kMaxNorms];
  const Sum<T>* shift[kMaxNorms];
  T* activated[kMaxNorms];
};

// A panel is `vectors` times `width` neighbouring output channels; `columns` of them exist, the rest is padding.
// `multiply` reads weights as `pack` laid them out, `tap_bytes` for each tap.
template <class T>
struct ConvKernels {
  int width;
  int max_vectors;
  void (*enter)(bool);             // before (true) and after a task, or null
  int64_t (*tap_bytes)(const Inputs<T>& x, int64_t vectors);
  void (*pack)(const TapWeight<T>& weight, const Inputs<T>& x, int64_t vectors, void* packed);
  // sums[out - first][0:vectors * width] += [x[0][in] | x[1][in]] w for all pairs.
  void (*multiply)(const Inputs<T>& x, const void* w, int64_t vectors, Sum<T>* sums, int64_t first, const Pairs& pairs);
  void (*finish)(const Sum<T>* sums, int64_t sums_stride, int64_t rows, int64_t columns, const Outputs<T>& y);
};

// The product of the weight gradient: d[0:channels][0:columns] += x[in]^T g[out] for all pairs; d is (channels, d_stride),
// padded to whole vectors.
template <class T>
struct GradKernels {
  int width;
  int max_vectors;
  void (*outer)(const T* x, int64_t channels, const T* g, int64_t g_stride, int64_t columns, T* d, int64_t d_stride,
                const Pairs& pairs);
};

extern const ConvKernels<float> plain_conv_float;
extern const ConvKernels<double> plain_conv_double;
extern const GradKernels<float> plain_grad_float;
extern const GradKernels<double> plain_grad_double;
#if defined(__x86_64__)
extern const ConvKernels<float> avx2_conv_float, avx512_conv_float;
extern const GradKernels<float> avx2_grad_float, avx512_grad_float;
extern const ConvKernels<Bf16> avx512bf16_conv;
extern const ConvKernels<float> amx_conv_float;
extern const ConvKernels<Bf16> amx_conv_bf16;
#endif

}  // namespace pc3d

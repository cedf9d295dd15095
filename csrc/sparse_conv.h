// Sparse convolution over a kernel map (contract in pc3d/ops/sparse_conv.py), and the innermost products it is made of.
//
//   sparse_conv:             y[o] = sum over taps k, pairs (i, o) of k:  W[:, k, :] x[i]
//   sparse_conv_weight_grad: dW[:, k, :] = sum over pairs (i, o) of k:  dy[o] x[i]^T
//
// Pairs of a tap ascend in both rows, so the pairs of a block of outputs are one range. Nothing is gathered: the
// products read rows of x where they lie, and a block of y stays in the cache while all its taps are added.
// Sums run over taps, then pairs, then channels in one order, whatever the block size or number of threads.
#pragma once

#include <cstdint>

namespace pc3d {

// Some pairs of one tap: x row in[i] meets y row out[i]; rows of `out` are distinct.
struct Pairs {
  const int32_t* in;
  const int32_t* out;
  int64_t count;
};

// A panel is up to `max_vectors` vectors of `width` neighbouring output channels; `columns` of them exist, the rest is
// padding.
template <class T>
struct ConvKernels {
  int width;
  int max_vectors;
  // y[out][0:columns] += x[in][0:channels] w for all pairs; w is (channels, vectors * width), padded with zeros.
  void (*multiply)(const T* x, int64_t channels, const T* w, T* y, int64_t y_stride, int64_t columns, const Pairs& pairs);
  // d[0:channels][0:columns] += x[in]^T g[out] for all pairs; d is (channels, d_stride), padded to whole vectors.
  void (*outer)(const T* x, int64_t channels, const T* g, int64_t g_stride, int64_t columns, T* d, int64_t d_stride,
                const Pairs& pairs);
};

extern const ConvKernels<float> plain_conv_float;
extern const ConvKernels<double> plain_conv_double;
#if defined(__x86_64__)
extern const ConvKernels<float> avx2_conv_float;
extern const ConvKernels<float> avx512_conv_float;
#endif

}  // namespace pc3d

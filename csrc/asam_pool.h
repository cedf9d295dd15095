// ASAM pooling (contract and gradients in pc3d/ops/asam_pool.py): what its passes over tiles of rows read and write.
//
// Entries are the rows of a superpoint, each with the number of points that it stands for, cut into tiles of at most
// tile_rows. A pass runs over tiles; chunks of tiles add up what concerns all rows, and chunks are added in order, so
// results are the same bits for any number of threads. Sums over all rows, and the small algebra between passes, are double.
//
// Evaluation on the CPU pools a superpoint of few tiles at once. Training goes pass by pass; h is kept in scratch from the pass
// that makes it to the next, for memory costs less than the product:
//
//   forward, training:  centres | moments of d | fold 1 | moments of h | fold 2 | logits, softmax, sums
//   backward, training: dW2 | unfold 2 | dW1, dx of a row | unfold 1 | dx through centres and moments
#pragma once

#include <cstddef>

#include "segment_kernels.h"

namespace pc3d::asam {

constexpr int tile_rows = 48;        // known to pc3d/ops/asam_pool.py too
constexpr int chunk_tiles = 16;
constexpr int pad = 16;              // rows in buffers and weights are padded with zeros to a multiple of this
constexpr int num_buffers = 6;       // of a tile's rows
constexpr int num_columns = 6;       // of one number per row of a tile

// Doubles of one layer of one branch. moments (C + 1, C): mean of v v^T and, last, of v, over all points, where v is
// what enters the layer.
struct Norm {
  const double *weight, *bias, *gamma, *beta, *mean, *var, *moments;
};

struct Shape {
  int64_t channels, num_rows, num_entries, num_segments, num_points;  // V, room for E, S, N
  bool training;
  double eps;

  PC3D_HD int64_t stride() const { return (channels + pad - 1) / pad * pad; }
  PC3D_HD int64_t cells() const { return (channels + 1) * stride(); }  // of a sum of outer products and, last, of rows
};

// x (V, C); entries: row (E,) of x, count (E,) points, segment (E,); sizes (S,) points of a segment.
template <class T>
struct Input {
  const T* x;
  const int64_t *row, *count, *segment, *offsets, *tiles, *sizes;
};

// Both branches, both layers: weights (2, 2, C, C), norms (2, 2, 3, C): bias, gamma, beta, last (2, C + 1), stats
// (2, 2, 2, C): running mean and var, which evaluation takes.
struct Weights {
  const double *weights, *norms, *last, *stats;

  PC3D_HD Norm norm(int branch, int layer, int64_t channels, const double* moments) const {
    const int64_t at = 2 * branch + layer;
    const double *n = norms + at * 3 * channels, *s = stats + at * 2 * channels;
    return {weights + at * channels * channels, n, n + channels, n + 2 * channels, s, s + channels,
            moments + at * (channels + 1) * channels};
  }
};

// pooled (S, 2C); batch (2, 2, 2, C) mean and var; what backward reads: centers (2, S, C) mean and maximum, peak (S, C) the
// entry that holds the maximum, moments (2, 2, C + 1, C), logits (2, E), level (2, S) log-sum-exp, gates (2, E, stride / 8) bits.
template <class T>
struct Output {
  T *pooled, *centers, *logits, *level;
  double *batch, *moments;
  int64_t* peak;
  uint8_t* gates;
};

// Gradients; by_row, by_row_offsets: entries of each row of x.
template <class T>
struct Gradient {
  const T* pooled;
  const int64_t *by_row, *by_row_offsets;
  T* x;
  double *weights, *norms, *last;
};

// Scratch memory that lives until the op returns.
struct Memory {
  void* (*take)(void* owner, size_t bytes);
  void* owner;

  template <class T>
  T* get(int64_t count) const { return static_cast<T*>(take(owner, count * sizeof(T))); }
};

template <class T>
struct Kernels {
  void (*forward)(const Shape&, const Input<T>&, const Weights&, const Output<T>&, const Memory&);
  void (*backward)(const Shape&, const Input<T>&, const Weights&, const Output<T>&, const Gradient<T>&, const Memory&);
};

extern const Kernels<float> plain_float;
extern const Kernels<double> plain_double;
#if defined(__x86_64__)
extern const Kernels<float> avx2_float;
extern const Kernels<float> avx512_float;
#endif

// CUDA: the same two, on a stream.
template <class T>
void cuda_forward(const Shape&, const Input<T>&, const Weights&, const Output<T>&, const Memory&, void* stream);
template <class T>
void cuda_backward(const Shape&, const Input<T>&, const Weights&, const Output<T>&, const Gradient<T>&, const Memory&,
                   void* stream);

}  // namespace pc3d::asam

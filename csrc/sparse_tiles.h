// sparse_conv_tiled and its weight gradient on CUDA (contract in pc3d/ops/sparse_tiles.py): problems and launchers.
//
//   sparse_conv_tiled:             y[o] = sum over steps of o's tile, tap k, input i at o's place:  W[:, k, :] x[i]
//   sparse_conv_tiled_weight_grad: dW[:, k, :] = sum over pairs (i, o) of k:  dy[o] x[i]^T
//
// Both are matrix products whose rows are gathered: blocks of 128 threads copy rows of x into shared memory, 16 bytes a
// thread, several steps ahead of the products. Rows are padded to whole chunks of 16 bytes by the caller. Sums are in a
// fixed order and nothing is added atomically: a launch repeats its bits.
#pragma once

#include "device.h"

namespace pc3d::tiles {

constexpr int block_threads = 128;
constexpr int group_rows = 16;      // rows of a tensor core product; steps say which groups of a tile have any pair

// 16 bytes: 8 half, 4 float or 2 double.
struct alignas(16) Chunk {
  uint32_t word[4];
};

enum class Type { half, bfloat16, float32, tf32, float64 };  // tf32: float in memory, products of 10 bits

// y = W x over tiles of TM outputs (64 or 128).
struct Convolution {
  const Chunk* x;               // (N, chunks)
  const Chunk* weight;          // (columns, taps, chunks)
  const int32_t* out_rows;      // (tiles * TM): output at each place, -1 where there is none
  const int64_t* step_offsets;  // (tiles + 1)
  const int32_t* steps;         // (E, 2): tap, bits of the groups that have a pair
  const int32_t* in_rows;       // (E, TM): input at each place, -1 where there is none
  void* y;                      // (num_out, columns); with splits > 1 the sums of (splits, num_out, columns)
  int64_t num_out, num_tiles, taps, columns, chunks;
  int64_t splits;               // blocks that share the steps of a tile
};

// dW, a sum per piece of up to piece_pairs pairs of one tap.
struct WeightGradient {
  const Chunk* x;              // (N, x_chunks)
  const Chunk* grad;           // (M, grad_chunks)
  const int32_t* in_rows;      // (P)
  const int32_t* out_rows;     // (P)
  const int64_t* tap_offsets;  // (taps + 1)
  void* partial;               // (pieces, grad_columns, x_columns) float, double if float64
  int64_t taps, x_columns, x_chunks, grad_columns, grad_chunks;
  int64_t piece_pairs, pieces;  // pieces: at least as many as there are
};

struct Piece {
  int64_t tap, begin, end;  // pairs; tap is `taps` for a number past the last piece
};

// Piece number p; a tap of n pairs has ceil(n / piece_pairs) of them.
PC3D_HD inline Piece find_piece(const int64_t* tap_offsets, int64_t taps, int64_t piece_pairs, int64_t p) {
  for (int64_t tap = 0; tap < taps; ++tap) {
    const int64_t first = tap_offsets[tap], last = tap_offsets[tap + 1], pieces = ceil_div(last - first, piece_pairs);
    if (p < pieces) {
      const int64_t begin = first + p * piece_pairs;
      return {tap, begin, begin + piece_pairs < last ? begin + piece_pairs : last};
    }
    p -= pieces;
  }
  return {taps, 0, 0};
}

// Launchers, by kind of product (sparse_tiles_kernels.h). `out` is y or dW in the type of the numbers; sums held in y (with
// splits) or in partial are merged into it.
template <class Kind>
void cuda_convolve(int64_t tile_rows, const Convolution& problem, void* out, void* stream);
template <class Kind>
void cuda_weight_gradient(const WeightGradient& problem, void* out, void* stream);

}  // namespace pc3d::tiles

// Bodies of the segment kernels, for the CPU and for CUDA, and the CUDA launchers.
#pragma once

#include "device.h"

namespace pc3d::segment {

constexpr int tile_rows = 128;  // known to pc3d/ops/segment.py too
constexpr int merge_lanes = 8;

struct Tile {
  int64_t begin, end;  // positions in `order`
};

// The segment of tile number t: the last one whose first tile is not after t; empty segments have no tile.
PC3D_HD inline int64_t segment_of_tile(const int64_t* tiles, int64_t num_segments, int64_t t) {
  int64_t low = 0, high = num_segments;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (tiles[middle] <= t) low = middle;
    else high = middle;
  }
  return low;
}

// Tile number t, which is of segment s.
PC3D_HD inline Tile tile_of(const int64_t* offsets, const int64_t* tiles, int64_t s, int64_t t) {
  const int64_t begin = offsets[s] + (t - tiles[s]) * tile_rows, last = offsets[s + 1];
  return {begin, begin + tile_rows < last ? begin + tile_rows : last};
}

PC3D_HD inline Tile find_tile(const int64_t* offsets, const int64_t* tiles, int64_t num_segments, int64_t t) {
  return tile_of(offsets, tiles, segment_of_tile(tiles, num_segments, t), t);
}

// Sum of a tile in `width` neighbouring channels; the order of additions in a channel does not depend on width.
template <int width, class T>
PC3D_HD void sum_tile(const T* x, const int64_t* order, Tile tile, int64_t channels, T* out) {
  T total[width] = {};
  for (int64_t i = tile.begin; i < tile.end; ++i)
    for (int w = 0; w < width; ++w) total[w] += x[order[i] * channels + w];
  for (int w = 0; w < width; ++w) out[w] = total[w];
}

// Whether a row's value takes the place of the best so far, which is of an earlier row: NaN beats all but NaN.
template <class T>
PC3D_HD bool beats(T value, T best) {
  return value > best || (value != value && best == best);
}

template <int width, class T>
PC3D_HD void max_tile(const T* x, const int64_t* order, Tile tile, int64_t channels, T* out, int64_t* out_row) {
  T best[width];
  int64_t row[width];
  for (int w = 0; w < width; ++w) {
    row[w] = order[tile.begin];
    best[w] = x[row[w] * channels + w];
  }
  for (int64_t i = tile.begin + 1; i < tile.end; ++i)
    for (int w = 0; w < width; ++w) {
      const T value = x[order[i] * channels + w];
      const bool better = beats(value, best[w]);
      best[w] = better ? value : best[w];
      row[w] = better ? order[i] : row[w];
    }
  for (int w = 0; w < width; ++w) {
    out[w] = best[w];
    out_row[w] = row[w];
  }
}

// One lane's share of the tiles [begin, end) of a segment, in one channel: begin + lane, begin + lane + 8, ...
template <class T>
PC3D_HD T sum_lane(const T* partial, int64_t begin, int64_t end, int64_t channels, int lane) {
  T total = 0;
  for (int64_t t = begin + lane; t < end; t += merge_lanes) total += partial[t * channels];
  return total;
}

template <class T>
struct Best {
  T value;
  int64_t row;  // -1: none yet
};

// Order matters only through row: the lower one wins a tie, also between two NaN.
template <class T>
PC3D_HD Best<T> better_of(Best<T> a, Best<T> b) {
  if (a.row < 0 || b.row < 0) return a.row < 0 ? b : a;
  const Best<T> first = a.row < b.row ? a : b, second = a.row < b.row ? b : a;
  return beats(second.value, first.value) ? second : first;
}

template <class T>
PC3D_HD Best<T> max_lane(const T* partial, const int64_t* rows, int64_t begin, int64_t end, int64_t channels, int lane) {
  Best<T> best{0, -1};
  for (int64_t t = begin + lane; t < end; t += merge_lanes)
    best = better_of(best, Best<T>{partial[t * channels], rows[t * channels]});
  return best;
}

// Launchers, float and double. partial and partial_row hold (max_tiles, C), where max_tiles = N / tile_rows + S.
struct Shape {
  int64_t num_segments, channels, max_tiles;
};
template <class T>
void cuda_sum(const T* x, const int64_t* order, const int64_t* offsets, const int64_t* tiles, Shape shape, T* partial, T* out,
              void* stream);
template <class T>
void cuda_max(const T* x, const int64_t* order, const int64_t* offsets, const int64_t* tiles, Shape shape, T* partial,
              int64_t* partial_row, T* out, int64_t* out_row, void* stream);

}  // namespace pc3d::segment

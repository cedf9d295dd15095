// CUDA launches of the bodies in segment_kernels.h: a thread per (tile, channel), then a block per (segment, 32 channels).
#include "segment_kernels.h"

namespace pc3d::segment {
namespace {

constexpr int block_threads = 128;
constexpr int block_channels = 32;

template <class T>
__global__ void sum_tiles(const T* x, const int64_t* order, const int64_t* offsets, const int64_t* tiles, Shape shape,
                          T* partial) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  const int64_t tile = at / shape.channels, channel = at % shape.channels;
  if (tile >= tiles[shape.num_segments]) return;
  sum_tile<1>(x + channel, order, find_tile(offsets, tiles, shape.num_segments, tile), shape.channels, partial + at);
}

template <class T>
__global__ void max_tiles(const T* x, const int64_t* order, const int64_t* offsets, const int64_t* tiles, Shape shape,
                          T* partial, int64_t* partial_row) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  const int64_t tile = at / shape.channels, channel = at % shape.channels;
  if (tile >= tiles[shape.num_segments]) return;
  max_tile<1>(x + channel, order, find_tile(offsets, tiles, shape.num_segments, tile), shape.channels, partial + at,
              partial_row + at);
}

template <class T>
__global__ void merge_sums(const T* partial, const int64_t* tiles, Shape shape, T* out) {
  __shared__ T lanes[merge_lanes][block_channels];
  const int64_t segment = blockIdx.x, channel = static_cast<int64_t>(blockIdx.y) * block_channels + threadIdx.x;
  const bool active = channel < shape.channels;
  if (active)
    lanes[threadIdx.y][threadIdx.x] =
        sum_lane(partial + channel, tiles[segment], tiles[segment + 1], shape.channels, threadIdx.y);
  __syncthreads();
  if (!active || threadIdx.y) return;
  T total = 0;
  for (int lane = 0; lane < merge_lanes; ++lane) total += lanes[lane][threadIdx.x];
  out[segment * shape.channels + channel] = total;
}

template <class T>
__global__ void merge_maxima(const T* partial, const int64_t* partial_row, const int64_t* tiles, Shape shape, T* out,
                             int64_t* out_row) {
  __shared__ T values[merge_lanes][block_channels];
  __shared__ int64_t rows[merge_lanes][block_channels];
  const int64_t segment = blockIdx.x, channel = static_cast<int64_t>(blockIdx.y) * block_channels + threadIdx.x;
  const bool active = channel < shape.channels;
  if (active) {
    const Best<T> best = max_lane(partial + channel, partial_row + channel, tiles[segment], tiles[segment + 1],
                                  shape.channels, threadIdx.y);
    values[threadIdx.y][threadIdx.x] = best.value;
    rows[threadIdx.y][threadIdx.x] = best.row;
  }
  __syncthreads();
  if (!active || threadIdx.y) return;
  Best<T> best{0, -1};
  for (int lane = 0; lane < merge_lanes; ++lane)
    best = better_of(best, Best<T>{values[lane][threadIdx.x], rows[lane][threadIdx.x]});
  out[segment * shape.channels + channel] = best.value;
  out_row[segment * shape.channels + channel] = best.row;
}

unsigned tile_blocks(Shape shape) {
  return static_cast<unsigned>((shape.max_tiles * shape.channels + block_threads - 1) / block_threads);
}
dim3 merge_blocks(Shape shape) {
  return dim3(static_cast<unsigned>(shape.num_segments),
              static_cast<unsigned>((shape.channels + block_channels - 1) / block_channels));
}

}  // namespace

template <class T>
void cuda_sum(const T* x, const int64_t* order, const int64_t* offsets, const int64_t* tiles, Shape shape, T* partial, T* out,
              void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  sum_tiles<<<tile_blocks(shape), block_threads, 0, on>>>(x, order, offsets, tiles, shape, partial);
  merge_sums<<<merge_blocks(shape), dim3(block_channels, merge_lanes), 0, on>>>(partial, tiles, shape, out);
}

template <class T>
void cuda_max(const T* x, const int64_t* order, const int64_t* offsets, const int64_t* tiles, Shape shape, T* partial,
              int64_t* partial_row, T* out, int64_t* out_row, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  max_tiles<<<tile_blocks(shape), block_threads, 0, on>>>(x, order, offsets, tiles, shape, partial, partial_row);
  merge_maxima<<<merge_blocks(shape), dim3(block_channels, merge_lanes), 0, on>>>(partial, partial_row, tiles, shape, out,
                                                                                  out_row);
}

template void cuda_sum(const float*, const int64_t*, const int64_t*, const int64_t*, Shape, float*, float*, void*);
template void cuda_sum(const double*, const int64_t*, const int64_t*, const int64_t*, Shape, double*, double*, void*);
template void cuda_max(const float*, const int64_t*, const int64_t*, const int64_t*, Shape, float*, int64_t*, float*, int64_t*,
                       void*);
template void cuda_max(const double*, const int64_t*, const int64_t*, const int64_t*, Shape, double*, int64_t*, double*,
                       int64_t*, void*);

}  // namespace pc3d::segment

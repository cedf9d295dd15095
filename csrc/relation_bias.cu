// A thread per pair of boxes; for the gradient a block per row, a thread per wave, and then a thread per weight adds the rows
// in their order, so no atomics.
#include "relation_bias_kernels.h"

namespace pc3d::relation {
namespace {

constexpr int block_threads = 128;

template <class T>
__global__ void bias_of_pairs(Relation<T> r, const T* weight, const T* bias, T* out) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (at < r.count * r.count) bias_of_pair(r, weight, bias, at / r.count, at % r.count, out + at, r.count * r.count);
}

template <class T>
__global__ void grad_of_rows(Relation<T> r, const T* grad, const T* out, T* rows) {
  __shared__ T d[6 * block_threads];
  const int64_t i = blockIdx.x, first = static_cast<int64_t>(blockIdx.y) * kHeads;
  const int64_t heads = r.heads - first < kHeads ? r.heads - first : kHeads;
  for (int64_t from = 0; from <= r.waves; from += block_threads) {
    const int64_t f = from + threadIdx.x;
    T by_sine[kHeads] = {}, by_cosine[kHeads] = {};
    for (int64_t begin = 0; begin < r.count; begin += block_threads) {
      const int64_t end = begin + block_threads < r.count ? begin + block_threads : r.count;
      __syncthreads();
      if (begin + threadIdx.x < end) relate(r, i, begin + threadIdx.x, d + 6 * threadIdx.x);
      __syncthreads();
      if (f <= r.waves) grad_of_pairs(r, d, grad, out, i, f, first, heads, begin, end, by_sine, by_cosine);
    }
    if (f <= r.waves) place_grad(r, f, first, heads, by_sine, by_cosine, rows + i * r.heads * (2 * r.waves + 1));
  }
}

template <class T>
__global__ void add_rows(const T* rows, int64_t count, int64_t size, T* total) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (at >= size) return;
  T sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += rows[i * size + at];
  total[at] = sum;
}

unsigned blocks_for(int64_t threads) { return static_cast<unsigned>((threads + block_threads - 1) / block_threads); }

}  // namespace

template <class T>
void cuda_bias(const Relation<T>& r, const T* weight, const T* bias, T* out, void* stream) {
  bias_of_pairs<<<blocks_for(r.count * r.count), block_threads, 0, static_cast<cudaStream_t>(stream)>>>(r, weight, bias, out);
}

template <class T>
void cuda_grad(const Relation<T>& r, const T* grad, const T* out, T* rows, T* total, void* stream) {
  const dim3 grid(static_cast<unsigned>(r.count), static_cast<unsigned>((r.heads + kHeads - 1) / kHeads));
  const int64_t size = r.heads * (2 * r.waves + 1);
  const auto queue = static_cast<cudaStream_t>(stream);
  grad_of_rows<<<grid, block_threads, 0, queue>>>(r, grad, out, rows);
  add_rows<<<blocks_for(size), block_threads, 0, queue>>>(rows, r.count, size, total);
}

template void cuda_bias(const Relation<float>&, const float*, const float*, float*, void*);
template void cuda_bias(const Relation<double>&, const double*, const double*, double*, void*);
template void cuda_grad(const Relation<float>&, const float*, const float*, float*, float*, void*);
template void cuda_grad(const Relation<double>&, const double*, const double*, double*, double*, void*);

}  // namespace pc3d::relation

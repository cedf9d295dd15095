// A thread per pair reads; a thread per table cell adds, so no atomics. The threads of a block of relative_add share a row:
// they walk over the same pairs, and each takes what falls on its column.
#include "relative_kernels.h"

namespace pc3d::relative {
namespace {

constexpr int block_threads = 128;

template <class T>
__global__ void read_pairs(Pairs p, const T* rows, T* out) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (at >= p.heads * p.queries * p.keys) return;
  const int64_t m = at % p.keys, k = at / p.keys % p.queries, head = at / (p.keys * p.queries);
  const int64_t row = head * p.num_rows() + (p.by_key ? m : k);
  out[at] = read_pair(p, rows + row * p.columns, k, m);
}

template <class T>
__global__ void add_cells(Pairs p, const T* weights, T* rows) {
  const int64_t head = blockIdx.x / p.num_rows(), row = blockIdx.x % p.num_rows();
  const T* own = weights + head * p.queries * p.keys;
  for (int64_t column = threadIdx.x; column < p.columns; column += blockDim.x)
    rows[blockIdx.x * p.columns + column] = add_cell(p, own, row, column);
}

}  // namespace

template <class T>
void cuda_read(const Pairs& pairs, const T* rows, T* out, void* stream) {
  const int64_t count = pairs.heads * pairs.queries * pairs.keys;
  const auto blocks = static_cast<unsigned>((count + block_threads - 1) / block_threads);
  read_pairs<<<blocks, block_threads, 0, static_cast<cudaStream_t>(stream)>>>(pairs, rows, out);
}

template <class T>
void cuda_add(const Pairs& pairs, const T* weights, T* rows, void* stream) {
  const auto blocks = static_cast<unsigned>(pairs.heads * pairs.num_rows());
  add_cells<<<blocks, block_threads, 0, static_cast<cudaStream_t>(stream)>>>(pairs, weights, rows);
}

template void cuda_read(const Pairs&, const float*, float*, void*);
template void cuda_read(const Pairs&, const double*, double*, void*);
template void cuda_add(const Pairs&, const float*, float*, void*);
template void cuda_add(const Pairs&, const double*, double*, void*);

}  // namespace pc3d::relative

// A block of threads on the GPU, as the bodies of sparse_tiles_kernels.h see it, and their launches.
#pragma once

#include "each.cuh"
#include "sparse_tiles_kernels.h"

namespace pc3d::tiles {

class CudaBlock {
 public:
  // A thread has its own; the number is not looked at.
  template <class T>
  struct Own {
    T value;
    __device__ T& operator[](int) { return value; }
  };
  template <class T>
  using PerThread = Own<T>;
  template <class T>
  using PerLane = Own<T>;

  template <class Use>
  __device__ void each_thread(const Use& use) const { use(static_cast<int>(threadIdx.x)); }
  template <class Use>
  __device__ void each_warp(const Use& use) const { use(static_cast<int>(threadIdx.x) / warp_threads); }
  template <class Use>
  __device__ void each_lane(const Use& use) const { use(static_cast<int>(threadIdx.x) % warp_threads); }

  template <int count>
  __device__ Chunk* shared() const {
    __shared__ Chunk memory[count];
    return memory;
  }
  template <int count>
  __device__ uint32_t* shared_words() const {
    __shared__ uint32_t memory[count];
    return memory;
  }

  __device__ void copy(Chunk* to, const Chunk* from, bool there) const {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(there ? 16 : 0)
                 : "memory");
  }
  __device__ void commit() const { asm volatile("cp.async.commit_group;" ::: "memory"); }
  template <int pending>
  __device__ void wait() const {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
  }
  __device__ void barrier() const { __syncthreads(); }

  template <class Math, class Sum>
  __device__ void multiply_add(const Sum& sum, Own<FragmentA>& left, Own<FragmentB>& right) const {
    multiply_add(Math(), sum(0).value, left.value.word, right.value.word);
  }

  template <class At>
  __device__ void load_turned(Own<FragmentA>& to, const At& at) const {
    uint32_t* word = to.value.word;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "r"(shared_address(at(threadIdx.x % warp_threads)))
                 : "memory");
  }
  template <class At>
  __device__ void load_turned(Own<FragmentB>& to, const At& at) const {
    uint32_t* word = to.value.word;
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(word[0]), "=r"(word[1])
                 : "r"(shared_address(at(threadIdx.x % warp_threads)))
                 : "memory");
  }

 private:
  __device__ static unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
  }

  __device__ static void multiply_add(HalfMath, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
  __device__ static void multiply_add(BFloat16Math, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
  __device__ static void multiply_add(Tf32Math, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

template <class Body>
__global__ void __launch_bounds__(block_threads, Body::blocks_at_once) run_blocks(const Body body) {
  CudaBlock block;
  body(block, blockIdx.x);
}

template <class Body>
void launch_blocks(const Body& body, cudaStream_t stream) {
  run_blocks<<<static_cast<unsigned>(body.blocks()), block_threads, 0, stream>>>(body);
}

// Runs a convolution and, where blocks share the steps of a tile, adds up their sums.
template <class Kind>
void cuda_convolve(int64_t tile_rows, const Convolution& problem, void* out, void* stream) {
  with_body<Kind>(tile_rows, problem, [&](const auto& body) { launch_blocks(body, static_cast<cudaStream_t>(stream)); });
  if (problem.splits > 1) cuda_each(merge_splits<Kind>(problem, out), problem.num_out * problem.columns, stream);
}

template <class Kind>
void cuda_weight_gradient(const WeightGradient& problem, void* out, void* stream) {
  launch_blocks(typename Kind::Gradient{problem}, static_cast<cudaStream_t>(stream));
  cuda_each(merge_pieces<Kind>(problem, out), problem.taps * problem.grad_columns * problem.x_columns, stream);
}

// One kind of numbers a file, so that they compile side by side.
#define PC3D_TILES_OF(Kind)                                                     \
  template void cuda_convolve<Kind>(int64_t, const Convolution&, void*, void*); \
  template void cuda_weight_gradient<Kind>(const WeightGradient&, void*, void*);

}  // namespace pc3d::tiles

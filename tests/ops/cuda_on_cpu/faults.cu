// Kernels and launches that are wrong, one fault each: the played GPU must notice every one. Fault 0 is right.
#include <stdexcept>
#include <string>

#include "machine.h"

namespace {

constexpr int threads = 64;

// out[t] = the number of the thread after t, through shared memory.
__global__ void turn(int* out, bool without_barrier) {
  __shared__ int numbers[threads];
  numbers[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (!without_barrier) __syncthreads();
  out[threadIdx.x] = numbers[(threadIdx.x + 1) % threads];
}

__global__ void return_before_barrier() {
  if (threadIdx.x == 3) return;
  __syncthreads();
}

__global__ void wait_in_two_places() {
  if (threadIdx.x < 3) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void write_past_array(int place) {
  __shared__ int numbers[threads];
  numbers[place] = 1;
}

__global__ void write_past_dynamic(int place) {
  extern __shared__ double shared[];
  shared[place] = 1;
}

__global__ void read_unwritten(double* out) {
  extern __shared__ double shared[];
  out[threadIdx.x] = shared[threadIdx.x];
}

__global__ void read_past_tensor(const double* x, double* out) { *out = x[threads]; }

__global__ void share_too_much() {
  __shared__ double numbers[7000];
  numbers[threadIdx.x] = 0;
}

__global__ void do_nothing() {}

bool is_turned(bool without_barrier) {
  int out[threads];
  turn<<<1, threads, 0, cuda_on_cpu::current_stream()>>>(out, without_barrier);
  for (int t = 0; t < threads; ++t)
    if (out[t] != (t + 1) % threads) return false;
  return true;
}

void commit(int fault) {
  const cudaStream_t on = cuda_on_cpu::current_stream();
  double out[threads];
  bool right = true;
  switch (fault) {
    case 0:
    case 1: right = is_turned(fault == 1); break;
    case 2: return_before_barrier<<<2, threads, 0, on>>>(); break;
    case 3: wait_in_two_places<<<2, threads, 0, on>>>(); break;
    case 4: write_past_array<<<1, threads, 0, on>>>(threads); break;
    case 5: write_past_array<<<1, threads, 0, on>>>(-1); break;
    case 6: write_past_dynamic<<<1, threads, 80, on>>>(10); break;
    case 7:
      read_unwritten<<<1, threads, sizeof out, on>>>(out);
      right = out[0] == out[0];
      break;
    case 8: share_too_much<<<1, threads, 0, on>>>(); break;
    case 9: do_nothing<<<0, threads, 0, on>>>(); break;
    case 10: do_nothing<<<dim3(1, 65536), threads, 0, on>>>(); break;
    case 11: do_nothing<<<1, 1025, 0, on>>>(); break;
    case 12: do_nothing<<<1, threads, 50000, on>>>(); break;
    case 13: cudaFuncSetAttribute(do_nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 300000); break;
    case 14: do_nothing<<<1, threads, 0, nullptr>>>(); break;
    case 15: cuda_on_cpu::count_guards(-1); do_nothing<<<1, threads, 0, on>>>(); break;
    case 16: read_past_tensor<<<1, 1, 0, on>>>(static_cast<double*>(cuda_on_cpu::take(sizeof out)), out); break;
    case 17: do_nothing<<<1, threads, 0, on>>>(); return;  // and nobody asks how it went
    default: throw std::runtime_error("no such fault");
  }
  if (const cudaError_t error = cudaGetLastError()) throw std::runtime_error(cudaGetErrorString(error));
  if (!right) throw std::runtime_error("wrong numbers");
}

}  // namespace

// What was said of a fault, or nothing.
extern "C" __attribute__((visibility("default"))) const char* cuda_on_cpu_fault(int fault) {
  static std::string said;
  said.clear();
  cuda_on_cpu::count_guards(1);
  try {
    commit(fault);
  } catch (const std::exception& error) {
    said = error.what();
  }
  cuda_on_cpu::count_guards(fault == 15 ? 0 : -1);
  return said.c_str();
}

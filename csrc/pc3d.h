// What every native op of pc3d shares: tensors of torch's stable ABI, argument checks, and threads.
//
// A check throws with a message that starts with the op and argument name; Python sees a RuntimeError. Ops are
// called through pc3d/ops/*.py, which check values (ranges, NaN) first and raise typed errors.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace pc3d {

using torch::stable::Tensor;
using ScalarType = torch::headeronly::ScalarType;

inline void check(bool ok, const char* message) {
  if (!ok) throw std::invalid_argument(message);
}

inline bool same_device(const Tensor& a, const Tensor& b) {
  return a.is_cpu() == b.is_cpu() && a.is_cuda() == b.is_cuda() && a.get_device_index() == b.get_device_index();
}

// Pointer to the data of a contiguous tensor of element type T.
template <class T>
const T* data(const Tensor& t) { return static_cast<const T*>(t.const_data_ptr()); }
template <class T>
T* mutable_data(const Tensor& t) { return static_cast<T*>(t.mutable_data_ptr()); }

inline Tensor empty(const Tensor& like, std::initializer_list<int64_t> sizes, ScalarType dtype) {
  return torch::stable::new_empty(like, sizes, dtype);
}
inline Tensor zeros(const Tensor& like, std::initializer_list<int64_t> sizes, ScalarType dtype) {
  return torch::stable::new_zeros(like, sizes, dtype);
}

// Instruction sets that kernels choose from at run time. PC3D_ISA=plain|avx2|avx512|avx512bf16|amx lowers the choice.
enum class Isa { plain = 0, avx2 = 1, avx512 = 2, avx512bf16 = 3, amx = 4 };
Isa best_isa();

}  // namespace pc3d

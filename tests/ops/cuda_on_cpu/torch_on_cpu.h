// Comes before every .cpp of csrc/ whose CUDA side is played: its CPU tensors are taken for those of a device, its kernels for
// CUDA are registered as cuda_on_cpu::NAME for the CPU, the others not at all, and memory that it takes is of guarded pages.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include "machine.h"

namespace torch::stable {

// As new_empty and new_zeros; see Pages in machine.h.
Tensor guarded_empty(const Tensor& like, std::initializer_list<int64_t> sizes, torch::headeronly::ScalarType dtype);
Tensor guarded_zeros(const Tensor& like, std::initializer_list<int64_t> sizes, torch::headeronly::ScalarType dtype);

}  // namespace torch::stable

#define new_empty guarded_empty
#define new_zeros guarded_zeros
#define is_cpu is_cuda  // neither, and so not the CPU

#define PC3D_REGISTER_CPU(m, uid) \
  [[maybe_unused]] static void C10_CONCATENATE(left_out_, uid)(torch::stable::detail::StableLibrary& m)
#define PC3D_REGISTER_CUDA(m, uid) _STABLE_TORCH_LIBRARY_IMPL(cuda_on_cpu, CPU, m, uid)
#undef STABLE_TORCH_LIBRARY_IMPL
#define STABLE_TORCH_LIBRARY_IMPL(ns, key, m) PC3D_REGISTER_##key(m, C10_UID)
#undef STABLE_TORCH_LIBRARY_FRAGMENT
#define STABLE_TORCH_LIBRARY_FRAGMENT(ns, m) PC3D_REGISTER_CPU(m, C10_UID)

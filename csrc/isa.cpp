#include "pc3d.h"

#include <cstdlib>
#include <cstring>

namespace pc3d {
namespace {

Isa detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (avx512 && __builtin_cpu_supports("avx512bf16")) return Isa::avx512bf16;
  if (avx512) return Isa::avx512;
  if (avx2) return Isa::avx2;
#endif
  return Isa::plain;
}

Isa wanted() {
  const char* names[] = {"plain", "avx2", "avx512", "avx512bf16"};
  const char* name = std::getenv("PC3D_ISA");
  if (name)
    for (int i = 0; i < 4; ++i)
      if (!std::strcmp(name, names[i])) return static_cast<Isa>(i);
  return Isa::avx512bf16;
}

}  // namespace

// The environment is read at every call so that a test can force each kernel in one process.
Isa best_isa() {
  static const Isa machine = detect();
  const Isa limit = wanted();
  return limit < machine ? limit : machine;
}

int64_t native_isa() { return static_cast<int64_t>(best_isa()); }

// Bit 0: built with CUDA kernels.
int64_t native_features() {
#ifdef PC3D_CUDA
  return 1;
#else
  return 0;
#endif
}

// GPU architectures the CUDA kernels were compiled for, three decimal digits each, first one highest: 80090 is 80;90.
int64_t native_archs() {
  int64_t packed = 0, arch = 0;
#ifdef PC3D_CUDA_ARCHS
  for (const char* c = PC3D_CUDA_ARCHS;; ++c) {
    if (*c >= '0' && *c <= '9') {
      arch = arch * 10 + (*c - '0');
      continue;
    }
    packed = packed * 1000 + arch;
    arch = 0;
    if (!*c) break;
  }
#endif
  return packed;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_FRAGMENT(pc3d, m) {
  m.def("native_isa() -> int");
  m.def("native_features() -> int");
  m.def("native_archs() -> int");
}
STABLE_TORCH_LIBRARY_IMPL(pc3d, CompositeExplicitAutograd, m) {
  m.impl("native_isa", TORCH_BOX(&pc3d::native_isa));
  m.impl("native_features", TORCH_BOX(&pc3d::native_features));
  m.impl("native_archs", TORCH_BOX(&pc3d::native_archs));
}

#include "pc3d.h"

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace pc3d {
namespace {

// Matrix units for bfloat16. Their large registers are the process's own only after it has asked the kernel for them.
bool use_amx() {
#if defined(__x86_64__) && defined(__linux__)
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const bool bf16 = d >> 22 & 1, tile = d >> 24 & 1;
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return bf16 && tile && !syscall(SYS_arch_prctl, request_permission, tile_data);
#else
  return false;
#endif
}

Isa detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt") &&
                    __builtin_cpu_supports("bmi");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  if (bf16 && use_amx()) return Isa::amx;
  if (bf16) return Isa::avx512bf16;
  if (avx512) return Isa::avx512;
  if (avx2) return Isa::avx2;
#endif
  return Isa::plain;
}

Isa wanted() {
  const char* names[] = {"plain", "avx2", "avx512", "avx512bf16", "amx"};
  const char* name = std::getenv("PC3D_ISA");
  if (name)
    for (int i = 0; i < 5; ++i)
      if (!std::strcmp(name, names[i])) return static_cast<Isa>(i);
  return Isa::amx;
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

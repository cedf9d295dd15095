// How many floating-point operations a second this machine can do at most: multiply-adds on registers, on every thread.
#include "pc3d.h"

#include <chrono>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pc3d {
namespace {

constexpr int kChains = 12;     // independent sums: more than latency times issue width of any processor so far
constexpr int kSteps = 20000;   // multiply-adds of a chain between two looks at the clock

// Each runs kSteps x kChains multiply-adds and returns how many floating-point operations those were.
double steps_plain(float* sink) {
  float sum[kChains] = {};
  const float a = 1.0000001f, b = 1e-9f;
  for (int step = 0; step < kSteps; ++step)
    for (int i = 0; i < kChains; ++i) sum[i] = sum[i] * a + b;
  for (float s : sum) *sink += s;
  return 2.0 * kSteps * kChains;
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) double steps_avx2(float* sink) {
  __m256 sum[kChains];
  for (auto& s : sum) s = _mm256_setzero_ps();
  const __m256 a = _mm256_set1_ps(1.0000001f), b = _mm256_set1_ps(1e-9f);
  for (int step = 0; step < kSteps; ++step)
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sum[i] = _mm256_fmadd_ps(sum[i], a, b);
  for (auto& s : sum) *sink += _mm256_cvtss_f32(s);
  return 2.0 * 8 * kSteps * kChains;
}

__attribute__((target("avx512f"))) double steps_avx512(float* sink) {
  __m512 sum[kChains];
  for (auto& s : sum) s = _mm512_setzero_ps();
  const __m512 a = _mm512_set1_ps(1.0000001f), b = _mm512_set1_ps(1e-9f);
  for (int step = 0; step < kSteps; ++step)
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sum[i] = _mm512_fmadd_ps(sum[i], a, b);
  for (auto& s : sum) *sink += _mm512_cvtss_f32(s);
  return 2.0 * 16 * kSteps * kChains;
}

__attribute__((target("avx512f,avx512bf16"))) double steps_avx512bf16(float* sink) {
  __m512 sum[kChains];
  for (auto& s : sum) s = _mm512_setzero_ps();
  const __m512bh a = (__m512bh)_mm512_set1_epi16(0x3f80), b = (__m512bh)_mm512_set1_epi16(1);
  for (int step = 0; step < kSteps; ++step)
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sum[i] = _mm512_dpbf16_ps(sum[i], a, b);
  for (auto& s : sum) *sink += _mm512_cvtss_f32(s);
  return 2.0 * 32 * kSteps * kChains;
}
#endif

using Steps = double (*)(float*);

Steps steps_for(bool bf16) {
#if defined(__x86_64__)
  const Isa isa = best_isa();
  if (bf16 && isa >= Isa::avx512bf16) return steps_avx512bf16;
  if (isa >= Isa::avx512) return steps_avx512;
  if (isa >= Isa::avx2) return steps_avx2;
#endif
  return steps_plain;
}

}  // namespace

// Millions of floating-point operations a second of all threads together, over about so many microseconds.
int64_t native_peak_mflops(bool bf16, int64_t microseconds) {
  using Clock = std::chrono::steady_clock;
  check(microseconds > 0, "native_peak_mflops: microseconds must be positive");
  const Steps steps = steps_for(bf16);
  const int64_t threads = torch::stable::get_num_threads();
  std::vector<double> rates(threads);
  torch::stable::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) {
      volatile float keep = 0;
      float sink = 0;
      double done = 0, seconds = 0;
      const auto start = Clock::now();
      do {
        done += steps(&sink);
        seconds = std::chrono::duration<double>(Clock::now() - start).count();
      } while (seconds < 1e-6 * static_cast<double>(microseconds));
      keep = sink;
      (void)keep;
      rates[thread] = done / seconds;
    }
  });
  double total = 0;
  for (double rate : rates) total += rate;
  return static_cast<int64_t>(total * 1e-6);
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_FRAGMENT(pc3d, m) { m.def("native_peak_mflops(bool bf16, int microseconds) -> int"); }
STABLE_TORCH_LIBRARY_IMPL(pc3d, CompositeExplicitAutograd, m) {
  m.impl("native_peak_mflops", TORCH_BOX(&pc3d::native_peak_mflops));
}

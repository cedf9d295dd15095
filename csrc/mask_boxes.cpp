#include "mask_boxes.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "pc3d.h"

namespace pc3d {
namespace {

template <class T>
bool plain_mask_box(const T* logits, const T* const* xyz, int64_t segments, T* low, T* high) {
  std::fill_n(low, 3, std::numeric_limits<T>::infinity());
  std::fill_n(high, 3, -std::numeric_limits<T>::infinity());
  bool any = false;
  for (int64_t s = 0; s < segments; ++s) {
    if (!(logits[s] > 0)) continue;
    any = true;
    for (int a = 0; a < 3; ++a) {
      low[a] = std::min(low[a], xyz[a][s]);
      high[a] = std::max(high[a], xyz[a][s]);
    }
  }
  return any;
}

MaskBox kernel_for(const float*) {
#if defined(__x86_64__)
  if (best_isa() >= Isa::avx512) return avx512_mask_box;
  if (best_isa() == Isa::avx2) return avx2_mask_box;
#endif
  return plain_mask_box<float>;
}
auto kernel_for(const double*) { return plain_mask_box<double>; }

// The largest logit, the first of equals; NaN is larger than all.
template <class T>
int64_t likeliest(const T* logits, int64_t segments) {
  int64_t best = 0;
  for (int64_t s = 0; s < segments; ++s) {
    if (logits[s] != logits[s]) return s;
    if (logits[s] > logits[best]) best = s;
  }
  return best;
}

template <class T>
void boxes(const T* logits, const T* xyz, int64_t masks, int64_t segments, T* out) {
  std::vector<T> space(3 * segments);
  const T* columns[3] = {space.data(), space.data() + segments, space.data() + 2 * segments};
  for (int64_t s = 0; s < segments; ++s)
    for (int a = 0; a < 3; ++a) space[a * segments + s] = xyz[3 * s + a];
  const auto box = kernel_for(logits);
  torch::stable::parallel_for(0, masks, 16, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const T* row = logits + k * segments;
      T* to = out + 6 * k;
      if (box(row, columns, segments, to, to + 3)) continue;
      const int64_t s = likeliest(row, segments);
      for (int a = 0; a < 3; ++a) to[a] = to[3 + a] = columns[a][s];
    }
  });
}

}  // namespace

Tensor mask_boxes(const Tensor& logits_in, const Tensor& xyz_in) {
  const Tensor logits = torch::stable::contiguous(logits_in), xyz = torch::stable::contiguous(xyz_in);
  check(logits.dim() == 2 && xyz.dim() == 2 && xyz.size(1) == 3 && logits.size(1) == xyz.size(0) && xyz.size(0) > 0,
        "mask_boxes: logits must be (K, S) and xyz (S, 3), S at least 1");
  check(logits.scalar_type() == xyz.scalar_type(), "mask_boxes: logits and xyz must be of one type");
  Tensor out = empty(logits, {logits.size(0), 6}, logits.scalar_type());
  if (logits.scalar_type() == ScalarType::Float) {
    boxes(data<float>(logits), data<float>(xyz), logits.size(0), logits.size(1), mutable_data<float>(out));
  } else {
    check(logits.scalar_type() == ScalarType::Double, "mask_boxes: logits must be float32 or float64");
    boxes(data<double>(logits), data<double>(xyz), logits.size(0), logits.size(1), mutable_data<double>(out));
  }
  return out;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("mask_boxes", TORCH_BOX(&pc3d::mask_boxes)); }

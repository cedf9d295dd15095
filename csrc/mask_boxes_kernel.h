// The loop of mask_boxes over one mask. Include after vector_math.h; see there for what must be defined.
#include "mask_boxes.h"
#include "vector_math.h"

namespace pc3d {
namespace PC3D_SIMD {

PC3D_TARGET bool mask_box(const float* logits, const float* const* xyz, int64_t segments, float* low, float* high) {
  const Vector zero = Simd::set(0);
  Vector least[3], most[3];
  for (int a = 0; a < 3; ++a) {
    least[a] = Simd::set(Simd::infinity);
    most[a] = Simd::set(-Simd::infinity);
  }
  int64_t s = 0;
  for (; s + Simd::width <= segments; s += Simd::width) {
    const Vector logit = Simd::load(logits + s);
#pragma GCC unroll 3
    for (int a = 0; a < 3; ++a) {
      const Vector x = Simd::load(xyz[a] + s);
      least[a] = Simd::where_greater(logit, zero, Simd::min(x, least[a]), least[a]);
      most[a] = Simd::where_greater(logit, zero, Simd::max(x, most[a]), most[a]);
    }
  }
  for (int a = 0; a < 3; ++a) {
    float lane[2][Simd::width];
    Simd::store(lane[0], least[a]);
    Simd::store(lane[1], most[a]);
    low[a] = lane[0][0];
    high[a] = lane[1][0];
    for (int l = 1; l < Simd::width; ++l) {
      low[a] = lane[0][l] < low[a] ? lane[0][l] : low[a];
      high[a] = lane[1][l] > high[a] ? lane[1][l] : high[a];
    }
    for (int64_t rest = s; rest < segments; ++rest) {
      if (!(logits[rest] > 0)) continue;
      low[a] = xyz[a][rest] < low[a] ? xyz[a][rest] : low[a];
      high[a] = xyz[a][rest] > high[a] ? xyz[a][rest] : high[a];
    }
  }
  return low[0] <= high[0];
}

extern const MaskBox mask_box_kernel;
const MaskBox mask_box_kernel = mask_box;

}  // namespace PC3D_SIMD
}  // namespace pc3d

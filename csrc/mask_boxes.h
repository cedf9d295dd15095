// mask_boxes(logits, xyz) -> (K, 6):  lowest and highest xyz (S, 3) of the segments with logits (K, S) above 0, per mask.
//
// A mask without any has its likeliest segment, the first of equals; NaN counts as likeliest. float32 or float64, S >= 1.
#pragma once

#include <cstdint>

namespace pc3d {

// The box of one mask in `low` and `high` (3 each), from the columns x, y, z of xyz; whether any logit is above 0.
using MaskBox = bool (*)(const float* logits, const float* const* xyz, int64_t segments, float* low, float* high);

#if defined(__x86_64__)
extern const MaskBox avx2_mask_box, avx512_mask_box;
#endif

}  // namespace pc3d

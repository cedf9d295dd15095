// How a sparse convolution is cut up: pairs by blocks of outputs, output channels by panels.
#pragma once

#include "pc3d.h"
#include "sparse_conv.h"
#include "tasks.h"

#include <algorithm>
#include <atomic>
#include <vector>

namespace pc3d {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A kernel map, with the pairs of each tap cut at every `block` output rows.
class BlockedMap {
 public:
  BlockedMap(const Tensor& in_rows, const Tensor& out_rows, const Tensor& tap_offsets, int64_t num_in, int64_t num_out,
             int64_t block)
      : in_(data<int32_t>(in_rows)), out_(data<int32_t>(out_rows)), tap_(data<int64_t>(tap_offsets)),
        taps_(tap_offsets.numel() - 1), block_(block), num_out_(num_out), blocks_(ceil_div(num_out, block)),
        starts_(taps_ * (blocks_ + 1)) {
    check(tap_[0] == 0 && tap_[taps_] == in_rows.numel(), "sparse_conv: tap_offsets do not cover the pairs");
    for (int64_t k = 0; k < taps_; ++k) check_ends(tap_[k], tap_[k + 1], num_in, num_out);
    std::atomic<bool> ascend{true};
    run_tasks(taps_, [&](int64_t k) {
      if (ascending(in_, k) && ascending(out_, k)) cut(k);
      else ascend = false;
    });
    check(ascend, "sparse_conv: in_rows and out_rows must ascend within a tap");
  }

  int64_t taps() const { return taps_; }
  int64_t blocks() const { return blocks_; }
  int64_t begin(int64_t block) const { return block * block_; }
  int64_t end(int64_t block) const { return std::min(num_out_, (block + 1) * block_); }
  Pairs pairs(int64_t tap, int64_t block) const {
    const int64_t* start = starts_.data() + tap * (blocks_ + 1) + block;
    return {in_ + start[0], out_ + start[0], start[1] - start[0]};
  }

 private:
  bool ascending(const int32_t* rows, int64_t tap) const {
    bool ok = true;
    for (int64_t i = tap_[tap] + 1; i < tap_[tap + 1]; ++i) ok &= rows[i - 1] < rows[i];
    return ok;
  }

  // Rows of a tap ascend, so its ends bound them all.
  void check_ends(int64_t first, int64_t last, int64_t num_in, int64_t num_out) const {
    check(first <= last, "sparse_conv: tap_offsets must ascend");
    if (first == last) return;
    check(in_[first] >= 0 && in_[last - 1] < num_in, "sparse_conv: in_rows are out of range");
    check(out_[first] >= 0 && out_[last - 1] < num_out, "sparse_conv: out_rows are out of range");
  }

  void cut(int64_t tap) {
    int64_t* start = starts_.data() + tap * (blocks_ + 1);
    const int64_t last = tap_[tap + 1];
    start[0] = tap_[tap];
    for (int64_t b = 0; b < blocks_; ++b) {  // a tap has at most one pair for each output
      const int64_t limit = std::min(last, start[b] + block_);
      start[b + 1] = std::lower_bound(out_ + start[b], out_ + limit, static_cast<int32_t>(end(b))) - out_;
    }
  }

  const int32_t *in_, *out_;
  const int64_t* tap_;
  int64_t taps_, block_, num_out_, blocks_;
  std::vector<int64_t> starts_;
};

inline void check_map(const Tensor& in_rows, const Tensor& out_rows, const Tensor& tap_offsets) {
  check(in_rows.scalar_type() == ScalarType::Int && out_rows.scalar_type() == ScalarType::Int,
        "sparse_conv: rows must be int32");
  check(in_rows.is_contiguous() && out_rows.is_contiguous(), "sparse_conv: rows must be contiguous");
  check(in_rows.numel() == out_rows.numel(), "sparse_conv: in_rows and out_rows must be equally many");
  check(tap_offsets.scalar_type() == ScalarType::Long && tap_offsets.is_contiguous() && tap_offsets.numel() >= 1,
        "sparse_conv: tap_offsets must be contiguous int64");
}

// Output channels cut into panels of whole vectors, as even as can be.
struct Panels {
  Panels(int64_t channels, int width, int64_t max_vectors)
      : channels(channels), width(width), vectors(ceil_div(channels, width)), count(ceil_div(vectors, max_vectors)) {}

  int64_t first_vector(int64_t panel) const { return vectors * panel / count; }
  int64_t first_column(int64_t panel) const { return first_vector(panel) * width; }
  int64_t vectors_of(int64_t panel) const { return first_vector(panel + 1) - first_vector(panel); }
  int64_t columns(int64_t panel) const { return std::min(channels, first_column(panel + 1)) - first_column(panel); }

  int64_t channels, width, vectors, count;
};

// bfloat16 matrices in float32 and back, for machines and ops without kernels of their own.
inline Tensor widened(const Tensor& x) {
  if (x.scalar_type() != ScalarType::BFloat16) return x;
  Tensor rows = torch::stable::contiguous(x);
  Tensor wide = torch::stable::new_empty(rows, rows.sizes(), ScalarType::Float);
  const uint16_t* from = static_cast<const uint16_t*>(rows.const_data_ptr());
  uint32_t* to = static_cast<uint32_t*>(wide.mutable_data_ptr());
  const int64_t count = rows.numel(), chunk = 1 << 16;
  run_tasks(ceil_div(count, chunk), [&](int64_t task) {
    for (int64_t i = task * chunk; i < std::min(count, (task + 1) * chunk); ++i) to[i] = uint32_t(from[i]) << 16;
  });
  return wide;
}
inline void narrow(const Tensor& x, const Tensor& y) {
  const uint32_t* from = static_cast<const uint32_t*>(x.const_data_ptr());
  uint16_t* to = static_cast<uint16_t*>(y.mutable_data_ptr());
  const int64_t count = x.numel(), chunk = 1 << 16;
  run_tasks(ceil_div(count, chunk), [&](int64_t task) {
    for (int64_t i = task * chunk; i < std::min(count, (task + 1) * chunk); ++i) {
      const bool nan = (from[i] & 0x7fffffff) > 0x7f800000;
      to[i] = nan ? 0x7fc0 : (from[i] + 0x7fff + (from[i] >> 16 & 1)) >> 16;  // to the nearest, ties to even
    }
  });
}
inline Tensor narrowed(const Tensor& x) {
  Tensor y = torch::stable::new_empty(x, x.sizes(), ScalarType::BFloat16);
  narrow(x, y);
  return y;
}

}  // namespace pc3d

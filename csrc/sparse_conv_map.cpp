// Kernel maps (contract in pc3d/ops/sparse_map.py) without a hash: both key lists are sorted, so the partners of all
// outputs along one line of taps (dx, dy, *) come from a single merge.

#include "pc3d.h"
#include "tasks.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

namespace pc3d {
namespace {

// The layout of a key; the same numbers stand in pc3d/ops/sparse_map.py.
constexpr int kBits = 16;
constexpr int64_t kBias = 64;
constexpr int64_t kMask = (int64_t(1) << kBits) - 1;

using Triple = std::array<int64_t, 3>;

Triple triple(const std::vector<int64_t>& values) {
  check(values.size() == 3, "sparse_kernel_map: sizes are three integers");
  return {values[0], values[1], values[2]};
}

struct Voxel {
  int64_t scan;
  Triple at;
};

Voxel unpack(int64_t key) {
  return {key >> (3 * kBits),
          {(key >> (2 * kBits) & kMask) - kBias, (key >> kBits & kMask) - kBias, (key & kMask) - kBias}};
}
int64_t pack(int64_t scan, const Triple& at) {
  return (scan << (3 * kBits)) + ((at[0] + kBias) << (2 * kBits)) + ((at[1] + kBias) << kBits) + at[2] + kBias;
}

struct Geometry {
  Triple kernel, stride, padding;

  int64_t lines() const { return kernel[0] * kernel[1]; }
  int64_t taps() const { return lines() * kernel[2]; }
  bool unit_stride() const { return stride == Triple{1, 1, 1}; }
  bool symmetric() const {
    for (int axis = 0; axis < 3; ++axis)
      if (kernel[axis] != 2 * padding[axis] + 1) return false;
    return unit_stride();
  }
};

// Pairs of one tap while it is being made. Room for one more than can be: the merge writes first and counts after.
struct TapPairs {
  void reserve(int64_t most) {
    in.reset(new int32_t[most + 1]);
    out.reset(new int32_t[most + 1]);
  }
  std::unique_ptr<int32_t[]> in, out;
  int64_t count = 0;
};

class MapBuilder {
 public:
  MapBuilder(const int64_t* out_keys, int64_t num_out, const int64_t* in_keys, int64_t num_in, const Geometry& geometry)
      : out_keys_(out_keys), num_out_(num_out), num_in_(num_in), geometry_(geometry), taps_(geometry.taps()),
        in_keys_(in_keys, in_keys + num_in) {
    // Taps read so far past the end; no key is as large.
    in_keys_.resize(num_in + geometry.kernel[2], std::numeric_limits<int64_t>::max());
    // Equal sites and a symmetric kernel: tap k from i to o is tap K-1-k from o to i, so half of the lines will do.
    mirrored_ = geometry.symmetric() && num_out == num_in && !std::memcmp(out_keys, in_keys, num_in * sizeof(int64_t));
  }

  void build() {
    const int64_t first = mirrored_ ? geometry_.lines() / 2 : 0;
    run_tasks(geometry_.lines() - first, [&](int64_t line) { merge_line(first + line); });
  }

  std::tuple<Tensor, Tensor, Tensor> result(const Tensor& like) const {
    Tensor offsets = empty(like, {geometry_.taps() + 1}, ScalarType::Long);
    int64_t* offset = mutable_data<int64_t>(offsets);
    offset[0] = 0;
    for (int64_t tap = 0; tap < geometry_.taps(); ++tap) offset[tap + 1] = offset[tap] + source(tap).count;
    const int64_t total = offset[geometry_.taps()];
    Tensor in_rows = empty(like, {total}, ScalarType::Int), out_rows = empty(like, {total}, ScalarType::Int);
    int32_t *in = mutable_data<int32_t>(in_rows), *out = mutable_data<int32_t>(out_rows);
    run_tasks(geometry_.taps(), [&](int64_t tap) {
      const TapPairs& pairs = source(tap);
      const bool swap = &pairs != &taps_[tap];
      std::copy_n((swap ? pairs.out : pairs.in).get(), pairs.count, in + offset[tap]);
      std::copy_n((swap ? pairs.in : pairs.out).get(), pairs.count, out + offset[tap]);
    });
    return {in_rows, out_rows, offsets};
  }

 private:
  // The pairs of a tap, or of its mirror image where only that was made.
  const TapPairs& source(int64_t tap) const {
    const bool made = !mirrored_ || tap / geometry_.kernel[2] >= geometry_.lines() / 2;
    return taps_[made ? tap : geometry_.taps() - 1 - tap];
  }

  // Key of the input voxel that the line's first tap reads for an output: ascending, as the outputs are.
  int64_t first_key(int64_t out_key, const Triple& shift) const {
    Voxel voxel = unpack(out_key);
    for (int axis = 0; axis < 3; ++axis) voxel.at[axis] = voxel.at[axis] * geometry_.stride[axis] + shift[axis];
    return pack(voxel.scan, voxel.at);
  }

  void merge_line(int64_t line) {
    switch (geometry_.kernel[2]) {
      case 1: return merge_line<1>(line);
      case 2: return merge_line<2>(line);
      case 3: return merge_line<3>(line);
      default: return merge_line<kBias>(line);
    }
  }

  // With kernels of up to Z taps along z.
  template <int64_t Z>
  void merge_line(int64_t line) {
    const Triple& kernel = geometry_.kernel;
    const Triple& padding = geometry_.padding;
    const Triple shift = {line / kernel[1] - padding[0], line % kernel[1] - padding[1], -padding[2]};
    const int64_t delta = pack(0, shift) - pack(0, {0, 0, 0}), depth = Z < kBias ? Z : kernel[2];
    TapPairs* taps = taps_.data() + line * kernel[2];
    int32_t *in[Z], *out[Z];
    for (int64_t z = 0; z < depth; ++z) {
      taps[z].reserve(num_out_);  // each output adds one pair at most
      in[z] = taps[z].in.get();
      out[z] = taps[z].out.get();
    }
    const bool constant = geometry_.unit_stride();
    const int64_t* keys = in_keys_.data();
    for (int64_t o = 0; o < num_out_; ++o) {
      const int64_t wanted = constant ? out_keys_[o] + delta : first_key(out_keys_[o], shift);
      while (*keys < wanted) ++keys;
      const int64_t* key = keys;
      for (int64_t z = 0; z < depth; ++z) {
        *in[z] = static_cast<int32_t>(key - in_keys_.data());
        *out[z] = static_cast<int32_t>(o);
        const bool hit = *key == wanted + z;
        in[z] += hit;
        out[z] += hit;
        key += hit;
      }
    }
    for (int64_t z = 0; z < depth; ++z) taps[z].count = in[z] - taps[z].in.get();
  }

  const int64_t* out_keys_;
  int64_t num_out_, num_in_;
  Geometry geometry_;
  std::vector<TapPairs> taps_;
  std::vector<int64_t> in_keys_;
  bool mirrored_ = false;
};

// Parents of one voxel along one axis: coarse with stride * coarse + tap - padding == fine, 0 <= tap < kernel.
template <class F>
void each_parent(int64_t fine, int64_t kernel, int64_t stride, int64_t padding, int64_t size, const F& use) {
  const int64_t reach = fine + padding;
  for (int64_t coarse = reach / stride; coarse >= 0 && reach - stride * coarse < kernel; --coarse)
    if (coarse < size) use(coarse);
}

// Radix sort by 11 bits at a time, of those bits alone in which the keys differ.
void sort_keys(std::vector<int64_t>& keys) {
  constexpr int digit = 11;
  uint64_t differing = 0;
  for (const int64_t key : keys) differing |= static_cast<uint64_t>(key ^ keys[0]);
  std::vector<int64_t> sorted(keys.size());
  for (int shift = 0; shift < 64; shift += digit) {
    if (!(differing >> shift & ((1 << digit) - 1))) continue;
    std::array<size_t, 1 << digit> next{};
    const auto bucket = [&](int64_t key) { return static_cast<uint64_t>(key) >> shift & ((1 << digit) - 1); };
    for (const int64_t key : keys) ++next[bucket(key)];
    size_t begin = 0;
    for (size_t& place : next) begin += std::exchange(place, begin);
    for (const int64_t key : keys) sorted[next[bucket(key)]++] = key;
    keys.swap(sorted);
  }
}

void sort_unique(std::vector<int64_t>& keys) {
  sort_keys(keys);
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
}

const int64_t* checked_keys(const Tensor& keys) {
  check(keys.dim() == 1 && keys.scalar_type() == ScalarType::Long && keys.is_contiguous(),
        "sparse_kernel_map: keys must be contiguous int64");
  check(keys.numel() < std::numeric_limits<int32_t>::max(), "sparse_kernel_map: too many voxels for 32-bit rows");
  const int64_t* key = data<int64_t>(keys);
  bool ascending = true;
  for (int64_t i = 1; i < keys.numel(); ++i) ascending &= key[i - 1] < key[i];
  check(ascending, "sparse_kernel_map: keys must be sorted and unique");
  return key;
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> sparse_kernel_map(Tensor out_keys, Tensor in_keys, std::vector<int64_t> kernel_size,
                                                     std::vector<int64_t> stride, std::vector<int64_t> padding) {
  const Geometry geometry{triple(kernel_size), triple(stride), triple(padding)};
  MapBuilder builder(checked_keys(out_keys), out_keys.numel(), checked_keys(in_keys), in_keys.numel(), geometry);
  builder.build();
  return builder.result(out_keys);
}

Tensor sparse_coarse_keys(Tensor keys, std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                          std::vector<int64_t> padding, std::vector<int64_t> shape) {
  const Triple k = triple(kernel_size), s = triple(stride), p = triple(padding), n = triple(shape);
  const int64_t* fine = checked_keys(keys);
  std::vector<int64_t> coarse;
  coarse.reserve(keys.numel());
  for (int64_t i = 0; i < keys.numel(); ++i) {
    const Voxel voxel = unpack(fine[i]);
    each_parent(voxel.at[0], k[0], s[0], p[0], n[0], [&](int64_t x) {
      each_parent(voxel.at[1], k[1], s[1], p[1], n[1], [&](int64_t y) {
        each_parent(voxel.at[2], k[2], s[2], p[2], n[2], [&](int64_t z) {
          const int64_t key = pack(voxel.scan, {x, y, z});
          if (coarse.empty() || coarse.back() != key) coarse.push_back(key);
        });
      });
    });
  }
  sort_unique(coarse);
  Tensor result = empty(keys, {static_cast<int64_t>(coarse.size())}, ScalarType::Long);
  std::copy(coarse.begin(), coarse.end(), mutable_data<int64_t>(result));
  return result;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) {
  m.impl("sparse_kernel_map", TORCH_BOX(&pc3d::sparse_kernel_map));
  m.impl("sparse_coarse_keys", TORCH_BOX(&pc3d::sparse_coarse_keys));
}

// Kernel maps (contract in pc3d/ops/sparse_map.py) without a hash: both key lists are sorted, so the partners of all
// outputs along one line of taps (dx, dy, *) come from a single merge.

#include "pc3d.h"
#include "tasks.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

namespace pc3d {
namespace {

// The layout of a key; the same numbers stand in pc3d/ops/sparse_map.py.
constexpr int kBits = 16;
constexpr int64_t kBias = 64;
constexpr int64_t kMask = (int64_t(1) << kBits) - 1;

constexpr int64_t kChunk = 8192;  // voxels of one task

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
constexpr int64_t pack(int64_t scan, const Triple& at) {
  return (scan << (3 * kBits)) + ((at[0] + kBias) << (2 * kBits)) + ((at[1] + kBias) << kBits) + at[2] + kBias;
}

constexpr int64_t kOrigin = pack(0, {0, 0, 0});

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

struct Pair {
  int32_t in, out;
};

// Pairs of one tap and chunk while they are being made. Room for one more than can be: a merge writes first and counts
// after.
struct TapPairs {
  Pair* reserve(int64_t most) {
    pairs.reset(new Pair[most + 1]);
    return pairs.get();
  }
  std::unique_ptr<Pair[]> pairs;
  int64_t count = 0;
};

class MapBuilder {
 public:
  MapBuilder(const int64_t* out_keys, int64_t num_out, const int64_t* in_keys, int64_t num_in, const Geometry& geometry)
      : out_keys_(out_keys), num_out_(num_out), geometry_(geometry), chunks_((num_out + kChunk - 1) / kChunk),
        parts_(geometry.taps() * chunks_) {
    // Equal sites and a symmetric kernel: tap k from i to o is tap K-1-k from o to i, so half of the lines will do.
    mirrored_ = geometry.symmetric() && num_out == num_in && !std::memcmp(out_keys, in_keys, num_in * sizeof(int64_t));
    // Merges read so far past the end; no key is as large.
    const int64_t padded = num_in + geometry.kernel[2];
    in_keys_.reserve(padded);
    in_keys_.assign(in_keys, in_keys + num_in);
    in_keys_.resize(padded, std::numeric_limits<int64_t>::max());
  }

  void build() {
    const int64_t first = mirrored_ ? geometry_.lines() / 2 : 0, lines = geometry_.lines() - first;
    run_tasks(lines * chunks_, [&](int64_t i) { merge_line(first + i % lines, i / lines); });
  }

  std::tuple<Tensor, Tensor, Tensor> result(const Tensor& like) const {
    std::vector<int64_t> begin(parts_.size() + 1);
    for (size_t i = 0; i < parts_.size(); ++i) begin[i + 1] = begin[i] + source(i).count;
    Tensor offsets = empty(like, {geometry_.taps() + 1}, ScalarType::Long);
    for (int64_t tap = 0; tap <= geometry_.taps(); ++tap) mutable_data<int64_t>(offsets)[tap] = begin[tap * chunks_];
    Tensor in_rows = empty(like, {begin.back()}, ScalarType::Int);
    Tensor out_rows = empty(like, {begin.back()}, ScalarType::Int);
    int32_t *in = mutable_data<int32_t>(in_rows), *out = mutable_data<int32_t>(out_rows);
    run_tasks(parts_.size(), [&](int64_t i) {
      const TapPairs& made = source(i);
      int32_t *first = in + begin[i], *second = out + begin[i];
      if (&made != &parts_[i]) std::swap(first, second);
      for (int64_t j = 0; j < made.count; ++j) {
        first[j] = made.pairs[j].in;
        second[j] = made.pairs[j].out;
      }
    });
    return {in_rows, out_rows, offsets};
  }

 private:
  TapPairs* part(int64_t tap, int64_t chunk) { return &parts_[tap * chunks_ + chunk]; }

  // Part i, or that of the mirrored tap where only this was made.
  const TapPairs& source(int64_t i) const {
    const int64_t tap = i / chunks_, chunk = i % chunks_;
    const bool made = !mirrored_ || tap / geometry_.kernel[2] >= geometry_.lines() / 2;
    return parts_[(made ? tap : geometry_.taps() - 1 - tap) * chunks_ + chunk];
  }

  // Key of the input voxel that the line's first tap reads for an output: ascending, as the outputs are.
  int64_t first_key(int64_t out_key, const Triple& shift) const {
    Voxel voxel = unpack(out_key);
    for (int axis = 0; axis < 3; ++axis) voxel.at[axis] = voxel.at[axis] * geometry_.stride[axis] + shift[axis];
    return pack(voxel.scan, voxel.at);
  }

  void merge_line(int64_t line, int64_t chunk) {
    switch (geometry_.kernel[2]) {
      case 1: return merge_line<1>(line, chunk);
      case 2: return merge_line<2>(line, chunk);
      case 3: return merge_line<3>(line, chunk);
      default: return merge_line<kBias>(line, chunk);
    }
  }

  // Pairs of a chunk of outputs, with kernels of up to Z taps along z.
  template <int64_t Z>
  void merge_line(int64_t line, int64_t chunk) {
    const Triple& kernel = geometry_.kernel;
    const Triple& padding = geometry_.padding;
    const Triple shift = {line / kernel[1] - padding[0], line % kernel[1] - padding[1], -padding[2]};
    const int64_t delta = pack(0, shift) - kOrigin, depth = Z < kBias ? Z : kernel[2];
    const int64_t begin = chunk * kChunk, end = std::min(begin + kChunk, num_out_);
    Pair* pairs[Z];
    // Each output adds one pair at most.
    for (int64_t z = 0; z < depth; ++z) pairs[z] = part(line * kernel[2] + z, chunk)->reserve(end - begin);
    const bool constant = geometry_.unit_stride();
    const auto wanted_by = [&](int64_t o) { return constant ? out_keys_[o] + delta : first_key(out_keys_[o], shift); };
    const int64_t* keys = in_keys_.data();
    int64_t next = std::lower_bound(in_keys_.begin(), in_keys_.end() - 1, wanted_by(begin)) - in_keys_.begin();
    for (int64_t o = begin; o < end; ++o) {
      const int64_t wanted = wanted_by(o);
      while (keys[next] < wanted) ++next;
      int64_t i = next;
      for (int64_t z = 0; z < depth; ++z) {
        *pairs[z] = {static_cast<int32_t>(i), static_cast<int32_t>(o)};
        const bool hit = keys[i] == wanted + z;
        pairs[z] += hit;
        i += hit;
      }
    }
    for (int64_t z = 0; z < depth; ++z) {
      TapPairs* made = part(line * kernel[2] + z, chunk);
      made->count = pairs[z] - made->pairs.get();
    }
  }

  const int64_t* out_keys_;
  int64_t num_out_;
  Geometry geometry_;
  int64_t chunks_;
  std::vector<TapPairs> parts_;  // by tap, then chunk
  std::vector<int64_t> in_keys_;
  bool mirrored_ = false;
};

// Blocks of 2^shift voxels along each axis (kernel == stride). The arithmetic is on keys less the bias, whose fields are
// the coordinates.
struct Blocks {
  std::array<int, 3> shift;

  static std::optional<Blocks> of(const Geometry& geometry) {
    Blocks blocks;
    for (int axis = 0; axis < 3; ++axis) {
      const int64_t size = geometry.kernel[axis];
      if (size != geometry.stride[axis] || geometry.padding[axis] || (size & (size - 1))) return std::nullopt;
      blocks.shift[axis] = 0;
      while (int64_t(1) << blocks.shift[axis] < size) ++blocks.shift[axis];
    }
    return blocks;
  }
  static int64_t unbiased(int64_t key) { return key - kOrigin; }

  int64_t x(int64_t voxel) const { return (voxel >> (2 * kBits) & kMask) >> shift[0]; }
  int64_t y(int64_t voxel) const { return (voxel >> kBits & kMask) >> shift[1]; }
  int64_t z(int64_t voxel) const { return (voxel & kMask) >> shift[2]; }
  // Number of the scan's plane of blocks that a voxel is in: ascending, as keys are.
  int64_t plane(int64_t voxel) const { return voxel >> (2 * kBits + shift[0]); }

  // Key of the block at z = 0 on a voxel's line of blocks.
  int64_t line_key(int64_t voxel) const {
    return (voxel >> (3 * kBits) << (3 * kBits)) + (x(voxel) << (2 * kBits)) + (y(voxel) << kBits) + kOrigin;
  }
};

// Sorted keys of the blocks with voxels: a plane of blocks at a time, in it a line of blocks at a time, whose voxels set
// bits of a bitmap along z.
class BlockKeys {
 public:
  BlockKeys(const Blocks& blocks, const Triple& shape)
      : blocks_(blocks), shape_(shape), next_((size_t(1) << blocks.shift[0]) + 1), bits_((kMask + 1) / 64) {}

  // Adds those of whole planes.
  void add(const int64_t* begin, const int64_t* end, std::vector<int64_t>& found) {
    while (begin != end) {
      const int64_t first = Blocks::unbiased(*begin), plane = blocks_.plane(first);
      next_.front() = begin;
      for (size_t x = 1; x < next_.size(); ++x) {
        const int64_t bound = (((plane << blocks_.shift[0]) + static_cast<int64_t>(x)) << (2 * kBits)) + kOrigin;
        next_[x] = std::lower_bound(next_[x - 1], end, bound);
      }
      begin = next_.back();
      if (blocks_.x(first) < shape_[0]) add_plane(found);
    }
  }

 private:
  // next_: the first voxel of each plane of voxels, and the end of the last.
  void add_plane(std::vector<int64_t>& found) {
    const std::vector<const int64_t*> stop(next_.begin() + 1, next_.end());
    const auto line_at = [&](size_t x) {
      return next_[x] == stop[x] ? kMask : blocks_.y(Blocks::unbiased(*next_[x]));
    };
    for (;;) {
      int64_t line = kMask;
      for (size_t x = 0; x < stop.size(); ++x) line = std::min(line, line_at(x));
      if (line >= shape_[1]) return;
      int64_t low = kMask, high = 0, voxel = 0;
      for (size_t x = 0; x < stop.size(); ++x) {
        for (; line_at(x) == line; ++next_[x]) {
          voxel = Blocks::unbiased(*next_[x]);
          const int64_t z = blocks_.z(voxel);
          bits_[z / 64] |= uint64_t(1) << z % 64;
          low = std::min(low, z);
          high = std::max(high, z);
        }
      }
      take_bits(blocks_.line_key(voxel), low / 64, high / 64, found);
    }
  }

  void take_bits(int64_t line_key, int64_t first, int64_t last, std::vector<int64_t>& found) {
    for (int64_t word = first; word <= last; ++word) {
      for (uint64_t left = std::exchange(bits_[word], 0); left; left &= left - 1) {
        const int64_t z = 64 * word + __builtin_ctzll(left);
        if (z < shape_[2]) found.push_back(line_key + z);
      }
    }
  }

  Blocks blocks_;
  Triple shape_;
  std::vector<const int64_t*> next_;
  std::vector<uint64_t> bits_;
};

Tensor joined(const std::vector<std::vector<int64_t>>& parts, const Tensor& like) {
  std::vector<int64_t> begin(parts.size() + 1);
  for (size_t i = 0; i < parts.size(); ++i) begin[i + 1] = begin[i] + parts[i].size();
  Tensor all = empty(like, {begin.back()}, ScalarType::Long);
  for (size_t i = 0; i < parts.size(); ++i)
    std::copy(parts[i].begin(), parts[i].end(), mutable_data<int64_t>(all) + begin[i]);
  return all;
}

Tensor block_keys(const Tensor& keys, const int64_t* fine, const Blocks& blocks, const Triple& shape) {
  // Chunks end where a plane of blocks does.
  std::vector<const int64_t*> bounds{fine};
  for (int64_t i = kChunk; i < keys.numel(); i += kChunk) {
    const int64_t plane = blocks.plane(Blocks::unbiased(fine[i]));
    const int64_t first = (plane << (2 * kBits + blocks.shift[0])) + kOrigin;
    bounds.push_back(std::lower_bound(bounds.back(), fine + keys.numel(), first));
  }
  bounds.push_back(fine + keys.numel());
  std::vector<std::vector<int64_t>> found(bounds.size() - 1);
  run_tasks(found.size(), [&] { return BlockKeys(blocks, shape); }, [&](BlockKeys& worker, int64_t i) {
    found[i].reserve(bounds[i + 1] - bounds[i]);
    worker.add(bounds[i], bounds[i + 1], found[i]);
  });
  return joined(found, keys);
}

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
  if (const auto blocks = Blocks::of({k, s, p})) return block_keys(keys, fine, *blocks, n);
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

#include "voxel_ids.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

namespace pc3d {
namespace {

struct Cell {
  uint64_t key;
  uint32_t point;
};

// Bits that hold every number up to ``largest``.
int width(uint32_t largest) {
  int bits = 0;
  for (; largest; largest >>= 1) ++bits;
  return bits;
}

// Keys (x, y, z), x highest, with no more bits a coordinate than the scan needs: fewer digits to sort.
class Keys {
 public:
  Keys(const float* positions, int64_t count) : cells_(count) {
    float top[3] = {0, 0, 0};
    for (int64_t i = 0; i < count; ++i)
      for (int axis = 0; axis < 3; ++axis) top[axis] = std::max(top[axis], positions[3 * i + axis]);
    for (int axis = 0; axis < 3; ++axis) {
      check(top[axis] < 65536.0f, "voxel_ids: positions must be below 2^16");
      bits_[axis] = width(static_cast<uint32_t>(top[axis]));
    }
    const int digits = (bits_[0] + bits_[1] + bits_[2] + kDigit - 1) / kDigit;
    starts_.assign(digits * kBuckets, 0);
    for (int64_t i = 0; i < count; ++i) {
      const float* p = positions + 3 * i;
      const uint64_t key = pack(static_cast<uint32_t>(p[0]), static_cast<uint32_t>(p[1]), static_cast<uint32_t>(p[2]));
      cells_[i] = {key, static_cast<uint32_t>(i)};
      for (int d = 0; d < digits; ++d) ++starts_[d * kBuckets + (key >> (d * kDigit) & (kBuckets - 1))];
    }
  }

  // Stable radix sort.
  const std::vector<Cell>& sort() {
    std::vector<Cell> to(cells_.size());
    for (size_t d = 0; d * kBuckets < starts_.size(); ++d) {
      uint32_t* start = starts_.data() + d * kBuckets;
      uint32_t sum = 0;
      for (int bucket = 0; bucket < kBuckets; ++bucket) sum += std::exchange(start[bucket], sum);
      for (const Cell& cell : cells_) to[start[cell.key >> (d * kDigit) & (kBuckets - 1)]++] = cell;
      cells_.swap(to);
    }
    return cells_;
  }

  void unpack(uint64_t key, int32_t* coords) const {
    coords[0] = static_cast<int32_t>(key >> (bits_[1] + bits_[2]));
    coords[1] = static_cast<int32_t>(key >> bits_[2] & ((uint64_t(1) << bits_[1]) - 1));
    coords[2] = static_cast<int32_t>(key & ((uint64_t(1) << bits_[2]) - 1));
  }

 private:
  uint64_t pack(uint32_t x, uint32_t y, uint32_t z) const {
    return (uint64_t(x) << (bits_[1] + bits_[2])) | (uint64_t(y) << bits_[2]) | z;
  }

  static constexpr int kDigit = 9, kBuckets = 1 << kDigit;  // so few places to write to at once stay in the first cache

  std::vector<Cell> cells_;
  std::vector<uint32_t> starts_;  // of the buckets of each digit, the lowest first
  int bits_[3];
};

}  // namespace

std::tuple<Tensor, Tensor> voxel_ids(const Tensor& positions_in) {
  const Tensor positions = torch::stable::contiguous(positions_in);
  check(positions.dim() == 2 && positions.size(1) == 3 && positions.scalar_type() == ScalarType::Float,
        "voxel_ids: positions must be float32 (N, 3)");
  const int64_t count = positions.size(0);
  check(count < std::numeric_limits<uint32_t>::max(), "voxel_ids: more than 2^32 points");
  Keys keys(data<float>(positions), count);
  const std::vector<Cell>& cells = keys.sort();
  int64_t voxels = 0;
  for (int64_t i = 0; i < count; ++i) voxels += i == 0 || cells[i].key != cells[i - 1].key;
  Tensor coords = empty(positions, {voxels, 3}, ScalarType::Int), voxel_of = empty(positions, {count}, ScalarType::Long);
  int32_t* coord = mutable_data<int32_t>(coords);
  int64_t* voxel = mutable_data<int64_t>(voxel_of);
  int64_t last = -1;
  for (int64_t i = 0; i < count; ++i) {
    if (i == 0 || cells[i].key != cells[i - 1].key) keys.unpack(cells[i].key, coord + 3 * ++last);
    voxel[cells[i].point] = last;
  }
  return {coords, voxel_of};
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("voxel_ids", TORCH_BOX(&pc3d::voxel_ids)); }

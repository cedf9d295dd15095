#include "voxel_ids.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#define PC3D_SIMD voxels_plain
#define PC3D_TARGET
#include "voxel_bitmap.h"
#undef PC3D_SIMD
#undef PC3D_TARGET
#if defined(__x86_64__)
#define PC3D_SIMD voxels_avx2
#define PC3D_TARGET __attribute__((target("avx2,popcnt,bmi")))
#include "voxel_bitmap.h"
#undef PC3D_SIMD
#undef PC3D_TARGET
#endif

namespace pc3d {
namespace {

constexpr int64_t kWords = 4;  // 64 cells each: of a bitmap, for every point
constexpr int kDigit = 9, kBuckets = 1 << kDigit;  // of the radix sort: so few places to write to at once stay in the first cache

// How many bits each coordinate takes in a key (x, y, z), x highest: no more than the scan needs, for fewer digits to sort.
struct Layout {
  Layout(const float* positions, int64_t count) {
    typedef float Four __attribute__((vector_size(16)));
    Four most[3] = {};  // of x y z x, y z x y, z x y z
    int64_t i = 0;
    for (; i + 4 <= count; i += 4)
      for (int part = 0; part < 3; ++part) {
        Four read;
        std::memcpy(&read, positions + 3 * i + 4 * part, sizeof(read));
        most[part] = read > most[part] ? read : most[part];
      }
    float top[3] = {0, 0, 0};
    for (int lane = 0; lane < 12; ++lane) top[lane % 3] = std::max(top[lane % 3], most[lane / 4][lane % 4]);
    for (; i < count; ++i)
      for (int axis = 0; axis < 3; ++axis) top[axis] = std::max(top[axis], positions[3 * i + axis]);
    for (int axis = 0; axis < 3; ++axis) {
      check(top[axis] < 65536.0f, "voxel_ids: positions must be below 2^16");
      size[axis] = static_cast<int64_t>(top[axis]) + 1;
      for (int64_t rest = size[axis] - 1; rest; rest >>= 1) ++bits[axis];
    }
  }

  int total() const { return bits[0] + bits[1] + bits[2]; }
  uint64_t pack(const float* p) const {
    const uint64_t x = static_cast<uint32_t>(p[0]), y = static_cast<uint32_t>(p[1]), z = static_cast<uint32_t>(p[2]);
    return x << (bits[1] + bits[2]) | y << bits[2] | z;
  }
  void unpack(uint64_t key, int32_t* coords) const {
    coords[0] = static_cast<int32_t>(key >> (bits[1] + bits[2]));
    coords[1] = static_cast<int32_t>(key >> bits[2] & ((uint64_t(1) << bits[1]) - 1));
    coords[2] = static_cast<int32_t>(key & ((uint64_t(1) << bits[2]) - 1));
  }

  int bits[3] = {0, 0, 0};
  int64_t size[3];  // of the grid, in cells
};

template <class Bitmap>
std::tuple<Tensor, Tensor> number_cells(const Layout& layout, const Tensor& positions) {
  const int64_t count = positions.size(0);
  const float* position = data<float>(positions);
  Bitmap bitmap(layout.size[0], layout.size[1], layout.size[2]);
  Tensor coords = empty(positions, {bitmap.mark(position, count), 3}, ScalarType::Int);
  Tensor voxel_of = empty(positions, {count}, ScalarType::Long);
  bitmap.number(position, count, mutable_data<int64_t>(voxel_of), mutable_data<int32_t>(coords));
  return {coords, voxel_of};
}

std::tuple<Tensor, Tensor> number_cells(const Layout& layout, const Tensor& positions) {
#if defined(__x86_64__)
  if (best_isa() >= Isa::avx2) return number_cells<voxels_avx2::Bitmap>(layout, positions);
#endif
  return number_cells<voxels_plain::Bitmap>(layout, positions);
}

template <class Key>
struct Cell {
  Key key;
  uint32_t point;
};

// Points by rising key, equal keys in the order of the points: a radix sort, the digits counted in one pass.
template <class Key>
std::vector<Cell<Key>> sorted_cells(const Layout& layout, const float* positions, int64_t count) {
  const int digits = (layout.total() + kDigit - 1) / kDigit;
  std::vector<uint32_t> starts(digits * kBuckets, 0);
  std::vector<Cell<Key>> from(count), to(digits ? count : 0);
  for (int64_t i = 0; i < count; ++i) {
    const Key key = static_cast<Key>(layout.pack(positions + 3 * i));
    from[i] = {key, static_cast<uint32_t>(i)};
    for (int d = 0; d < digits; ++d) ++starts[d * kBuckets + (key >> (d * kDigit) & (kBuckets - 1))];
  }
  for (int d = 0; d < digits; ++d) {
    uint32_t *start = starts.data() + d * kBuckets, sum = 0;
    for (int bucket = 0; bucket < kBuckets; ++bucket) sum += std::exchange(start[bucket], sum);
    for (const Cell<Key>& cell : from) to[start[cell.key >> (d * kDigit) & (kBuckets - 1)]++] = cell;
    from.swap(to);
  }
  return from;
}

template <class Key>
std::tuple<Tensor, Tensor> number_voxels(const Layout& layout, const Tensor& positions) {
  const int64_t count = positions.size(0);
  const std::vector<Cell<Key>> cells = sorted_cells<Key>(layout, data<float>(positions), count);
  int64_t voxels = 0;
  for (int64_t i = 0; i < count; ++i) voxels += i == 0 || cells[i].key != cells[i - 1].key;
  Tensor coords = empty(positions, {voxels, 3}, ScalarType::Int), voxel_of = empty(positions, {count}, ScalarType::Long);
  int32_t* coord = mutable_data<int32_t>(coords);
  int64_t* voxel = mutable_data<int64_t>(voxel_of);
  int64_t last = -1;
  for (int64_t i = 0; i < count; ++i) {
    if (i == 0 || cells[i].key != cells[i - 1].key) layout.unpack(cells[i].key, coord + 3 * ++last);
    voxel[cells[i].point] = last;
  }
  return {coords, voxel_of};
}

}  // namespace

std::tuple<Tensor, Tensor> voxel_ids(const Tensor& positions_in) {
  const Tensor positions = torch::stable::contiguous(positions_in);
  check(positions.dim() == 2 && positions.size(1) == 3 && positions.scalar_type() == ScalarType::Float,
        "voxel_ids: positions must be float32 (N, 3)");
  check(positions.size(0) < std::numeric_limits<uint32_t>::max(), "voxel_ids: more than 2^32 points");
  const Layout layout(data<float>(positions), positions.size(0));
  if (layout.size[0] * layout.size[1] * ((layout.size[2] + 63) / 64) <= kWords * positions.size(0))
    return number_cells(layout, positions);
  return layout.total() <= 32 ? number_voxels<uint32_t>(layout, positions) : number_voxels<uint64_t>(layout, positions);
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("voxel_ids", TORCH_BOX(&pc3d::voxel_ids)); }

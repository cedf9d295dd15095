// Voxels numbered without sorting, where the grid between the points is not too large (voxel_ids.cpp); included once for each
// instruction set. The includer defines PC3D_SIMD (a namespace) and PC3D_TARGET (function attributes: counting bits is one
// instruction on nearly all machines).
#include <cstdint>
#include <memory>
#include <vector>

namespace pc3d {
namespace PC3D_SIMD {

// Cells by rising (x, y, z) are bits, words hold 64 of a column along z. A bit is set where there is a point; the number of its
// voxel is how many bits come before it.
struct Bitmap {
  Bitmap(int64_t x, int64_t y, int64_t z) : rows(y), words((z + 63) / 64), bits(x * rows * words), before(new uint32_t[bits.size()]) {}

  // Mark the cell of every point, and return how many cells are.
  PC3D_TARGET int64_t mark(const float* p, int64_t count) {
    for (const float* end = p + 3 * count; p < end; p += 3) bits[word(p)] |= bit(p);
    uint32_t voxels = 0;
    for (size_t i = 0; i < bits.size(); ++i) {
      before[i] = voxels;
      voxels += __builtin_popcountll(bits[i]);
    }
    return voxels;
  }
  // The voxel of every point, and the cell of every voxel.
  PC3D_TARGET void number(const float* p, int64_t count, int64_t* voxel, int32_t* cell) const {
    for (const float* end = p + 3 * count; p < end; p += 3) {
      const int64_t at = word(p), id = before[at] + __builtin_popcountll(bits[at] & (bit(p) - 1));
      *voxel++ = id;
      for (int axis = 0; axis < 3; ++axis) cell[3 * id + axis] = static_cast<int32_t>(p[axis]);
    }
  }

 private:
  PC3D_TARGET int64_t word(const float* p) const {
    const int32_t x = static_cast<int32_t>(p[0]), y = static_cast<int32_t>(p[1]), z = static_cast<int32_t>(p[2]);
    return (x * rows + y) * words + (z >> 6);
  }
  PC3D_TARGET static uint64_t bit(const float* p) { return uint64_t(1) << (static_cast<int32_t>(p[2]) & 63); }

  int64_t rows, words;
  std::vector<uint64_t> bits;
  std::unique_ptr<uint32_t[]> before;  // of each word: how many bits come before its own
};

}  // namespace PC3D_SIMD
}  // namespace pc3d

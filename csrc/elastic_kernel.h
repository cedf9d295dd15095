// The trilinear reading of elastic.cpp, included once for each instruction set. The includer defines PC3D_SIMD (a namespace),
// PC3D_TARGET (function attributes) and PC3D_WIDE (1 where registers hold 32 bytes). Neither set fuses multiplications with additions, so both give the same bits.
#include "elastic_grid.h"

#define PC3D_INLINE PC3D_TARGET static inline __attribute__((always_inline))

namespace pc3d {
namespace PC3D_SIMD {

PC3D_INLINE Shift mix(Shift a, Shift b, float t) { return a + t * (b - a); }

// A node and its next along z side by side: one register where those are wide enough.
#if PC3D_WIDE
typedef float Pair __attribute__((vector_size(32), aligned(16)));
PC3D_INLINE Pair pair(const Shift* node) { return *reinterpret_cast<const Pair*>(node); }
PC3D_INLINE Pair mix(Pair a, Pair b, float t) { return a + t * (b - a); }
PC3D_INLINE Shift low(Pair p) { return Shift{p[0], p[1], p[2], p[3]}; }
PC3D_INLINE Shift high(Pair p) { return Shift{p[4], p[5], p[6], p[7]}; }
#else
struct Pair {
  Shift first, second;
};
PC3D_INLINE Pair pair(const Shift* node) { return {node[0], node[1]}; }
PC3D_INLINE Pair mix(const Pair& a, const Pair& b, float t) { return {mix(a.first, b.first, t), mix(a.second, b.second, t)}; }
PC3D_INLINE Shift low(const Pair& p) { return p.first; }
PC3D_INLINE Shift high(const Pair& p) { return p.second; }
#endif

// What a position is moved by; nothing outside the grid and for NaN.
PC3D_INLINE Shift read(const Grid& grid, const Frame& frame, Shift position) {
  const Shift at = position * frame.scale + frame.half;
  const Cell inside = (at >= 0.0f) & (at <= frame.top);
  if (!(inside[0] & inside[1] & inside[2])) return Shift{};
  Cell cell = __builtin_convertvector(at, Cell);
  cell = cell < frame.last ? cell : frame.last;
  const Shift place = at - __builtin_convertvector(cell, Shift);
  const int64_t right = grid.stride(0), ahead = grid.stride(1);
  const Shift* node = grid.nodes.data() + cell[0] * right + cell[1] * ahead + cell[2];
  const Pair near = mix(pair(node), pair(node + right), place[0]);
  const Pair far = mix(pair(node + ahead), pair(node + ahead + right), place[0]);
  const Pair row = mix(near, far, place[1]);
  return mix(low(row), high(row), place[2]);
}

PC3D_TARGET static void move(const Grid& grid, const Frame& frame, const float* from, float* to, int64_t count) {
  for (int64_t point = 0; point < count; ++point, from += 3, to += 3) {
    const Shift position{from[0], from[1], from[2], 0.0f};
    const Shift moved = position + frame.strength * read(grid, frame, position);
    for (int axis = 0; axis < 3; ++axis) to[axis] = moved[axis];
  }
}

}  // namespace PC3D_SIMD
}  // namespace pc3d

#undef PC3D_INLINE

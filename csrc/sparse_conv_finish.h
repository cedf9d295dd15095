// From the sums of a block of outputs to its results, written once for every instruction set.
//
// Include after defining PC3D_SIMD, a namespace of its own, PC3D_TARGET, the target attribute, and in that namespace a
// struct Simd: T, the type of x and y; Vector, `width` sums; load, load_part, store, store_part of T; load_sum, store_sum;
// add, scale_relu. Nothing of the standard library is called here: code made for one instruction set can then never be
// picked by the linker for another.

#include "sparse_conv.h"

namespace pc3d {
namespace PC3D_SIMD {

using Scalar = Simd::T;
using SumType = Sum<Scalar>;
using Vector = Simd::Vector;
constexpr int kWidth = Simd::width;

// The last vector of a row may be partly padding: Part loads and stores only its `lanes` real channels.
template <bool Part>
PC3D_TARGET inline Vector load_last(const Scalar* p, int lanes) {
  if constexpr (Part) return Simd::load_part(p, lanes);
  return Simd::load(p);
}
template <bool Part>
PC3D_TARGET inline void store_last(Scalar* p, Vector v, int lanes) {
  if constexpr (Part) Simd::store_part(p, v, lanes);
  else Simd::store(p, v);
}

template <bool Part>
PC3D_TARGET inline void finish_vector(Vector sum, int64_t at, int64_t column, int lanes, const Outputs<Scalar>& y) {
  if (y.residual) sum = Simd::add(sum, load_last<Part>(y.residual + at, lanes));
  if (y.raw) store_last<Part>(y.raw + at, sum, lanes);
  for (int n = 0; n < y.norms; ++n)
    store_last<Part>(y.activated[n] + at, Simd::scale_relu(sum, y.scale[n] + column, y.shift[n] + column), lanes);
}

PC3D_TARGET inline void finish(const SumType* sums, int64_t sums_stride, int64_t rows, int64_t columns, const Outputs<Scalar>& y) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < columns; j += kWidth) {
      const Vector sum = Simd::load_sum(sums + r * sums_stride + j);
      if (j + kWidth <= columns) finish_vector<false>(sum, r * y.stride + j, j, kWidth, y);
      else finish_vector<true>(sum, r * y.stride + j, j, static_cast<int>(columns - j), y);
    }
}

}  // namespace PC3D_SIMD
}  // namespace pc3d

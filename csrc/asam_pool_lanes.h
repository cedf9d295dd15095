// Eight numbers side by side, in the language alone: what the plain CPU kernels and the CUDA kernels calculate with, so that
// the tests of the plain ones prove the bodies of the others. Include after defining PC3D_SIMD, PC3D_TARGET, PC3D_INLINE, and
// in that namespace Element.
namespace pc3d {
namespace PC3D_SIMD {

struct Lanes {
  Element v[8];
};

#define PC3D_EACH_LANE(expression)                       \
  Lanes out;                                             \
  for (int l = 0; l < 8; ++l) out.v[l] = expression;     \
  return out

PC3D_INLINE Lanes operator+(const Lanes& a, const Lanes& b) { PC3D_EACH_LANE(a.v[l] + b.v[l]); }
PC3D_INLINE Lanes operator-(const Lanes& a, const Lanes& b) { PC3D_EACH_LANE(a.v[l] - b.v[l]); }
PC3D_INLINE Lanes operator*(const Lanes& a, const Lanes& b) { PC3D_EACH_LANE(a.v[l] * b.v[l]); }
PC3D_INLINE Lanes operator/(const Lanes& a, const Lanes& b) { PC3D_EACH_LANE(a.v[l] / b.v[l]); }

PC3D_INLINE Lanes exp_of(const Lanes& x) { PC3D_EACH_LANE(std::exp(x.v[l])); }

struct Simd {
  using T = Element;
  using Vector = Lanes;
  static constexpr int width = 8;
  static constexpr int panel = 1;
  static constexpr int tile = 4;

  PC3D_INLINE Lanes set(T x) { PC3D_EACH_LANE(x); }
  PC3D_INLINE Lanes load(const T* p) { PC3D_EACH_LANE(p[l]); }
  PC3D_INLINE Lanes load_part(const T* p, int lanes) { PC3D_EACH_LANE(l < lanes ? p[l] : T(0)); }
  PC3D_INLINE void store(T* p, const Lanes& x) {
    for (int l = 0; l < 8; ++l) p[l] = x.v[l];
  }
  PC3D_INLINE void store_part(T* p, const Lanes& x, int lanes) {
    for (int l = 0; l < lanes; ++l) p[l] = x.v[l];
  }
  PC3D_INLINE Lanes multiply_add(const Lanes& a, const Lanes& b, const Lanes& c) { PC3D_EACH_LANE(a.v[l] * b.v[l] + c.v[l]); }
  PC3D_INLINE Lanes relu(const Lanes& x) { PC3D_EACH_LANE(x.v[l] < 0 ? T(0) : x.v[l]); }
  PC3D_INLINE unsigned positive(const Lanes& x) {
    unsigned bits = 0;
    for (int l = 0; l < 8; ++l) bits |= x.v[l] > 0 ? 1u << l : 0u;
    return bits;
  }
  PC3D_INLINE Lanes keep(unsigned bits, const Lanes& x) { PC3D_EACH_LANE(bits >> l & 1 ? x.v[l] : T(0)); }
  PC3D_INLINE T total(const Lanes& x) {
    T sum = 0;
    for (int l = 0; l < 8; ++l) sum += x.v[l];
    return sum;
  }
  PC3D_INLINE Lanes totals(const T* vectors) { PC3D_EACH_LANE(total(load(vectors + 8 * l))); }
  PC3D_INLINE unsigned beats(const Lanes& value, const Lanes& best) {
    unsigned bits = 0;
    for (int l = 0; l < 8; ++l) bits |= segment::beats(value.v[l], best.v[l]) ? 1u << l : 0u;
    return bits;
  }
  PC3D_INLINE Lanes choose(unsigned mask, const Lanes& a, const Lanes& b) { PC3D_EACH_LANE(mask >> l & 1 ? a.v[l] : b.v[l]); }
};

#undef PC3D_EACH_LANE

}  // namespace PC3D_SIMD
}  // namespace pc3d

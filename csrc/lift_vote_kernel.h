// Culling and projection, some lanes at a time; included once for each instruction set.
// PC3D_SIMD names the namespace, PC3D_TARGET the instruction set, PC3D_LANES how many floats it holds.
// Sums and products are in the order of the reference, so every kernel finds the same points.

namespace pc3d {
namespace PC3D_SIMD {

using namespace lift;

constexpr int kLanes = PC3D_LANES;
typedef float Floats __attribute__((vector_size(4 * PC3D_LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * PC3D_LANES)));  // a comparison gives -1 or 0 in each lane
#define PC3D_INLINE PC3D_TARGET static inline __attribute__((always_inline))

PC3D_INLINE Floats load(const float* from, int64_t readable = kLanes) {
  Floats out = {};
  if (readable >= kLanes) std::memcpy(&out, from, sizeof out);
  else for (int l = 0; l < readable; ++l) out[l] = from[l];
  return out;
}

PC3D_INLINE Ints load(const int32_t* from) {
  Ints out;
  std::memcpy(&out, from, sizeof out);
  return out;
}

#if PC3D_LANES == 16
constexpr Ints kLane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

PC3D_INLINE Floats gather(const float* from, Ints at) { return _mm512_i32gather_ps((__m512i)at, from, 4); }

// Write the chosen lanes one after another; up to kLanes places past them are overwritten.
PC3D_INLINE int append(int32_t* to, Ints values, Ints chosen) {
  const __mmask16 mask = _mm512_movepi32_mask((__m512i)chosen);
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(mask, (__m512i)values));
  return __builtin_popcount(mask);
}
#else
#if PC3D_LANES == 8
constexpr Ints kLane = {0, 1, 2, 3, 4, 5, 6, 7};
#else
constexpr Ints kLane = {0, 1, 2, 3};
#endif

PC3D_INLINE Floats gather(const float* from, Ints at) {
  Floats out;
  for (int l = 0; l < kLanes; ++l) out[l] = from[at[l]];
  return out;
}

PC3D_INLINE int append(int32_t* to, Ints values, Ints chosen) {
  int count = 0;
  for (int l = 0; l < kLanes; ++l) {
    to[count] = values[l];
    count -= chosen[l];
  }
  return count;
}
#endif

PC3D_INLINE bool any(Ints chosen) {
  int32_t all = 0;
  for (int l = 0; l < kLanes; ++l) all |= chosen[l];
  return all;
}

PC3D_INLINE int append(float* to, Floats values, Ints chosen) {
  return append(reinterpret_cast<int32_t*>(to), (Ints)values, chosen);
}

// How far the depth may be from z.
PC3D_INLINE Floats limit(Floats deep, const Test& test) {
  const Floats allowed = test.relative * deep;
  return allowed > test.absolute ? allowed : Floats{} + test.absolute;
}

PC3D_INLINE Floats larger(Floats a, Floats b) { return a > b ? a : b; }

// A box along the axes of the camera.
struct Box {
  Floats low[3], high[3];
};

// Pixels of a row (axis 0) or column (1) that a box may cover, as tiles: those of x/z for all its x and z.
struct Span {
  Ints first, last;
};

PC3D_INLINE Span span(const Box& box, int axis, Floats nearest, Floats farthest, const float* camera) {
  const Floats low = box.low[axis], high = box.high[axis], border = Floats{} + (camera[4 + axis] - 1.f);
  Floats first = camera[axis] * low * (low < 0.f ? nearest : farthest) + (camera[2 + axis] - 1.f),
         last = camera[axis] * high * (high > 0.f ? nearest : farthest) + (camera[2 + axis] + 1.f);
  first = larger(first < border ? first : border, Floats{}), last = larger(last < border ? last : border, Floats{});
  return {__builtin_convertvector(first, Ints) / kTile, __builtin_convertvector(last, Ints) / kTile};
}

// Boxes that lie behind the farthest depth of all pixels they may cover, without a lens.
PC3D_INLINE Ints hidden(const Box& box, const Test& test, const View& view) {
  const Floats low = box.low[2];
  Ints ok = low > test.near;
  const Floats nearest = 1.f / (ok ? low : Floats{} + 1.f), farthest = 1.f / (ok ? box.high[2] : Floats{} + 1.f);
  const Span column = span(box, 0, nearest, farthest, view.camera), row = span(box, 1, nearest, farthest, view.camera);
  Ints wide = column.last - column.first, high = row.last - row.first;
  wide = (wide > high ? wide : high) + 1;
  const Ints level = ((Ints)__builtin_convertvector(wide, Floats) >> 23) - 127;   // side <= wide < 2 side
  ok &= (level >= 0) & (level < kLevels);  // below 0 for boxes that reach behind the camera, where ``near`` is below 0
  const Ints side = Ints{} + 1 << (ok ? level : Ints{}), from = (ok ? level : Ints{}) * test.level;
  Ints right = column.last - side + 1, below = row.last - side + 1;
  right = right > 0 ? right : Ints{}, below = below > 0 ? below : Ints{};
  const Ints top = from + row.first * test.tiles_wide, bottom = from + below * test.tiles_wide;
  const Floats depth = larger(larger(gather(test.tiles, top + column.first), gather(test.tiles, top + right)),
                              larger(gather(test.tiles, bottom + column.first), gather(test.tiles, bottom + right)));
  return ok & (depth < low - limit(low, test));
}

// Blocks of [begin, end) whose boxes (6, B) are neither behind a side of the frustum nor hidden: how many; others have no
// visible points.
PC3D_TARGET static int cull(const float* boxes, int64_t num_blocks, int64_t begin, int64_t end, const Test& test,
                            const View& view, int32_t* out) {
  const float* side = view.camera + 6;
  Ints number = kLane + static_cast<int32_t>(begin);
  int count = 0;
  for (int64_t b = begin; b < end; b += kLanes, number += kLanes) {
    const int lanes = static_cast<int>(end - b);
    Floats p[6];
    for (int i = 0; i < 6; ++i) p[i] = load(boxes + i * num_blocks + b, lanes);
    Box box;
    for (int axis = 0; axis < 3; ++axis) {
      const float* m = test.pose + 4 * axis;
      const Floats center = m[0] * p[0] + m[1] * p[1] + m[2] * p[2] + m[3],
                   half = (std::abs(m[0]) * p[3] + std::abs(m[1]) * p[4] + std::abs(m[2]) * p[5]) * 1.0001f + 1e-4f;
      box.low[axis] = center - half, box.high[axis] = center + half;
    }
    const Floats nearest = box.low[2], farthest = box.high[2];
    Ints meets = (farthest > test.near) & (kLane < lanes);
    for (int axis = 0; axis < 2; ++axis) {
      const float first = side[2 * axis], last = side[2 * axis + 1];    // of x/z or y/z in the image
      meets &= (box.high[axis] >= first * (first < 0.f ? farthest : nearest)) &
               (box.low[axis] <= last * (last < 0.f ? nearest : farthest));
    }
    if (!view.lens && any(meets)) meets &= ~hidden(box, test, view);
    count += append(out + count, number, meets);
  }
  return count;
}

// The largest of each kTile columns of some rows of an image, 0 if none is positive; NaN is passed over.
PC3D_TARGET static void tile(const float* rows, int64_t num_rows, int64_t width, float* out) {
  std::vector<float> most((width + kLanes - 1) / kLanes * kLanes + kTile);
  for (int64_t row = 0; row < num_rows; ++row, rows += width)  // as they lie in memory, which is what this waits for
    for (int64_t i = 0; i < width; i += kLanes) {
      const Floats column = larger(load(rows + i, width - i), load(most.data() + i));
      std::memcpy(most.data() + i, &column, sizeof column);
    }
  for (int64_t i = 0; i < width; i += kTile) {
    float largest = 0.f;
    for (int k = 0; k < kTile; ++k) largest = std::max(largest, most[i + k]);
    *out++ = largest;
  }
}

// From the largest of squares of some tiles that of squares of twice the side; wide is a multiple of kLanes, and right of it
// are as many readable ones as a side has.
PC3D_TARGET static void widen(const float* tiles, int64_t high, int64_t wide, int64_t side, float* out) {
  for (int64_t row = 0; row < high; ++row) {
    const float *top = tiles + row * wide, *low = row + side < high ? top + side * wide : top;
    for (int64_t i = 0; i < wide; i += kLanes, out += kLanes) {
      const Floats most = larger(larger(load(top + i), load(top + i + side)), larger(load(low + i), load(low + i + side)));
      std::memcpy(out, &most, sizeof most);
    }
  }
}

// Row and column of the pixel of points (x/z, y/z) that are ok, 0 and no longer ok outside the image.
struct Place {
  Ints row, column;
};

PC3D_INLINE Place place(Floats x, Floats y, const View& view, Ints& ok) {
  const float* c = view.camera;
  if (view.lens) {
    const float largest = c[10], p1 = c[11], p2 = c[12], per_step = static_cast<float>(view.steps - 1) / largest;
    const Floats r2 = x * x + y * y;
    ok &= r2 < largest;
    const Floats at = ok ? r2 * per_step : Floats{};
    Ints step = __builtin_convertvector(at, Ints);
    const int32_t last = static_cast<int32_t>(view.steps - 2);
    step = step < last ? step : Ints{} + last;
    const Floats low = gather(view.lens, step), high = gather(view.lens, step + 1);
    const Floats s = low + (at - __builtin_convertvector(step, Floats)) * (high - low), xy = 2.f * x * y;
    const Floats bent = s * x + (p1 * xy + p2 * (r2 + 2.f * x * x));
    y = s * y + (p1 * (r2 + 2.f * y * y) + p2 * xy);
    x = bent;
  }
  const Floats u = c[0] * x + c[2], v = c[1] * y + c[3];
  ok &= (u >= 0.f) & (u < c[4]) & (v >= 0.f) & (v < c[5]);
  return {__builtin_convertvector(ok ? v : Floats{}, Ints), __builtin_convertvector(ok ? u : Floats{}, Ints)};
}

// The visible points of [begin, end): their numbers, and their pixels in `mask_view` (null: as in `view`), -1 outside.
PC3D_TARGET static int project(const float* xyz, int64_t num_points, int64_t begin, int64_t end, const Test& test,
                               const View& view, const View* mask_view, int32_t* out_point, int32_t* out_pixel) {
  const float* m = test.pose;
  const int32_t width = static_cast<int32_t>(view.camera[4]);
  const int32_t mask_width = mask_view ? static_cast<int32_t>(mask_view->camera[4]) : 0;
  int visible = 0;
  for (int64_t i = begin; i < end; i += kLanes) {
    const int64_t readable = num_points - i;          // lanes of other points are read, and not used
    const Floats px = load(xyz + i, readable), py = load(xyz + num_points + i, readable),
                 pz = load(xyz + 2 * num_points + i, readable);
    const Floats deep = m[8] * px + m[9] * py + m[10] * pz + m[11];
    Ints ok = (deep > test.near) & (kLane < static_cast<int32_t>(end - i));
    const Floats inverse = 1.f / (ok ? deep : Floats{} + 1.f);
    const Floats x = (m[0] * px + m[1] * py + m[2] * pz + m[3]) * inverse,
                 y = (m[4] * px + m[5] * py + m[6] * pz + m[7]) * inverse;
    const Place at = place(x, y, view, ok);
    Ints pixel = at.row * width + at.column;
    const Floats d = gather(test.depth, pixel), off = deep - d;
    ok &= (d > 0.f) & ((off < 0.f ? -off : off) <= limit(deep, test));
    if (mask_view) {
      Ints inside = ok;
      const Place there = place(x, y, *mask_view, inside);
      pixel = inside ? there.row * mask_width + there.column : Ints{} - 1;
    }
    append(out_pixel + visible, pixel, ok);
    visible += append(out_point + visible, kLane + static_cast<int32_t>(i), ok);
  }
  return visible;
}

#undef PC3D_INLINE
}  // namespace PC3D_SIMD
}  // namespace pc3d

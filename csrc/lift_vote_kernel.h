// Projection of one block of points. Plain loops that the compiler vectorises for the target; included once for each.
// PC3D_SIMD names the namespace, PC3D_TARGET the instruction set.

namespace pc3d {
namespace PC3D_SIMD {

using namespace lift;

// Pixel of points (x/z, y/z), 0 and not ok outside the image. Sums and products are in the order of the reference.
PC3D_TARGET static void pixels(const float* __restrict xs, const float* __restrict ys, int count, const View& view,
                               int32_t* __restrict pixel, int32_t* __restrict ok) {
  const float *c = view.camera, fx = c[0], fy = c[1], cx = c[2], cy = c[3], width = c[4], height = c[5];
  const int32_t row = static_cast<int32_t>(width);
  if (!view.lens) {
    for (int i = 0; i < count; ++i) {
      const float u = fx * xs[i] + cx, v = fy * ys[i] + cy;
      const int inside = (u >= 0.f) & (u < width) & (v >= 0.f) & (v < height) & ok[i];
      ok[i] = inside;
      pixel[i] = inside ? static_cast<int32_t>(v) * row + static_cast<int32_t>(u) : 0;
    }
    return;
  }
  const float largest = c[10], p1 = c[11], p2 = c[12], per_step = static_cast<float>(view.steps - 1) / largest;
  for (int i = 0; i < count; ++i) {
    const float x = xs[i], y = ys[i], r2 = x * x + y * y;
    const int known = (r2 < largest) & ok[i];
    const float at = known ? r2 * per_step : 0.f;
    int32_t step = static_cast<int32_t>(at);
    step = step < view.steps - 2 ? step : static_cast<int32_t>(view.steps - 2);
    const float low = view.lens[step], s = low + (at - static_cast<float>(step)) * (view.lens[step + 1] - low);
    const float xy = 2.f * x * y;
    const float u = fx * (s * x + (p1 * xy + p2 * (r2 + 2.f * x * x))) + cx;
    const float v = fy * (s * y + (p1 * (r2 + 2.f * y * y) + p2 * xy)) + cy;
    const int inside = (u >= 0.f) & (u < width) & (v >= 0.f) & (v < height) & known;
    ok[i] = inside;
    pixel[i] = inside ? static_cast<int32_t>(v) * row + static_cast<int32_t>(u) : 0;
  }
}

PC3D_TARGET static void project(const float* __restrict x, const float* __restrict y, const float* __restrict z, int count,
                                const Test& test, const View& depth_view, const View* mask_view, Projected& out) {
  float xs[kBlock], ys[kBlock], zs[kBlock];
  const float* m = test.pose;
  const float near = test.near, absolute = test.absolute, relative = test.relative;
  for (int i = 0; i < count; ++i) {
    const float depth = m[8] * x[i] + m[9] * y[i] + m[10] * z[i] + m[11];
    const int ahead = depth > near;
    const float inverse = 1.f / (ahead ? depth : 1.f);
    xs[i] = (m[0] * x[i] + m[1] * y[i] + m[2] * z[i] + m[3]) * inverse;
    ys[i] = (m[4] * x[i] + m[5] * y[i] + m[6] * z[i] + m[7]) * inverse;
    zs[i] = depth;
    out.visible[i] = ahead;
  }
  pixels(xs, ys, count, depth_view, out.pixel, out.visible);
  for (int i = 0; i < count; ++i) {
    const float d = test.depth[out.pixel[i]], off = zs[i] - d, allowed = relative * zs[i];
    const float limit = allowed > absolute ? allowed : absolute;
    out.visible[i] = out.visible[i] & (d > 0.f) & ((off < 0.f ? -off : off) <= limit);
  }
  if (mask_view) {
    int32_t inside[kBlock];
    for (int i = 0; i < count; ++i) inside[i] = out.visible[i];
    pixels(xs, ys, count, *mask_view, out.mask_pixel, inside);
    for (int i = 0; i < count; ++i) out.mask_pixel[i] = inside[i] ? out.mask_pixel[i] : -1;
  }
}

}  // namespace PC3D_SIMD
}  // namespace pc3d

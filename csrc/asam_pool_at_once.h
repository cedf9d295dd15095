// ASAM pooling of one superpoint at once, in evaluation on the CPU: its rows stay in a core's cache from the first step to the
// last, and nothing of them is written to memory but logits and gates. Include after asam_pool_driver.h.
//
// About the maximum d is that about the mean plus e = maximum - mean, so rows are kept as d about the mean alone, h of the other
// branch starts from t1 + e w1, and the sum of weights times x is mean - sum of weights times d.
namespace pc3d {
namespace PC3D_SIMD {

constexpr int64_t few_tiles = 16;  // of a superpoint that is pooled at once
constexpr int64_t few_rows = few_tiles * tile_rows;

// Scores of rows of h: of a register tile relu(base + h w) times w3, summed over its columns into the vector of each row.
struct Scores {
  const T *h, *w, *base, *w3;
  T* sums;         // (rows, kWidth)
  uint8_t* gates;  // (rows, stride / 8)

  template <int R, int V, class Width>
  PC3D_TARGET void tile(const Width& width, int64_t first, int64_t v) const {
    Vector sum[R][V];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int i = 0; i < V; ++i) sum[r][i] = Simd::load(base + (v + i) * kWidth);
    multiply<R, V>(h + first * width.stride, width, w + v * kWidth, sum);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      Vector score = v ? Simd::load(sums + (first + r) * kWidth) : Simd::set(0);
#pragma GCC unroll 4
      for (int i = 0; i < V; ++i) {
        score = Simd::multiply_add(Simd::relu(sum[r][i]), Simd::load(w3 + (v + i) * kWidth), score);
        store_gates(gates + ((first + r) * width.stride + (v + i) * kWidth) / 8, Simd::positive(sum[r][i]));
      }
      Simd::store(sums + (first + r) * kWidth, score);
    }
  }
};

struct AtOnce {
  Shape shape;
  Input<T> in;
  Output<T> out;
  Net nets[2];

  // What a superpoint has of a thread's memory.
  struct Space {
    T *d, *h, *sums;                  // (few_rows, stride), (tile_rows, stride), (tile_rows, kWidth)
    T *score[2], *weight[2], *count;  // (few_rows) each
    T *mean, *above, *start;          // (stride): mean, maximum - mean, where h about the maximum starts from
  };
  PC3D_TARGET static int64_t space_size(const Shape& shape) {
    return (few_rows + tile_rows + 3) * shape.stride() + tile_rows * kWidth + 5 * few_rows;
  }
  PC3D_TARGET static Space cut(const Shape& shape, T* from) {
    const auto next = [&](int64_t size) PC3D_TARGET {
      T* own = from;
      from += size;
      return own;
    };
    const int64_t stride = shape.stride();
    return {next(few_rows * stride), next(tile_rows * stride), next(tile_rows * kWidth), {next(few_rows), next(few_rows)},
            {next(few_rows), next(few_rows)}, next(few_rows), next(stride), next(stride), next(stride)};
  }

  PC3D_TARGET void operator()(const Team&, int64_t s, T* memory) const {
    if (in.tiles[s + 1] - in.tiles[s] > few_tiles) return;
    const Tile rows{in.offsets[s], in.offsets[s + 1]};
    const Space space = cut(shape, memory);
    if (shape.channels == usual_channels) pool(FixedWidth<usual_channels>(), s, rows, space);
    else pool(AnyWidth{shape.channels, shape.stride()}, s, rows, space);
  }

  template <class Width>
  PC3D_TARGET void pool(const Width& width, int64_t s, Tile tile, const Space& space) const {
    const int rows = static_cast<int>(tile.end - tile.begin), vectors = static_cast<int>(width.stride / kWidth);
    if (rows == 0) {
      for (int64_t c = 0; c < width.channels; ++c) out.peak[s * width.channels + c] = -1;
      return;
    }
    int v = 0;
    for (; v + Simd::panel <= vectors; v += Simd::panel) center<Simd::panel>(width, s, tile, v, space);
    for (; v < vectors; ++v) center<1>(width, s, tile, v, space);
    product(Team(), space.above, 1, width.channels, width.stride, nets[1].w1, nets[1].t1, false, space.start);
    for (int r = 0; r < rows; r += tile_rows) score(width, tile, r, space);
    for (int b = 0; b < 2; ++b) weigh(b, s, tile, space);
    for (v = 0; v + Simd::panel <= vectors; v += Simd::panel) read<Simd::panel>(width, s, rows, v, space);
    for (; v < vectors; ++v) read<1>(width, s, rows, v, space);
  }

  // Vectors v to v + V - 1 of mean, maximum and its entry, and of d.
  template <int V, class Width>
  PC3D_TARGET void center(const Width& width, int64_t s, Tile tile, int v, const Space& space) const {
    Extremes<V> found;
    Vector total[V], mean[V];
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i) total[i] = Simd::set(0);
    for (int64_t at = tile.begin; at < tile.end; at += tile_rows) {
      const int first = static_cast<int>(at - tile.begin);
      read_rows<V>(shape, in, width, Tile{at, smaller(at + tile_rows, tile.end)}, first, v, space.d + first * width.stride,
                   v ? nullptr : space.count + first, found);
#pragma GCC unroll 4
      for (int i = 0; i < V; ++i) total[i] = total[i] + found.total[i];
    }
    T *centers = out.centers + s * width.channels, row[kWidth];
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i) {
      mean[i] = total[i] / Simd::set(static_cast<T>(in.sizes[s]));
      store_lanes(centers, width.channels, v + i, mean[i]);
      store_lanes(centers + shape.num_segments * width.channels, width.channels, v + i, found.best[i]);
      Simd::store(space.mean + (v + i) * kWidth, mean[i]);
      Simd::store(space.above + (v + i) * kWidth, found.best[i] - mean[i]);
      Simd::store(row, found.row[i]);
      for (int64_t c = (v + i) * kWidth, l = 0; l < kWidth && c + l < width.channels; ++l)
        out.peak[s * width.channels + c + l] = tile.begin + static_cast<int64_t>(row[l]);
    }
    T* d = space.d + v * kWidth;
    for (int64_t r = tile.begin; r < tile.end; ++r, d += width.stride)
#pragma GCC unroll 4
      for (int i = 0; i < V; ++i) Simd::store(d + i * kWidth, mean[i] - Simd::load(d + i * kWidth));
  }

  // Scores and gates of a tile of rows from row `first` on; meanwhile those of the next superpoint are asked for.
  template <class Width>
  PC3D_TARGET void score(const Width& width, Tile tile, int first, const Space& space) const {
    const int rows = static_cast<int>(smaller(tile.end - tile.begin - first, tile_rows));
    for (int b = 0; b < 2; ++b) {
      for (int64_t e = tile.end + first + b; e < tile.end + first + rows; e += 2) prefetch_row(shape, in, e);
      const Net& net = nets[b];
      const Product to_hidden{space.d + first * width.stride, net.w1, b ? space.start : net.t1, true, space.h};
      uint8_t* gates = out.gates + (b * shape.num_entries + tile.begin + first) * (width.stride / 8);
      each_register_tile(Team(), to_hidden, width, rows, nullptr);
      each_register_tile(Team(), Scores{space.h, net.w2, net.t2, net.w3, space.sums, gates}, width, rows, nullptr);
      for (int r = 0; r < rows; r += kWidth) Simd::store(space.score[b] + first + r, Simd::totals(space.sums + r * kWidth));
    }
  }

  // Weights of the rows in branch b, divided by their sum; the logits.
  PC3D_TARGET void weigh(int b, int64_t s, Tile tile, const Space& space) const {
    const int rows = static_cast<int>(tile.end - tile.begin), padded = (rows + kWidth - 1) / kWidth * kWidth;
    T *score = space.score[b], *weight = space.weight[b], *logits = out.logits + b * shape.num_entries + tile.begin;
    for (int r = rows; r < padded; ++r) {
      score[r] = kNoScore;
      space.count[r] = 0;
    }
    const T highest = highest_score(score, padded);
    soften(Team(), score, space.count, highest, weight, padded);
    Vector all = Simd::set(0);
    for (int r = 0; r < padded; r += kWidth) all = all + Simd::load(weight + r);
    const T total = Simd::total(all);
    for (int r = 0; r < padded; r += kWidth) Simd::store(weight + r, Simd::load(weight + r) / Simd::set(total));
    for (int r = 0; r < rows; ++r) logits[r] = score[r];
    out.level[b * shape.num_segments + s] = highest + std::log(total);
  }

  // Vectors v to v + V - 1 of both weighted sums.
  template <int V, class Width>
  PC3D_TARGET void read(const Width& width, int64_t s, int rows, int v, const Space& space) const {
    Vector sum[2][V] = {};
    for (int first = 0; first < rows; first += tile_rows) {
      Vector part[2][V] = {};
      for (int r = first; r < smaller(first + tile_rows, rows); ++r)
#pragma GCC unroll 4
        for (int i = 0; i < V; ++i) {
          const Vector d = Simd::load(space.d + r * width.stride + (v + i) * kWidth);
#pragma GCC unroll 2
          for (int b = 0; b < 2; ++b) part[b][i] = Simd::multiply_add(Simd::set(space.weight[b][r]), d, part[b][i]);
        }
#pragma GCC unroll 2
      for (int b = 0; b < 2; ++b)
#pragma GCC unroll 4
        for (int i = 0; i < V; ++i) sum[b][i] = sum[b][i] + part[b][i];
    }
    for (int b = 0; b < 2; ++b)
      for (int i = 0; i < V; ++i)
        store_lanes(out.pooled + (2 * s + b) * width.channels, width.channels, v + i,
                    Simd::load(space.mean + (v + i) * kWidth) - sum[b][i]);
  }
};

}  // namespace PC3D_SIMD
}  // namespace pc3d

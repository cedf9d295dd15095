// The passes of ASAM pooling: each is a struct that a team of threads calls for every tile, chunk of tiles or block of rows.
// Include after asam_pool_rows.h. `space` is memory of the team: num_buffers buffers of rows, then num_columns columns.
namespace pc3d {
namespace PC3D_SIMD {

using asam::Input;
using asam::Shape;
using segment::Tile;

// A tile, its segment and what of `space` it uses.
struct Work {
  Tile tile;
  int64_t segment, stride;
  int rows;
  T* space;

  PC3D_TARGET Work(const Shape& shape, const Input<T>& in, int64_t t, T* space_in)
      : Work(shape, in, t, segment::segment_of_tile(in.tiles, shape.num_segments, t), space_in) {}
  PC3D_TARGET Work(const Shape& shape, const Input<T>& in, int64_t t, int64_t segment_in, T* space_in)
      : segment(segment_in), stride(shape.stride()), space(space_in) {
    const int64_t begin = in.offsets[segment] + (t - in.tiles[segment]) * tile_rows;
    tile = {begin, smaller(begin + tile_rows, in.offsets[segment + 1])};
    rows = static_cast<int>(tile.end - tile.begin);
  }
  PC3D_TARGET T* buffer(int i) const { return space + i * tile_rows * stride; }
  template <class U>
  PC3D_TARGET U* of(U* entries) const { return entries + tile.begin * stride; }
  // Of branch b, where an array holds `entries` of each.
  template <class U>
  PC3D_TARGET U* of(U* array, int b, int64_t entries) const { return array + (b * entries + tile.begin) * stride; }
  // What follows the tile's rows there, which the next tile needs.
  template <class U>
  PC3D_TARGET U* after(U* own) const { return own + rows * stride; }
  PC3D_TARGET T* column(int i) const { return space + asam::num_buffers * tile_rows * stride + i * tile_rows; }
};

// A branch's layers with their norms folded in, rows padded: h = relu(t1 + d w1), z = t2 + h w2, logit = relu(z) . w3.
// back1 is -w1^T and back2 is w2^T with its rows times w3: the ways back. pull (C, stride) and push (stride) give the gradient
// that h gets through the statistics of the second norm.
struct Net {
  const T *w1, *t1, *w2, *t2, *w3, *back1, *back2, *pull, *push;
};

PC3D_TARGET inline void clear(const Team& team, T* sums, int64_t count) {
  for (int64_t i = team.rank; i < count; i += team.size) sums[i] = 0;
  team.sync();
}

// The sums of a chunk of tiles: pass.visit for each of them adds to `own`.
template <class Pass>
PC3D_TARGET inline void sum_chunk(const Pass& pass, const Team& team, int64_t chunk, T* space, T* own, int64_t count) {
  clear(team, own, count);
  const int64_t first = chunk * asam::chunk_tiles;
  const int64_t last = smaller(first + asam::chunk_tiles, pass.in.tiles[pass.shape.num_segments]);
  for (int64_t t = first; t < last; ++t) pass.visit(team, Work(pass.shape, pass.in, t, space), t, own);
}

// d = center - x in branch b.
PC3D_TARGET inline void distance(const Team& team, const Shape& shape, const Work& work, const T* centers, int b, const T* x,
                                 T* d) {
  const T* center = centers + (b * shape.num_segments + work.segment) * shape.channels;
  subtract(team, center, shape.channels, work.stride, x, work.rows, d);
}

// The same, and h = relu(t1 + d w1).
PC3D_TARGET inline void hidden(const Team& team, const Shape& shape, const Work& work, const T* centers, const Net& net, int b,
                               const T* x, T* d, T* h, const T* soon = nullptr) {
  distance(team, shape, work, centers, b, x, d);
  team.sync();
  product(team, d, work.rows, shape.channels, work.stride, net.w1, net.t1, true, h, soon);
  team.sync();
}

// Sum of rows times their points, maximum and its first row, of V vectors.
template <int V>
struct Extremes {
  Vector total[V], best[V], row[V];
};

// Reads the rows of a tile, vectors v to v + V - 1, into x, and the points of each into `count` where given. The first row has
// number `at`; from other numbers on best and row go on from those of the rows before.
template <int V, class Width>
PC3D_TARGET inline void read_rows(const Shape& shape, const Input<T>& in, const Width& width, Tile tile, int at, int v, T* x,
                                  T* count, Extremes<V>& found) {
  Vector total[V], best[V], row[V];
#pragma GCC unroll 4
  for (int i = 0; i < V; ++i) {
    total[i] = Simd::set(0);
    best[i] = at ? found.best[i] : load_lanes(in.x + in.row[tile.begin] * width.channels, width.channels, v + i);
    row[i] = at ? found.row[i] : Simd::set(0);
  }
  const int64_t rows = tile.end - tile.begin;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t e = tile.begin + r;
    if (v == 0) prefetch_row(shape, in, e + kAhead);
    const T* from = in.x + in.row[e] * width.channels;
    const T points = static_cast<T>(in.count[e]);
    if (count) count[r] = points;
    const Vector times = Simd::set(points), number = Simd::set(static_cast<T>(at + static_cast<int>(r)));
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i) {
      const Vector value = load_lanes(from, width.channels, v + i);
      Simd::store(x + r * width.stride + (v + i) * kWidth, value);
      total[i] = Simd::multiply_add(times, value, total[i]);
      const auto better = Simd::beats(value, best[i]);
      row[i] = Simd::choose(better, number, row[i]);
      best[i] = Simd::choose(better, value, best[i]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < V; ++i) {
    found.total[i] = total[i];
    found.best[i] = best[i];
    found.row[i] = row[i];
  }
}

// Sum and maximum of the rows of tile i; the maximum's first entry; the rows themselves, for the passes after.
struct CenterPass {
  Shape shape;
  Input<T> in;
  T* rows;            // (E, stride)
  T *sum, *top, *place;  // (tiles, stride) sum, maximum and its row in the tile

  PC3D_TARGET void operator()(const Team& team, int64_t t, T* space) const {
    const Work work(shape, in, t, space);
    read(team, work, t, work.of(rows));
  }

  PC3D_TARGET void read(const Team& team, const Work& work, int64_t t, T* x) const {
    const int vectors = static_cast<int>(work.stride / kWidth);
    for (int v = team.rank * Simd::panel; v < vectors; v += team.size * Simd::panel) {
      if (vectors - v >= Simd::panel) visit<Simd::panel>(work, t, v, x);
      else for (int own = v; own < vectors; ++own) visit<1>(work, t, own, x);
    }
  }

  // Vectors v and, with V = 2, the next.
  template <int V>
  PC3D_TARGET void visit(const Work& work, int64_t t, int v, T* x) const {
    Extremes<V> found;
    read_rows<V>(shape, in, AnyWidth{shape.channels, work.stride}, work.tile, 0, v, x, nullptr, found);
    for (int i = 0; i < V; ++i) {
      const int64_t cell = t * work.stride + (v + i) * kWidth;
      Simd::store(sum + cell, found.total[i]);
      Simd::store(top + cell, found.best[i]);
      Simd::store(place + cell, found.row[i]);
    }
  }
};

// Sums over a chunk of tiles of d d^T, d = mean - x.
struct RowMomentPass {
  Shape shape;
  Input<T> in;
  const T *rows, *centers;
  T* sums;  // (chunks, cells)

  PC3D_TARGET void operator()(const Team& team, int64_t chunk, T* space) const {
    sum_chunk(*this, team, chunk, space, sums + chunk * shape.cells(), shape.cells());
  }

  PC3D_TARGET void visit(const Team& team, const Work& work, int64_t, T* own) const {
    const T* x = work.of(rows);
    T *d = work.buffer(0), *scaled = work.buffer(1), *count = work.column(0);
    read_counts(team, in.count + work.tile.begin, work.rows, count);
    subtract(team, centers + work.segment * shape.channels, shape.channels, work.stride, x, work.rows, d);
    team.sync();
    scale_rows(team, d, count, work.rows, work.stride, scaled);
    team.sync();
    add_outer(team, scaled, d, work.rows, shape.channels, work.stride, own, work.after(x));  // the mean of d about the mean is 0
    team.sync();
  }
};

// Sums over a block of segments of e e^T and of e, each times its points; e = maximum - mean.
struct SegmentMomentPass {
  Shape shape;
  Input<T> in;
  const T* centers;
  T* sums;  // (blocks, cells)

  PC3D_TARGET void operator()(const Team& team, int64_t block, T* space) const {
    const int64_t first = block * tile_rows, stride = shape.stride(), all = shape.num_segments * shape.channels;
    const int rows = static_cast<int>(smaller(tile_rows, shape.num_segments - first));
    T *e = space, *scaled = space + tile_rows * stride, *size = space + asam::num_buffers * tile_rows * stride;
    T* own = sums + block * shape.cells();
    const int vectors = static_cast<int>(stride / kWidth);
    const Grid grid(team, vectors);
    for (int v = grid.first; v < vectors; v += grid.step)
      for (int r = grid.row; r < rows; r += grid.row_step) {
        const T* mean = centers + (first + r) * shape.channels;
        Simd::store(e + r * stride + v * kWidth,
                    load_lanes(mean + all, shape.channels, v) - load_lanes(mean, shape.channels, v));
      }
    read_counts(team, in.sizes + first, rows, size);
    clear(team, own, shape.cells());
    scale_rows(team, e, size, rows, stride, scaled);
    team.sync();
    add_outer(team, scaled, e, rows, shape.channels, stride, own);
    add_rows(team, scaled, rows, stride, own + shape.channels * stride);
  }
};

// h, and its sums over a chunk of tiles of h h^T and of h, for both branches.
struct HiddenMomentPass {
  Shape shape;
  Input<T> in;
  const T *rows, *centers;
  Net nets[2];
  T* kept;  // (2, E, stride) h, for the next pass
  T* sums;  // (chunks, 2, cells)

  PC3D_TARGET void operator()(const Team& team, int64_t chunk, T* space) const {
    sum_chunk(*this, team, chunk, space, sums + chunk * 2 * shape.cells(), 2 * shape.cells());
  }

  PC3D_TARGET void visit(const Team& team, const Work& work, int64_t, T* own) const {
    const T* x = work.of(rows);
    T *d = work.buffer(0), *scaled = work.buffer(1), *count = work.column(0);
    read_counts(team, in.count + work.tile.begin, work.rows, count);
    team.sync();
    for (int b = 0; b < 2; ++b) {
      T* h = work.of(kept, b, shape.num_entries);
      hidden(team, shape, work, centers, nets[b], b, x, d, h, work.after(h));
      scale_rows(team, h, count, work.rows, work.stride, scaled);
      team.sync();
      add_outer(team, scaled, h, work.rows, shape.channels, work.stride, own + b * shape.cells(), b ? nullptr : work.after(x));
      add_rows(team, scaled, work.rows, work.stride, own + b * shape.cells() + shape.channels * work.stride);
      team.sync();
    }
  }
};

// Logits and gates of tile t, and of each branch the tile's softmax: its largest logit, sum of weights, weighted sum of rows.
struct PoolPass {
  Shape shape;
  Input<T> in;
  const T *rows, *centers;
  const T* kept;  // (2, E, stride) h, or null
  Net nets[2];
  T* logits;
  uint8_t* gates;
  T *top, *total, *sum;  // (tiles, 2), (tiles, 2), (tiles, 2, stride)

  PC3D_TARGET void operator()(const Team& team, int64_t t, T* space) const {
    const Work work(shape, in, t, space);
    pool(team, work, t, work.of(rows), shape.num_entries);
  }

  // x: the rows of the tile. Meanwhile the rows of the entries `ahead` of them are asked for.
  PC3D_TARGET void pool(const Team& team, const Work& work, int64_t t, const T* x, int64_t ahead) const {
    T *d = work.buffer(0), *h = work.buffer(1), *z = work.buffer(2);
    T *count = work.column(0), *score = work.column(1), *weight = work.column(2);
    read_counts(team, in.count + work.tile.begin, work.rows, count);
    team.sync();
    for (int b = 0; b < 2; ++b) {
      const int64_t first = b * shape.num_entries + work.tile.begin;
      if (kept) {
        const T* own = work.of(kept, b, shape.num_entries);
        if (b) prefetch(work.after(x), work.rows * work.stride);
        product(team, own, work.rows, shape.channels, work.stride, nets[b].w2, nets[b].t2, false, z, work.after(own));
      } else {
        for (int r = b; r < work.rows; r += 2) prefetch_row(shape, in, work.tile.begin + r + ahead);
        hidden(team, shape, work, centers, nets[b], b, x, d, h);
        product(team, h, work.rows, shape.channels, work.stride, nets[b].w2, nets[b].t2, false, z);
      }
      team.sync();
      score_rows(team, z, nets[b].w3, work.rows, work.stride, score, gates + first * work.stride / 8);
      team.sync();
      finish(team, work, 2 * t + b, score, count, weight, x);
      for (int r = team.rank; r < work.rows; r += team.size) logits[first + r] = score[r];
      team.sync();
    }
  }

  PC3D_TARGET void finish(const Team& team, const Work& work, int64_t at, const T* score, const T* count, T* weight,
                          const T* x) const {
    const T level = highest_score(score);
    soften(team, score, count, level, weight);
    team.sync();
    for (int v = team.rank; v * kWidth < work.stride; v += team.size)
      Simd::store(sum + at * work.stride + v * kWidth, weighted_sum(weight, x, work.rows, work.stride, v));
    if (team.rank != 0) return;
    Vector all = Simd::set(0);
    for (int r = 0; r < tile_rows; r += kWidth) all = all + Simd::load(weight + r);
    top[at] = level;
    total[at] = Simd::total(all);
  }
};

// Softmax weights and gradients of logits, and over a chunk of tiles the sums that the second layer's gradients are made of:
// of g h^T and of g, where g is the gradient of a logit at its open gates.
struct SecondLayerPass {
  Shape shape;
  Input<T> in;
  const T* centers;
  Net nets[2];
  const T *logits, *level, *pooled, *grad;  // pooled and its gradient (S, 2C)
  const uint8_t* gates;
  T *rows, *kept;     // (E, stride) and (2, E, stride) h, for the next pass
  T *weight, *slope;  // (2, E) softmax weight, gradient of the logit
  T* sums;            // (chunks, 2, cells)

  PC3D_TARGET void operator()(const Team& team, int64_t chunk, T* space) const {
    sum_chunk(*this, team, chunk, space, sums + chunk * 2 * shape.cells(), 2 * shape.cells());
  }

  PC3D_TARGET void visit(const Team& team, const Work& work, int64_t, T* own) const {
    T *x = work.of(rows), *d = work.buffer(0), *g = work.buffer(1);
    gather(team, shape, in, work.tile, x);
    read_counts(team, in.count + work.tile.begin, work.rows, work.column(0));
    team.sync();
    for (int b = 0; b < 2; ++b) {
      const int64_t first = b * shape.num_entries + work.tile.begin;
      T* h = work.of(kept, b, shape.num_entries);
      slopes(team, work, b, first, x);
      ask_rows(work, 2 * b);
      hidden(team, shape, work, centers, nets[b], b, x, d, h, work.after(h));
      ask_rows(work, 2 * b + 1);
      open_gates(team, gates + first * work.stride / 8, work.column(3), work.rows, work.stride, g);
      team.sync();
      add_outer(team, g, h, work.rows, shape.channels, work.stride, own + b * shape.cells(), b ? nullptr : work.after(x));
      add_rows(team, g, work.rows, work.stride, own + b * shape.cells() + shape.channels * work.stride);
      team.sync();
    }
  }

  // Quarter i of the rows of the next tile.
  PC3D_TARGET void ask_rows(const Work& work, int i) const {
    for (int r = i * tile_rows / 4; r < (i + 1) * tile_rows / 4; ++r) prefetch_row(shape, in, work.tile.end + r);
  }

  // dl = p (dy . x - dy . y), p = count exp(l - level).
  PC3D_TARGET void slopes(const Team& team, const Work& work, int b, int64_t first, const T* x) const {
    const T* dy = grad + (2 * work.segment + b) * shape.channels;
    const T* y = pooled + (2 * work.segment + b) * shape.channels;
    T *score = work.column(1), *p = work.column(2), *dl = work.column(3);
    for (int r = team.rank; r < tile_rows; r += team.size) score[r] = r < work.rows ? logits[first + r] : kNoScore;
    team.sync();
    soften(team, score, work.column(0), level[b * shape.num_segments + work.segment], p);
    team.sync();
    Vector along = Simd::set(0);
    for (int v = 0; v * kWidth < work.stride; ++v)
      along = Simd::multiply_add(load_lanes(dy, shape.channels, v), load_lanes(y, shape.channels, v), along);
    const T mean = Simd::total(along);
    for (int r = team.rank; r < work.rows; r += team.size) {
      Vector dot = Simd::set(0);
      for (int v = 0; v * kWidth < work.stride; ++v)
        dot = Simd::multiply_add(load_lanes(dy, shape.channels, v), Simd::load(x + r * work.stride + v * kWidth), dot);
      dl[r] = p[r] * (Simd::total(dot) - mean);
      weight[first + r] = p[r];
      slope[first + r] = dl[r];
    }
    team.sync();
  }
};

// Over a chunk of tiles the sums of f d^T and of f, f the gradient of the first layer's output; its sum in each tile; and the
// gradient of each entry as far as it is known before all rows are.
struct FirstLayerPass {
  Shape shape;
  Input<T> in;
  const T* centers;
  Net nets[2];
  const T *kept, *grad, *weight, *slope;  // kept: h
  const uint8_t* gates;
  T* sums;       // (chunks, 2, cells)
  T* tile_sums;  // (tiles, 2, stride)
  T* entries;    // (E, stride) the rows; then the gradients

  PC3D_TARGET void operator()(const Team& team, int64_t chunk, T* space) const {
    sum_chunk(*this, team, chunk, space, sums + chunk * 2 * shape.cells(), 2 * shape.cells());
  }

  PC3D_TARGET void visit(const Team& team, const Work& work, int64_t t, T* own) const {
    T *x = work.of(entries), *d = work.buffer(0);
    read_counts(team, in.count + work.tile.begin, work.rows, work.column(0));
    team.sync();
    for (int b = 0; b < 2; ++b) {
      T* f = work.buffer(3 + b);
      first_gradient(team, work, b, x, f);
      add_outer(team, f, d, work.rows, shape.channels, work.stride, own + b * shape.cells(), b ? nullptr : work.after(x));
      T* total = own + b * shape.cells() + shape.channels * work.stride;
      for (int v = team.rank; v * kWidth < work.stride; v += team.size) {
        const Vector sum = sum_rows(f, work.rows, work.stride, v);
        Simd::store(tile_sums + (2 * t + b) * work.stride + v * kWidth, sum);
        Simd::store(total + v * kWidth, Simd::load(total + v * kWidth) + sum);
      }
      team.sync();
    }
    spread(team, work);
    team.sync();
    for (int b = 0; b < 2; ++b) {
      product(team, work.buffer(3 + b), work.rows, shape.channels, work.stride, nets[b].back1, nullptr, false, x);
      team.sync();
    }
  }

  // f = gate(h) (gradient of h through the logit, and in training through the second norm's statistics).
  PC3D_TARGET void first_gradient(const Team& team, const Work& work, int b, const T* x, T* f) const {
    const T* h = work.of(kept, b, shape.num_entries);
    T *d = work.buffer(0), *g = work.buffer(1), *dl = work.column(1 + b);
    const int64_t first = b * shape.num_entries + work.tile.begin;
    for (int r = team.rank; r < work.rows; r += team.size) dl[r] = slope[first + r];
    distance(team, shape, work, centers, b, x, d);
    team.sync();
    open_gates(team, gates + first * work.stride / 8, dl, work.rows, work.stride, g);
    if (shape.training) {
      product(team, h, work.rows, shape.channels, work.stride, nets[b].pull, nets[b].push, false, f, work.after(h));
      team.sync();
      scale_rows(team, f, work.column(0), work.rows, work.stride, f);
    }
    team.sync();
    product(team, g, work.rows, shape.channels, work.stride, nets[b].back2, shape.training ? nullptr : nets[b].push, false, f);
    team.sync();
    pass_positive(team, h, work.rows, work.stride, f);
    team.sync();
  }

  // The part of an entry's gradient that comes through the weighted sums: p dy, both branches.
  PC3D_TARGET void spread(const Team& team, const Work& work) const {
    const T *dy = grad + 2 * work.segment * shape.channels, *p = weight + work.tile.begin;
    const int vectors = static_cast<int>(work.stride / kWidth);
    const Grid grid(team, vectors);
    for (int v = grid.first; v < vectors; v += grid.step) {
      const Vector one = load_lanes(dy, shape.channels, v), other = load_lanes(dy + shape.channels, shape.channels, v);
      for (int r = grid.row; r < work.rows; r += grid.row_step)
        Simd::store(entries + (work.tile.begin + r) * work.stride + v * kWidth,
                    Simd::multiply_add(Simd::set(p[shape.num_entries + r]), other, Simd::set(p[r]) * one));
    }
  }
};

// What a block of segments hands on to its entries: to each point its share, and to the entries of the maximum theirs.
// through (C, stride) is 2 / N times the gradient of the sum of both branches' moments, to_max that of the maximum's alone,
// to_max_mean (stride) 1 / N times the gradient of the mean of maximum - x.
struct SegmentPass {
  Shape shape;
  Input<T> in;
  const T* centers;
  const int64_t* peak;
  Net nets[2];
  const T *tile_sums, *through, *to_max, *to_max_mean;
  T *share;    // (S, stride)
  T *entries;  // (E, stride)

  PC3D_TARGET void operator()(const Team& team, int64_t block, T* space) const {
    const int64_t first = block * tile_rows, stride = shape.stride();
    const int rows = static_cast<int>(smaller(tile_rows, shape.num_segments - first));
    T* buffer[asam::num_buffers];
    for (int i = 0; i < asam::num_buffers; ++i) buffer[i] = space + i * tile_rows * stride;
    for (int b = 0; b < 2; ++b) {
      sum_tiles(team, first, rows, b, buffer[0]);
      const int vectors = static_cast<int>(stride / kWidth);
      const Grid grid(team, vectors);
      for (int v = grid.first; v < vectors; v += grid.step)
        for (int r = grid.row; r < rows; r += grid.row_step)
          Simd::store(buffer[1 + b] + r * stride + v * kWidth, Simd::set(0));
      team.sync();
      product(team, buffer[0], rows, shape.channels, stride, nets[b].back1, nullptr, false, buffer[1 + b]);
      team.sync();
    }
    if (shape.training) load_centers(team, first, rows, buffer[0], buffer[3]);
    team.sync();
    if (shape.training) {
      product(team, buffer[0], rows, shape.channels, stride, through, to_max_mean, false, buffer[4]);
      product(team, buffer[3], rows, shape.channels, stride, to_max, to_max_mean, false, buffer[5]);
      team.sync();
      product(team, buffer[3], rows, shape.channels, stride, to_max, nullptr, false, buffer[4]);
      team.sync();
    }
    hand_on(team, first, rows, buffer);
  }

  PC3D_TARGET void sum_tiles(const Team& team, int64_t first, int rows, int b, T* out) const {
    const int64_t stride = shape.stride();
    const int vectors = static_cast<int>(stride / kWidth);
    const Grid grid(team, vectors);
    for (int v = grid.first; v < vectors; v += grid.step)
      for (int r = grid.row; r < rows; r += grid.row_step) {
        const int64_t s = first + r;
        Vector sum = Simd::set(0);
        for (int64_t t = in.tiles[s]; t < in.tiles[s + 1]; ++t)
          sum = sum + Simd::load(tile_sums + (2 * t + b) * stride + v * kWidth);
        Simd::store(out + r * stride + v * kWidth, sum);
      }
  }

  // The mean, and maximum - mean.
  PC3D_TARGET void load_centers(const Team& team, int64_t first, int rows, T* mean_out, T* e_out) const {
    const int64_t stride = shape.stride(), all = shape.num_segments * shape.channels;
    const int vectors = static_cast<int>(stride / kWidth);
    const Grid grid(team, vectors);
    for (int v = grid.first; v < vectors; v += grid.step)
      for (int r = grid.row; r < rows; r += grid.row_step) {
        const T* center = centers + (first + r) * shape.channels;
        const Vector mean = load_lanes(center, shape.channels, v);
        Simd::store(mean_out + r * stride + v * kWidth, mean);
        Simd::store(e_out + r * stride + v * kWidth, load_lanes(center + all, shape.channels, v) - mean);
      }
  }

  // buffer[1], buffer[2]: minus the gradients of mean and maximum through d; [4], [5]: what statistics take and give.
  PC3D_TARGET void hand_on(const Team& team, int64_t first, int rows, T* const* buffer) const {
    const int64_t stride = shape.stride();
    for (int64_t cell = team.rank; cell < rows * stride; cell += team.size) {
      const int64_t s = first + cell / stride, c = cell % stride, size = in.sizes[s];
      if (size == 0) continue;
      const T given = shape.training ? static_cast<T>(size) * buffer[5][cell] : T(0);
      const T taken = shape.training ? buffer[4][cell] : T(0);
      share[s * stride + c] = -buffer[1][cell] / static_cast<T>(size) - taken;
      if (c < shape.channels) entries[peak[s * shape.channels + c] * stride + c] += given - buffer[2][cell];
    }
  }
};

// The gradient of a block of rows of x from those of their entries.
struct RowPass {
  Shape shape;
  Input<T> in;
  const int64_t *by_row, *by_row_offsets;
  const T *entries, *share, *through;
  T* out;

  PC3D_TARGET void operator()(const Team& team, int64_t block, T* space) const {
    const int64_t first = block * tile_rows, stride = shape.stride();
    const int rows = static_cast<int>(smaller(tile_rows, shape.num_rows - first));
    T *x = space, *z = space + tile_rows * stride;
    const int vectors = static_cast<int>(stride / kWidth);
    const Grid grid(team, vectors);
    if (shape.training) {
      for (int v = grid.first; v < vectors; v += grid.step)
        for (int r = grid.row; r < rows; r += grid.row_step) {
          const int64_t cell = r * stride + v * kWidth;
          Simd::store(x + cell, load_lanes(in.x + (first + r) * shape.channels, shape.channels, v));
          Simd::store(z + cell, Simd::set(0));
        }
      team.sync();
      product(team, x, rows, shape.channels, stride, through, nullptr, false, z);
      team.sync();
    }
    ask_entries(first + tile_rows);
    for (int v = grid.first; v < vectors; v += grid.step)
      for (int r = grid.row; r < rows; r += grid.row_step)
        store_lanes(out + (first + r) * shape.channels, shape.channels, v, collect(first + r, v,
                    z + r * stride));
    team.sync();
  }

  // Those of the next block, from this row on.
  PC3D_TARGET void ask_entries(int64_t row) const {
    const int64_t first = by_row_offsets[smaller(row, shape.num_rows)];
    const int64_t last = by_row_offsets[smaller(row + tile_rows, shape.num_rows)];
    for (int64_t i = first; i < last; ++i) {
      prefetch(entries + by_row[i] * shape.stride(), shape.stride());
      prefetch_word(in.count + by_row[i]);
      prefetch_word(in.segment + by_row[i]);
    }
  }

  PC3D_TARGET Vector collect(int64_t row, int v, const T* through_x) const {
    const int64_t stride = shape.stride();
    Vector sum = Simd::set(0);
    T points = 0;
    for (int64_t i = by_row_offsets[row]; i < by_row_offsets[row + 1]; ++i) {
      const int64_t e = by_row[i];
      const T count = static_cast<T>(in.count[e]);
      points += count;
      sum = sum + Simd::load(entries + e * stride + v * kWidth);
      sum = Simd::multiply_add(Simd::set(count), Simd::load(share + in.segment[e] * stride + v * kWidth), sum);
    }
    return shape.training ? Simd::multiply_add(Simd::set(points), Simd::load(through_x + v * kWidth), sum) : sum;
  }
};

}  // namespace PC3D_SIMD
}  // namespace pc3d

// The order of the passes of ASAM pooling, and the small algebra between them, for any Backend: `run(count, pass)` calls a
// pass for 0 .. count - 1 with a team of threads each, `each(count, step)` calls a step for 0 .. count - 1, `memory` is scratch.
// Include after asam_pool_passes.h.
#include <cmath>

namespace pc3d {
namespace PC3D_SIMD {

using asam::Memory;
using asam::Norm;
using asam::Output;
using asam::Weights;

PC3D_TARGET inline int64_t blocks_of(int64_t count, int64_t size) { return (count + size - 1) / size; }

// Room for tiles: their number itself may be known to the device alone.
PC3D_TARGET inline int64_t max_tiles(const Shape& shape) { return shape.num_entries / tile_rows + shape.num_segments; }
PC3D_TARGET inline int64_t max_chunks(const Shape& shape) { return blocks_of(max_tiles(shape), asam::chunk_tiles); }

// Mean, maximum and its entry of (segment, vector) i from those of tiles.
struct MergeCenters {
  Shape shape;
  Input<T> in;
  const T *sum, *top, *place;
  T* centers;
  int64_t* peak;

  PC3D_TARGET void operator()(int64_t i) const {
    const int64_t vectors = shape.stride() / kWidth, s = i / vectors, first = i % vectors * kWidth;
    Vector total = Simd::set(0), best = total, tile = total, row = total;
    for (int64_t t = in.tiles[s]; t < in.tiles[s + 1]; ++t) {
      const int64_t cell = t * shape.stride() + first;
      const Vector value = Simd::load(top + cell), own = Simd::load(place + cell);
      const bool is_first = t == in.tiles[s];
      const auto better = Simd::beats(value, best);
      total = total + Simd::load(sum + cell);
      row = is_first ? own : Simd::choose(better, own, row);
      tile = is_first ? tile : Simd::choose(better, Simd::set(static_cast<T>(t - in.tiles[s])), tile);
      best = is_first ? value : Simd::choose(better, value, best);
    }
    store(s, first, total, best, tile, row);
  }

  PC3D_TARGET void store(int64_t s, int64_t first, Vector total, Vector best, Vector tile, Vector row) const {
    const int64_t at = s * shape.channels + first, size = in.sizes[s];
    T lanes[4][kWidth];
    Simd::store(lanes[0], total);
    Simd::store(lanes[1], best);
    Simd::store(lanes[2], tile);
    Simd::store(lanes[3], row);
    for (int l = 0; l < kWidth && first + l < shape.channels; ++l) {
      centers[at + l] = size ? lanes[0][l] / static_cast<T>(size) : T(0);
      centers[shape.num_segments * shape.channels + at + l] = lanes[1][l];
      peak[at + l] = size ? in.offsets[s] + static_cast<int64_t>(lanes[2][l]) * tile_rows + static_cast<int64_t>(lanes[3][l]) : -1;
    }
  }
};

// Softmax over the tiles of (segment, branch) i.
struct MergePool {
  Shape shape;
  Input<T> in;
  const T *top, *total, *sum;
  T *pooled, *level;

  PC3D_TARGET void operator()(int64_t i) const {
    const int64_t s = i / 2, b = i % 2, stride = shape.stride();
    T* y = pooled + i * shape.channels;
    for (int64_t c = 0; c < shape.channels; ++c) y[c] = 0;
    if (in.tiles[s] == in.tiles[s + 1]) return;
    T highest = top[2 * in.tiles[s] + b], all = 0;
    for (int64_t t = in.tiles[s]; t < in.tiles[s + 1]; ++t)
      highest = segment::beats(top[2 * t + b], highest) ? top[2 * t + b] : highest;
    for (int64_t t = in.tiles[s]; t < in.tiles[s + 1]; ++t) {
      const T share = std::exp(top[2 * t + b] - highest);
      all += share * total[2 * t + b];
      for (int64_t c = 0; c < shape.channels; ++c) y[c] += share * sum[(2 * t + b) * stride + c];
    }
    for (int64_t c = 0; c < shape.channels; ++c) y[c] /= all;
    level[b * shape.num_segments + s] = highest + std::log(all);
  }
};

// Cell i of a table (channels + 1, channels) is `factor` times the sum of the padded tables of `count` chunks, which follow
// one another by `step`; plus `more` where given. With tiles, the number of chunks is that of tiles.
struct SumTables {
  Shape shape;
  const T* tables;
  int64_t step, count;
  const int64_t* tiles;
  double factor;
  const double* more;
  double* out;

  PC3D_TARGET void operator()(int64_t i) const {
    const int64_t cell = i / shape.channels * shape.stride() + i % shape.channels;
    const int64_t last = tiles ? blocks_of(tiles[shape.num_segments], asam::chunk_tiles) : count;
    double sum[4] = {};  // side by side: one addition need not wait for the other
    for (int64_t chunk = 0; chunk < last; ++chunk) sum[chunk % 4] += static_cast<double>(tables[chunk * step + cell]);
    out[i] = factor * ((sum[0] + sum[1]) + (sum[2] + sum[3])) + (more ? more[i] : 0);
  }
};

// The mean of d about the mean, channel i: 0, or NaN where a row is.
struct AboutMean {
  Shape shape;
  double* moments;

  PC3D_TARGET void operator()(int64_t i) const {
    moments[shape.channels * shape.channels + i] = 0 * moments[i * shape.channels + i];
  }
};

// A norm folded into its layer: A = s W and t = s (b - mean) + beta, with s = gamma / sqrt(var + eps). In training
// mean = W f + b and var = W K W^T with K = E[v v^T] - f f^T, f = E[v].
struct FoldedRow {
  double scale, shift, mean, var, deviation;  // deviation: sqrt(var + eps)

  PC3D_TARGET FoldedRow(const Shape& shape, const Norm& norm, int64_t j) {
    const double* w = norm.weight + j * shape.channels;
    mean = norm.mean[j];
    var = norm.var[j];
    if (shape.training) {
      const double center = moved(shape, norm, j);
      var = -center * center;
      for (int64_t l = 0; l < shape.channels; ++l)
        for (int64_t m = 0; m < shape.channels; ++m) var += w[l] * norm.moments[l * shape.channels + m] * w[m];
      var = var < 0 ? 0 : var;
      mean = center + norm.bias[j];
    }
    deviation = std::sqrt(var + shape.eps);
    scale = norm.gamma[j] / deviation;
    shift = scale * (norm.bias[j] - mean) + norm.beta[j];
  }

  // (W f)_j
  PC3D_TARGET static double moved(const Shape& shape, const Norm& norm, int64_t j) {
    double sum = 0;
    for (int64_t l = 0; l < shape.channels; ++l)
      sum += norm.weight[j * shape.channels + l] * norm.moments[shape.channels * shape.channels + l];
    return sum;
  }
};

// Row j of layer `layer` of branch b, i = b C + j, folded and packed for the passes; the tables were zeroed before.
struct FoldLayer {
  Shape shape;
  Weights weights;
  const double* moments;
  int layer;
  T* nets;  // of both branches, NetTables each
  double* batch;

  PC3D_TARGET void operator()(int64_t i) const;
};

// Where the tables of a Net lie.
struct NetTables {
  int64_t channels, stride;
  PC3D_TARGET explicit NetTables(const Shape& shape) : channels(shape.channels), stride(shape.stride()) {}
  PC3D_TARGET int64_t table() const { return channels * stride; }
  PC3D_TARGET int64_t size() const { return 5 * table() + 4 * stride; }
  PC3D_TARGET T* w(T* net, int layer) const { return net + layer * table(); }
  PC3D_TARGET T* back(T* net, int layer) const { return net + (2 + layer) * table(); }
  PC3D_TARGET T* pull(T* net) const { return net + 4 * table(); }
  PC3D_TARGET T* t(T* net, int layer) const { return net + 5 * table() + layer * stride; }
  PC3D_TARGET T* w3(T* net) const { return net + 5 * table() + 2 * stride; }
  PC3D_TARGET T* push(T* net) const { return net + 5 * table() + 3 * stride; }
  PC3D_TARGET Net view(T* net) const {
    return {w(net, 0), t(net, 0), w(net, 1), t(net, 1), w3(net), back(net, 0), back(net, 1), pull(net), push(net)};
  }
};

PC3D_TARGET inline void FoldLayer::operator()(int64_t i) const {
  const NetTables tables(shape);
  const int64_t b = i / shape.channels, j = i % shape.channels;
  T* net = nets + b * tables.size();
  const Norm norm = weights.norm(static_cast<int>(b), layer, shape.channels, moments);
  const FoldedRow row(shape, norm, j);
  const double last = weights.last[b * (shape.channels + 1) + j];
  for (int64_t l = 0; l < shape.channels; ++l) {
    const double a = row.scale * norm.weight[j * shape.channels + l];
    tables.w(net, layer)[l * tables.stride + j] = static_cast<T>(a);
    tables.back(net, layer)[j * tables.stride + l] = static_cast<T>(layer ? last * a : -a);
  }
  tables.t(net, layer)[j] = static_cast<T>(row.shift);
  if (layer) tables.w3(net)[j] = static_cast<T>(last);
  double* stats = batch + (2 * b + layer) * 2 * shape.channels;
  stats[j] = row.mean;
  stats[shape.channels + j] = row.var;
}

// Gradients of row j of a layer, i = b C + j, from dA and dt, which are `tables` (2, C + 1, C), for the second layer to be
// times w3; and what they say of the moments: along_var = d var, along_shift = s dt.
struct UnfoldLayer {
  Shape shape;
  Weights weights;
  const double *moments, *tables;
  int layer;
  double *weights_grad, *norms_grad, *last_grad, *along_var, *along_shift;

  PC3D_TARGET void operator()(int64_t i) const {
    const int64_t channels = shape.channels, b = i / channels, j = i % channels, at = 2 * b + layer;
    const Norm norm = weights.norm(static_cast<int>(b), layer, channels, moments);
    const FoldedRow row(shape, norm, j);
    const double *w = norm.weight + j * channels, *own = tables + b * (channels + 1) * channels;
    const double times = layer ? weights.last[b * (channels + 1) + j] : 1, dt = times * own[channels * channels + j];
    double along = 0;  // sum over l of the raw dA times W
    for (int64_t l = 0; l < channels; ++l) along += own[j * channels + l] * w[l];
    if (layer)
      last_grad[b * (channels + 1) + j] = row.scale * along + row.shift * own[channels * channels + j];
    const double ds = times * along + dt * (norm.bias[j] - row.mean), to_var = -0.5 * ds * row.scale / (row.var + shape.eps);
    double* norm_grad = norms_grad + at * 3 * channels;
    norm_grad[j] = shape.training ? 0 : row.scale * dt;
    norm_grad[channels + j] = ds / row.deviation;
    norm_grad[2 * channels + j] = dt;
    along_var[i] = to_var;
    along_shift[i] = row.scale * dt;
    for (int64_t l = 0; l < channels; ++l) {
      double grad = row.scale * times * own[j * channels + l];
      if (shape.training) grad += 2 * to_var * along_covariance(norm, w, l) - row.scale * dt * first(norm, l);
      weights_grad[(at * channels + j) * channels + l] = grad;
    }
  }

  PC3D_TARGET double first(const Norm& norm, int64_t l) const { return norm.moments[shape.channels * shape.channels + l]; }

  PC3D_TARGET double along_covariance(const Norm& norm, const double* w, int64_t l) const {
    double sum = 0;
    for (int64_t m = 0; m < shape.channels; ++m)
      sum += w[m] * (norm.moments[m * shape.channels + l] - first(norm, m) * first(norm, l));
    return sum;
  }
};

// Gradients of the moments of a layer's input: cell i of (2, C + 1, C), G = W^T d var W and, last, W^T (-s dt) - 2 G f.
struct MomentGradient {
  Shape shape;
  Weights weights;
  const double *moments, *along_var, *along_shift;
  int layer;
  double* out;

  PC3D_TARGET void operator()(int64_t i) const {
    const int64_t channels = shape.channels, b = i / ((channels + 1) * channels), cell = i % ((channels + 1) * channels);
    const int64_t l = cell / channels, m = cell % channels;
    const Norm norm = weights.norm(static_cast<int>(b), layer, channels, moments);
    double sum = 0;
    for (int64_t j = 0; j < channels; ++j) {
      const double w = norm.weight[j * channels + m];
      if (l < channels) sum += w * along_var[b * channels + j] * norm.weight[j * channels + l];
      else sum -= w * (along_shift[b * channels + j] + 2 * along_var[b * channels + j] * FoldedRow::moved(shape, norm, j));
    }
    out[i] = sum;
  }
};

// Cell i of (C, C) or, after it, of (C): the gradient of moments as passes take it, times 2 / N and 1 / N.
struct PackGradient {
  Shape shape;
  const double *first, *second;  // (C + 1, C); second may be null
  T *table, *row;

  PC3D_TARGET void operator()(int64_t i) const {
    const int64_t l = i / shape.channels, m = i % shape.channels;
    const double value = (first[i] + (second ? second[i] : 0)) / static_cast<double>(shape.num_points);
    if (l < shape.channels) table[l * shape.stride() + m] = static_cast<T>(2 * value);
    else if (row) row[m] = static_cast<T>(value);
  }
};

template <class U>
struct Zero {
  U* out;
  PC3D_TARGET void operator()(int64_t i) const { out[i] = 0; }
};

template <class Backend>
struct Pool {
  const Backend& backend;
  Shape shape;
  Input<T> in;
  Weights weights;
  Output<T> out;
  T *nets, *rows;  // rows: those of x, by entry
  NetTables tables;

  Pool(const Backend& backend_in, const Shape& shape_in, const Input<T>& in_in, const Weights& weights_in,
       const Output<T>& out_in)
      : backend(backend_in), shape(shape_in), in(in_in), weights(weights_in), out(out_in), tables(shape_in) {
    nets = zeros<T>(2 * tables.size());
    rows = scratch<T>(shape.num_entries * shape.stride());
  }

  template <class U>
  U* scratch(int64_t count) const { return backend.memory.template get<U>(count); }
  template <class U>
  U* zeros(int64_t count) const {
    U* memory = scratch<U>(count);
    backend.each(count, Zero<U>{memory});
    return memory;
  }
  Net net(int b) const { return tables.view(nets + b * tables.size()); }
  int64_t moments_size() const { return (shape.channels + 1) * shape.channels; }
  double* moments_of(int b, int layer) const { return out.moments + (2 * b + layer) * moments_size(); }
  void fold(int layer) const {
    backend.each(2 * shape.channels, FoldLayer{shape, weights, out.moments, layer, nets, out.batch});
  }
  int64_t segment_blocks() const { return blocks_of(shape.num_segments, tile_rows); }

  // Tables of both branches, summed over chunks.
  void sum_tables(const T* sums, double factor, double* const* to) const {
    for (int b = 0; b < 2; ++b)
      backend.each(moments_size(), SumTables{shape, sums + b * shape.cells(), 2 * shape.cells(), 0, in.tiles, factor, nullptr, to[b]});
  }

  CenterPass center_pass() const {
    const int64_t cells = max_tiles(shape) * shape.stride();
    return {shape, in, rows, scratch<T>(cells), scratch<T>(cells), scratch<T>(cells)};
  }
  MergeCenters merge_centers(const CenterPass& pass) const {
    return {shape, in, pass.sum, pass.top, pass.place, out.centers, out.peak};
  }
  PoolPass pool_pass(const T* kept) const {
    const int64_t tiles = max_tiles(shape);
    return {shape, in, rows, out.centers, kept, {net(0), net(1)}, out.logits, out.gates, scratch<T>(2 * tiles), scratch<T>(2 * tiles),
            scratch<T>(2 * tiles * shape.stride())};
  }
  MergePool merge_pool(const PoolPass& pass) const { return {shape, in, pass.top, pass.total, pass.sum, out.pooled, out.level}; }

  void find_centers() const {
    const CenterPass pass = center_pass();
    backend.over_tiles(shape, in.tiles, pass);
    backend.each(shape.num_segments * (shape.stride() / kWidth), merge_centers(pass));
  }

  // E[d d^T] and E[d]. About the mean E[d] is 0; about the maximum d is that about the mean plus maximum - mean.
  void row_moments() const {
    T* sums = scratch<T>(max_chunks(shape) * shape.cells());
    T* segment_sums = scratch<T>(segment_blocks() * shape.cells());
    const double share = 1.0 / static_cast<double>(shape.num_points);
    double *about_mean = moments_of(0, 0), *about_top = moments_of(1, 0);
    backend.over_chunks(shape, in.tiles, RowMomentPass{shape, in, rows, out.centers, sums});
    backend.run(shape, segment_blocks(), SegmentMomentPass{shape, in, out.centers, segment_sums});
    backend.each(moments_size(), SumTables{shape, sums, shape.cells(), 0, in.tiles, share, nullptr, about_mean});
    backend.each(shape.channels, AboutMean{shape, about_mean});
    backend.each(moments_size(), SumTables{shape, segment_sums, shape.cells(), segment_blocks(), nullptr, share, about_mean,
                                           about_top});
  }

  T* room_for_hidden() const { return scratch<T>(2 * shape.num_entries * shape.stride()); }

  void hidden_moments(T* kept) const {
    T* sums = scratch<T>(max_chunks(shape) * 2 * shape.cells());
    double* const to[2] = {moments_of(0, 1), moments_of(1, 1)};
    backend.over_chunks(shape, in.tiles, HiddenMomentPass{shape, in, rows, out.centers, {net(0), net(1)}, kept, sums});
    sum_tables(sums, 1.0 / static_cast<double>(shape.num_points), to);
  }

  void forward() const {
    find_centers();
    if (shape.training) row_moments();
    fold(0);
    T* kept = shape.training ? room_for_hidden() : nullptr;
    if (shape.training) hidden_moments(kept);
    fold(1);
    const PoolPass pass = pool_pass(kept);
    backend.over_tiles(shape, in.tiles, pass);
    backend.each(2 * shape.num_segments, merge_pool(pass));
  }

  // Gradients of the parameters of a layer from sums over chunks; in training also those of its moments (2, C + 1, C).
  double* unfold(int layer, const T* sums, const asam::Gradient<T>& grad) const {
    double *raw = scratch<double>(2 * moments_size()), *along = scratch<double>(4 * shape.channels);
    double* const to[2] = {raw, raw + moments_size()};
    sum_tables(sums, 1.0, to);
    backend.each(2 * shape.channels, UnfoldLayer{shape, weights, out.moments, raw, layer, grad.weights, grad.norms, grad.last, along,
                                                 along + 2 * shape.channels});
    double* moments = scratch<double>(2 * moments_size());
    if (shape.training)
      backend.each(2 * moments_size(), MomentGradient{shape, weights, out.moments, along, along + 2 * shape.channels, layer, moments});
    return moments;
  }

  void backward(const asam::Gradient<T>& grad) const {
    fold(0);
    fold(1);
    const int64_t chunks = max_chunks(shape), stride = shape.stride();
    T *sums = scratch<T>(chunks * 2 * shape.cells()), *kept = room_for_hidden();
    T *weight = scratch<T>(2 * shape.num_entries), *slope = scratch<T>(2 * shape.num_entries);
    backend.over_chunks(shape, in.tiles,
                        SecondLayerPass{shape, in, out.centers, {net(0), net(1)}, out.logits, out.level, out.pooled, grad.pooled,
                                        out.gates, rows, kept, weight, slope, sums});
    const double* second = unfold(1, sums, grad);
    if (shape.training)
      for (int b = 0; b < 2; ++b) {
        T* own = nets + b * tables.size();
        backend.each(moments_size(), PackGradient{shape, second + b * moments_size(), nullptr, tables.pull(own), tables.push(own)});
      }
    T* tile_sums = scratch<T>(max_tiles(shape) * 2 * stride);
    backend.over_chunks(shape, in.tiles, FirstLayerPass{shape, in, out.centers, {net(0), net(1)}, kept, grad.pooled, weight, slope, out.gates,
                                                        sums, tile_sums, rows});
    const double* first = unfold(0, sums, grad);
    T *through = zeros<T>(2 * tables.table() + stride), *to_max = through + tables.table(), *push = to_max + tables.table();
    if (shape.training) {
      backend.each(moments_size(), PackGradient{shape, first, first + moments_size(), through, nullptr});
      backend.each(moments_size(), PackGradient{shape, first + moments_size(), nullptr, to_max, push});
    }
    T* share = zeros<T>(shape.num_segments * stride);
    backend.run(shape, segment_blocks(), SegmentPass{shape, in, out.centers, out.peak, {net(0), net(1)}, tile_sums, through, to_max,
                                                     push, share, rows});
    backend.run(shape, blocks_of(shape.num_rows, tile_rows),
                RowPass{shape, in, grad.by_row, grad.by_row_offsets, rows, share, through, grad.x});
  }
};

}  // namespace PC3D_SIMD
}  // namespace pc3d

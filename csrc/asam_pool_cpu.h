// ASAM pooling on the threads of torch, for the instruction set whose PC3D_SIMD is defined; include after its Simd.
#include <vector>

#include "asam_pool_rows.h"
#include "asam_pool_passes.h"
#include "asam_pool_driver.h"
#include "asam_pool_at_once.h"
#include "tasks.h"

namespace pc3d {
namespace PC3D_SIMD {

struct Processor {
  const Memory& memory;

  static int64_t space_size(const Shape& shape) {
    return (asam::num_buffers * shape.stride() + asam::num_columns) * tile_rows;
  }
  template <class Pass>
  void run(const Shape& shape, int64_t count, const Pass& pass) const {
    const int64_t size = std::max(space_size(shape), AtOnce::space_size(shape));
    // Several at a time: the atomic addition of a task waits for all stores before it.
    const int64_t grain = std::min<int64_t>(16, count / 64 + 1);
    run_tasks(blocks_of(count, grain), [&](int64_t block) {
      static thread_local std::vector<T> space;
      if (static_cast<int64_t>(space.size()) < size + asam::pad) space.resize(size + asam::pad);
      // From where a cache line starts: a vector in two lines costs two loads.
      T* own = space.data() + (64 - reinterpret_cast<uintptr_t>(space.data()) % 64) % 64 / sizeof(T);
      for (int64_t i = block * grain; i < smaller(block * grain + grain, count); ++i) pass(Team(), i, own);
    });
  }
  template <class Pass>
  void over_tiles(const Shape& shape, const int64_t* tiles, const Pass& pass) const {
    run(shape, tiles[shape.num_segments], pass);
  }
  template <class Pass>
  void over_chunks(const Shape& shape, const int64_t* tiles, const Pass& pass) const {
    run(shape, blocks_of(tiles[shape.num_segments], asam::chunk_tiles), pass);
  }
  template <class Step>
  void each(int64_t count, const Step& step) const {
    torch::stable::parallel_for(0, count, 512, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) step(i);
    });
  }
};

// A pass or step that starts elsewhere than at 0.
template <class Pass>
struct From {
  int64_t first;
  Pass pass;

  void operator()(const Team& team, int64_t i, T* space) const { pass(team, first + i, space); }
  void operator()(int64_t i) const { pass(first + i); }
};

inline void evaluate(const Pool<Processor>& pool) {
  const Processor& processor = pool.backend;
  const Shape& shape = pool.shape;
  const int64_t vectors = shape.stride() / kWidth;
  for (int layer = 0; layer < 2; ++layer) pool.fold(layer);
  const CenterPass center = pool.center_pass();
  const PoolPass pass = pool.pool_pass(nullptr);
  const MergeCenters merge_centers = pool.merge_centers(center);
  const MergePool merge_pool = pool.merge_pool(pass);
  processor.run(shape, shape.num_segments, AtOnce{shape, pool.in, pool.out, {pool.net(0), pool.net(1)}});
  for (int64_t s = 0; s < shape.num_segments; ++s) {
    const int64_t first = pool.in.tiles[s], tiles = pool.in.tiles[s + 1] - first;
    if (tiles <= few_tiles) continue;
    processor.run(shape, tiles, From<CenterPass>{first, center});
    processor.each(vectors, From<MergeCenters>{s * vectors, merge_centers});
    processor.run(shape, tiles, From<PoolPass>{first, pass});
    processor.each(2, From<MergePool>{2 * s, merge_pool});
  }
}

inline void forward(const Shape& shape, const Input<T>& in, const Weights& weights, const Output<T>& out, const Memory& memory) {
  const Processor processor{memory};
  const Pool<Processor> pool(processor, shape, in, weights, out);
  if (shape.training) pool.forward();
  else evaluate(pool);
}

inline void backward(const Shape& shape, const Input<T>& in, const Weights& weights, const Output<T>& out,
                     const asam::Gradient<T>& grad, const Memory& memory) {
  const Processor processor{memory};
  Pool<Processor>(processor, shape, in, weights, out).backward(grad);
}

}  // namespace PC3D_SIMD
}  // namespace pc3d

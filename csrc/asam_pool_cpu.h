// ASAM pooling on the threads of torch, for the instruction set whose PC3D_SIMD is defined; include after its Simd.
#include <vector>

#include "asam_pool_rows.h"
#include "asam_pool_passes.h"
#include "asam_pool_driver.h"
#include "tasks.h"

namespace pc3d {
namespace PC3D_SIMD {

struct Processor {
  const Memory& memory;

  template <class Pass>
  void run(const Shape& shape, int64_t count, const Pass& pass) const {
    const int64_t size = (asam::num_buffers * shape.stride() + asam::num_columns) * tile_rows;
    // Several at a time: the atomic addition of a task waits for all stores before it.
    const int64_t grain = std::min<int64_t>(16, count / 64 + 1);
    run_tasks(blocks_of(count, grain), [&](int64_t block) {
      static thread_local std::vector<T> space;
      if (static_cast<int64_t>(space.size()) < size) space.resize(size);
      for (int64_t i = block * grain; i < smaller(block * grain + grain, count); ++i) pass(Team(), i, space.data());
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

inline void forward(const Shape& shape, const Input<T>& in, const Weights& weights, const Output<T>& out, const Memory& memory) {
  const Processor processor{memory};
  Pool<Processor>(processor, shape, in, weights, out).forward();
}

inline void backward(const Shape& shape, const Input<T>& in, const Weights& weights, const Output<T>& out,
                     const asam::Gradient<T>& grad, const Memory& memory) {
  const Processor processor{memory};
  Pool<Processor>(processor, shape, in, weights, out).backward(grad);
}

}  // namespace PC3D_SIMD
}  // namespace pc3d

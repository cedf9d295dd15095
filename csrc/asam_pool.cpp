#include "asam_pool.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "cuda_call.h"
#include "large_pages.h"

// The plain kernels.
#define PC3D_TARGET
#define PC3D_INLINE static inline

namespace pc3d::asam_plain_float {
using Element = float;
}
namespace pc3d::asam_plain_double {
using Element = double;
}
#define PC3D_SIMD asam_plain_float
#include "asam_pool_lanes.h"
#include "asam_pool_cpu.h"
#undef PC3D_SIMD
#define PC3D_SIMD asam_plain_double
#include "asam_pool_lanes.h"
#include "asam_pool_cpu.h"

namespace pc3d {
namespace asam {

const Kernels<float> plain_float = {asam_plain_float::forward, asam_plain_float::backward};
const Kernels<double> plain_double = {asam_plain_double::forward, asam_plain_double::backward};

}  // namespace asam

namespace {

using asam::Gradient;
using asam::Input;
using asam::Output;
using asam::Shape;
using asam::Weights;

template <class T>
const asam::Kernels<T>& kernels();
template <>
const asam::Kernels<double>& kernels<double>() { return asam::plain_double; }
template <>
const asam::Kernels<float>& kernels<float>() {
#if defined(__x86_64__)
  if (best_isa() >= Isa::avx512) return asam::avx512_float;
  if (best_isa() == Isa::avx2) return asam::avx2_float;
#endif
  return asam::plain_float;
}

// A block of memory of the CPU, of large pages where the system has them.
class Block {
 public:
  explicit Block(size_t bytes) : size_((std::max(bytes, 4 * kPage) + kPage - 1) / kPage * kPage) {
    start_.reset(static_cast<char*>(std::aligned_alloc(kPage, size_)));
    if (!start_) throw std::bad_alloc();
    prefer_large_pages(start_.get(), size_);
  }
  char* start() const { return start_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  static constexpr size_t kPage = size_t{2} << 20;
  size_t size_;
  std::unique_ptr<char, Free> start_;
};

// Blocks between calls: tens of megabytes that live for milliseconds cost more in page faults, if they are fresh, than in
// arithmetic. At most 128 MB are kept.
class Blocks {
 public:
  Block take(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = std::find_if(idle_.begin(), idle_.end(), [=](const Block& block) { return block.size() >= bytes; });
    if (found == idle_.end()) return Block(bytes);
    Block block = std::move(*found);
    idle_.erase(found);
    kept_ -= block.size();
    return block;
  }
  void give(Block block) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (kept_ + block.size() > kMost) return;
    kept_ += block.size();
    const auto place = std::find_if(idle_.begin(), idle_.end(), [&](const Block& other) { return other.size() >= block.size(); });
    idle_.insert(place, std::move(block));
  }

 private:
  static constexpr size_t kMost = size_t{128} << 20;
  std::mutex mutex_;
  std::vector<Block> idle_;  // by size
  size_t kept_ = 0;
};

Blocks& blocks() {
  static Blocks all;
  return all;
}

// Scratch of one call, on the device of `like`.
class Scratch {
 public:
  explicit Scratch(const Tensor& like) : like_(like) {}
  Scratch(const Scratch&) = delete;
  ~Scratch() {
    for (Block& block : blocks_) blocks().give(std::move(block));
  }
  asam::Memory memory() { return {&Scratch::take, this}; }

 private:
  static void* take(void* owner, size_t bytes) {
    auto* self = static_cast<Scratch*>(owner);
    return self->like_.is_cpu() ? self->cut((bytes + 63) / 64 * 64) : self->device((bytes + 63) / 64 * 64);
  }
  void* cut(size_t bytes) {
    if (bytes > left_) {
      blocks_.push_back(blocks().take(bytes));
      next_ = blocks_.back().start();
      left_ = blocks_.back().size();
    }
    left_ -= bytes;
    return std::exchange(next_, next_ + bytes);
  }
  void* device(size_t bytes) {
    held_.push_back(empty(like_, {static_cast<int64_t>(bytes)}, ScalarType::Byte));
    return held_.back().mutable_data_ptr();
  }

  Tensor like_;
  std::vector<Tensor> held_;
  std::vector<Block> blocks_;
  char* next_ = nullptr;
  size_t left_ = 0;
};

// The arguments that both directions share, as contiguous tensors; see pc3d/ops/asam_pool.py.
struct Arguments {
  Tensor x, row, count, segment, offsets, tiles, sizes, weights, norms, last, stats;
  int64_t num_points;
  bool training;
  double eps;

  Shape shape() const {
    return {x.size(1), x.size(0), row.numel(), sizes.numel(), num_points, training, eps};
  }
  template <class T>
  Input<T> input() const {
    return {data<T>(x), data<int64_t>(row), data<int64_t>(count), data<int64_t>(segment), data<int64_t>(offsets),
            data<int64_t>(tiles), data<int64_t>(sizes)};
  }
  Weights weights_view() const { return {data<double>(weights), data<double>(norms), data<double>(last), data<double>(stats)}; }

  void check_all() const {
    const int64_t c = x.dim() == 2 ? x.size(1) : -1, segments = sizes.numel();
    check(c > 0, "asam_pool: x must be (V, C)");
    for (const Tensor* t : {&row, &count, &segment, &offsets, &tiles, &sizes})
      check(t->scalar_type() == ScalarType::Long && t->dim() == 1 && same_device(*t, x), "asam_pool: entries must be int64, where x is");
    check(count.numel() == row.numel() && segment.numel() == row.numel(), "asam_pool: row, count and segment must be equally long");
    check(offsets.numel() == segments + 1 && tiles.numel() == segments + 1, "asam_pool: offsets and tiles must be (S + 1,)");
    for (const Tensor* t : {&weights, &norms, &last, &stats})
      check(t->scalar_type() == ScalarType::Double && same_device(*t, x), "asam_pool: weights must be float64, where x is");
    check(weights.numel() == 4 * c * c && norms.numel() == 12 * c && last.numel() == 2 * (c + 1) && stats.numel() == 8 * c,
          "asam_pool: weights do not fit x");
  }
};

// What the forward pass returns: pooled, batch, and what it saves.
using Outputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <class T>
Output<T> view(const Outputs& o) {
  const auto& [pooled, batch, centers, peak, moments, logits, level, gates] = o;
  return {mutable_data<T>(pooled), mutable_data<T>(centers), mutable_data<T>(logits), mutable_data<T>(level),
          mutable_data<double>(batch), mutable_data<double>(moments), mutable_data<int64_t>(peak), mutable_data<uint8_t>(gates)};
}

Outputs make_outputs(const Arguments& a) {
  const Shape s = a.shape();
  const ScalarType type = a.x.scalar_type();
  return {zeros(a.x, {s.num_segments, 2 * s.channels}, type),
          zeros(a.x, {2, 2, 2, s.channels}, ScalarType::Double),
          zeros(a.x, {2, s.num_segments, s.channels}, type),
          zeros(a.x, {s.num_segments, s.channels}, ScalarType::Long),
          zeros(a.x, {2, 2, s.channels + 1, s.channels}, ScalarType::Double),
          empty(a.x, {2, s.num_entries}, type),
          zeros(a.x, {2, s.num_segments}, type),
          empty(a.x, {2, s.num_entries, s.stride() / 8}, ScalarType::Byte)};
}

// Calls body with a null pointer of x's element type.
template <class Body>
void by_type(const Tensor& x, const Body& body) {
  if (x.scalar_type() == ScalarType::Float) return body(static_cast<float*>(nullptr));
  check(x.scalar_type() == ScalarType::Double, "asam_pool: x must be float32 or float64");
  body(static_cast<double*>(nullptr));
}

Arguments make_arguments(const Tensor& x, const Tensor& row, const Tensor& count, const Tensor& segment, const Tensor& offsets,
                         const Tensor& tiles, const Tensor& sizes, const Tensor& weights, const Tensor& norms, const Tensor& last,
                         const Tensor& stats, int64_t num_points, bool training, double eps) {
  using torch::stable::contiguous;
  const Arguments a{contiguous(x),     contiguous(row),     contiguous(count), contiguous(segment), contiguous(offsets),
                    contiguous(tiles), contiguous(sizes),   contiguous(weights), contiguous(norms), contiguous(last),
                    contiguous(stats), num_points, training, eps};
  a.check_all();
  return a;
}

template <class Run>
Outputs run_forward(const Arguments& a, const Run& run) {
  const Outputs outputs = make_outputs(a);
  if (a.row.numel() == 0) return outputs;
  Scratch scratch(a.x);
  by_type(a.x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    run(a.shape(), a.input<T>(), a.weights_view(), view<T>(outputs), scratch.memory());
  });
  return outputs;
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

template <class Run>
Gradients run_backward(const Arguments& a, const Tensor& grad_in, const Outputs& saved, const Tensor& by_row,
                       const Tensor& by_row_offsets, const Run& run) {
  const Tensor grad = torch::stable::contiguous(grad_in);
  const bool none = a.row.numel() == 0;
  const Gradients out{(none ? zeros : empty)(a.x, {a.x.size(0), a.x.size(1)}, a.x.scalar_type()),
                      zeros(a.weights, {2, 2, a.x.size(1), a.x.size(1)}, ScalarType::Double),
                      zeros(a.weights, {2, 2, 3, a.x.size(1)}, ScalarType::Double),
                      zeros(a.weights, {2, a.x.size(1) + 1}, ScalarType::Double)};
  check(by_row_offsets.numel() > a.x.size(0) && by_row.numel() == a.row.numel(), "asam_pool: entries by row do not fit x");
  check(grad.dim() == 2 && grad.size(0) == a.sizes.numel() && grad.size(1) == 2 * a.x.size(1),
        "asam_pool: the gradient must be (S, 2C)");
  if (none) return out;
  if (a.x.is_cpu()) prefer_large_pages(std::get<0>(out).mutable_data_ptr(), a.x.numel() * a.x.element_size());
  Scratch scratch(a.x);
  by_type(a.x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const Gradient<T> gradient{data<T>(grad), data<int64_t>(by_row), data<int64_t>(by_row_offsets),
                               mutable_data<T>(std::get<0>(out)), mutable_data<double>(std::get<1>(out)),
                               mutable_data<double>(std::get<2>(out)), mutable_data<double>(std::get<3>(out))};
    run(a.shape(), a.input<T>(), a.weights_view(), view<T>(saved), gradient, scratch.memory());
  });
  return out;
}

}  // namespace

#define PC3D_ASAM_ARGUMENTS                                                                                                  \
  const Tensor &x, const Tensor &row, const Tensor &count, const Tensor &segment, const Tensor &offsets, const Tensor &tiles, \
      const Tensor &sizes, const Tensor &weights, const Tensor &norms, const Tensor &last, const Tensor &stats
#define PC3D_ASAM_MADE \
  make_arguments(x, row, count, segment, offsets, tiles, sizes, weights, norms, last, stats, num_points, training, eps)

Outputs asam_pool(PC3D_ASAM_ARGUMENTS, int64_t num_points, bool training, double eps) {
  return run_forward(PC3D_ASAM_MADE, [](const Shape& shape, const auto& in, const Weights& w, const auto& out, const asam::Memory& memory) {
    kernels<std::remove_pointer_t<decltype(out.pooled)>>().forward(shape, in, w, out, memory);
  });
}

Gradients asam_pool_grad(const Tensor& grad, PC3D_ASAM_ARGUMENTS, const Tensor& pooled, const Tensor& centers, const Tensor& peak,
                         const Tensor& moments, const Tensor& logits, const Tensor& level, const Tensor& gates, const Tensor& by_row,
                         const Tensor& by_row_offsets, int64_t num_points, bool training, double eps) {
  const Outputs saved{pooled, zeros(weights, {2, 2, 2, x.size(1)}, ScalarType::Double), centers, peak, moments, logits, level, gates};
  return run_backward(PC3D_ASAM_MADE, grad, saved, by_row, by_row_offsets,
                      [](const Shape& shape, const auto& in, const Weights& w, const auto& out, const auto& gradient,
                         const asam::Memory& memory) {
                        kernels<std::remove_pointer_t<decltype(out.pooled)>>().backward(shape, in, w, out, gradient, memory);
                      });
}

#ifdef PC3D_CUDA
namespace {

Outputs asam_pool_cuda(PC3D_ASAM_ARGUMENTS, int64_t num_points, bool training, double eps) {
  const OnDevice on(x);
  const Outputs outputs = run_forward(
      PC3D_ASAM_MADE, [&](const Shape& shape, const auto& in, const Weights& w, const auto& out, const asam::Memory& memory) {
        asam::cuda_forward(shape, in, w, out, memory, on.stream());
      });
  check_launch("asam_pool");
  return outputs;
}

Gradients asam_pool_grad_cuda(const Tensor& grad, PC3D_ASAM_ARGUMENTS, const Tensor& pooled, const Tensor& centers, const Tensor& peak,
                              const Tensor& moments, const Tensor& logits, const Tensor& level, const Tensor& gates,
                              const Tensor& by_row, const Tensor& by_row_offsets, int64_t num_points, bool training, double eps) {
  const OnDevice on(x);
  const Outputs saved{pooled, zeros(weights, {2, 2, 2, x.size(1)}, ScalarType::Double), centers, peak, moments, logits, level, gates};
  const Gradients gradients =
      run_backward(PC3D_ASAM_MADE, grad, saved, by_row, by_row_offsets,
                   [&](const Shape& shape, const auto& in, const Weights& w, const auto& out, const auto& gradient,
                       const asam::Memory& memory) { asam::cuda_backward(shape, in, w, out, gradient, memory, on.stream()); });
  check_launch("asam_pool_grad");
  return gradients;
}

}  // namespace
#endif

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) {
  m.impl("asam_pool", TORCH_BOX(&pc3d::asam_pool));
  m.impl("asam_pool_grad", TORCH_BOX(&pc3d::asam_pool_grad));
}

#ifdef PC3D_CUDA
STABLE_TORCH_LIBRARY_IMPL(pc3d, CUDA, m) {
  m.impl("asam_pool", TORCH_BOX(&pc3d::asam_pool_cuda));
  m.impl("asam_pool_grad", TORCH_BOX(&pc3d::asam_pool_grad_cuda));
}
#endif

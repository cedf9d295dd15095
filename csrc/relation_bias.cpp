#include "relation_bias.h"

#include <algorithm>
#include <vector>

#include "cuda_call.h"
#include "tasks.h"

namespace pc3d {
namespace {

using relation::Relation;

const RelationKernels* kernels() {
#if defined(__x86_64__)
  if (best_isa() >= Isa::avx512) return &avx512_relation;
  if (best_isa() == Isa::avx2) return &avx2_relation;
#endif
  return nullptr;
}

template <class T>
Relation<T> relation_of(const Tensor& boxes, const Tensor& gauss, int64_t heads) {
  return {data<T>(boxes), data<T>(gauss), boxes.size(0), gauss.size(1), heads};
}

void check_boxes(const Tensor& boxes, const Tensor& gauss) {
  check(boxes.dim() == 2 && boxes.size(1) == 6, "relation_bias: boxes must be (K, 6)");
  check(gauss.dim() == 2 && gauss.size(0) == 6, "relation_bias: gauss must be (6, F)");
  check(boxes.scalar_type() == ScalarType::Float || boxes.scalar_type() == ScalarType::Double,
        "relation_bias: boxes must be float32 or float64");
  check(gauss.scalar_type() == boxes.scalar_type() && same_device(boxes, gauss), "relation_bias: gauss must be of the type of boxes");
}

// The columns of boxes that vectors read. Angles of the shapes are taken in double and modulo one turn: floats then keep
// more of their digits than the sums of large angles would.
class PaddedBoxes {
 public:
  PaddedBoxes(const Relation<float>& r, int width) : columns_((r.count + width - 1) / width * width) {
    space_.resize((3 + r.waves) * columns_);
    std::vector<double> logs(3 * columns_);
    for (int64_t j = 0; j < columns_; ++j)
      for (int a = 0; a < 3; ++a) {
        const int64_t box = std::min(j, r.count - 1);
        space_[a * columns_ + j] = r.center(box, a);
        logs[a * columns_ + j] = std::log(static_cast<double>(r.size(box, a)));
      }
    run_tasks(r.waves, [&](int64_t f) {
      for (int64_t j = 0; j < columns_; ++j) {
        double turns = 0;
        for (int a = 0; a < 3; ++a) turns += logs[a * columns_ + j] * static_cast<double>(r.turn(3 + a, f));
        space_[(3 + f) * columns_ + j] = static_cast<float>(turns - std::rint(turns));
      }
    });
    boxes_ = r.count;
  }

  BoxColumns view() const {
    const float* x = space_.data();
    return {{x, x + columns_, x + 2 * columns_}, x + 3 * columns_, boxes_, columns_};
  }

 private:
  int64_t boxes_ = 0, columns_;
  std::vector<float> space_;
};

// Weights of 8 heads from `first` on, as (F, 16): sin of each head, then cos; heads that do not exist weigh nothing.
std::vector<float> weights_of(const Relation<float>& r, const float* weight, int64_t first) {
  std::vector<float> wave(16 * r.waves);
  for (int64_t h = first; h < std::min<int64_t>(first + 8, r.heads); ++h)
    for (int64_t f = 0; f < r.waves; ++f) {
      wave[16 * f + h - first] = weight[h * 2 * r.waves + f];
      wave[16 * f + 8 + h - first] = weight[h * 2 * r.waves + r.waves + f];
    }
  return wave;
}

void vector_bias(const RelationKernels& kernel, const Relation<float>& r, const float* weight, const float* bias, float* out) {
  const PaddedBoxes padded(r, kernel.width);
  const BoxColumns boxes = padded.view();
  for (int64_t first = 0; first < r.heads; first += 8) {
    const int64_t heads = std::min<int64_t>(8, r.heads - first);
    const std::vector<float> wave = weights_of(r, weight, first);
    float offset[8] = {};
    std::copy_n(bias + first, heads, offset);
    torch::stable::parallel_for(0, r.count, 8, [&](int64_t begin, int64_t end) {
      std::vector<float> logs(3 * boxes.columns + 2 * kPairs * r.waves);
      for (int64_t i = begin; i < end; ++i)
        kernel.row(boxes, r, i, wave.data(), offset, heads, logs.data(), out + (first * r.count + i) * r.count,
                   r.count * r.count);
    });
  }
}

// Rows are added up in chunks of a fixed size, and the chunks in their order.
constexpr int64_t kRowsPerChunk = 16;

void vector_grad(const RelationKernels& kernel, const Relation<float>& r, const float* grad, const float* out, float* total) {
  const PaddedBoxes padded(r, kernel.width);
  const BoxColumns boxes = padded.view();
  const int64_t chunks = (r.count + kRowsPerChunk - 1) / kRowsPerChunk, row = 2 * r.waves + 1;
  for (int64_t first = 0; first < r.heads; first += 8) {
    const int64_t heads = std::min<int64_t>(8, r.heads - first), size = 16 * r.waves + 8;
    std::vector<float> sums(chunks * size);
    run_tasks(chunks, [&](int64_t chunk) {
      std::vector<float> logs(3 * boxes.columns), g(8 * boxes.columns);
      float* own = sums.data() + chunk * size;
      for (int64_t i = chunk * kRowsPerChunk; i < std::min((chunk + 1) * kRowsPerChunk, r.count); ++i) {
        for (int64_t h = 0; h < heads; ++h)
          for (int64_t j = 0; j < r.count; ++j) {
            const int64_t at = ((first + h) * r.count + i) * r.count + j;
            const float value = out[at] > 0 ? grad[at] : 0;
            g[h * boxes.columns + j] = value;
            own[16 * r.waves + h] += value;
          }
        kernel.row_grad(boxes, r, i, g.data(), logs.data(), own);
      }
    });
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const float* own = sums.data() + chunk * size;
      for (int64_t h = 0; h < heads; ++h) {
        float* to = total + (first + h) * row;
        for (int64_t f = 0; f < r.waves; ++f) {
          to[f] += own[16 * f + h];
          to[r.waves + f] += own[16 * f + 8 + h];
        }
        to[2 * r.waves] += own[16 * r.waves + h];
      }
    }
  }
}

template <class T>
void plain_bias(const Relation<T>& r, const T* weight, const T* bias, T* out) {
  torch::stable::parallel_for(0, r.count, 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < r.count; ++j)
        relation::bias_of_pair(r, weight, bias, i, j, out + i * r.count + j, r.count * r.count);
  });
}

template <class T>
void plain_grad(const Relation<T>& r, const T* grad, const T* out, T* total) {
  const int64_t size = r.heads * (2 * r.waves + 1);
  std::vector<T> rows(r.count * size);
  torch::stable::parallel_for(0, r.count, 8, [&](int64_t begin, int64_t end) {
    std::vector<T> d(6 * r.count);
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t j = 0; j < r.count; ++j) relation::relate(r, i, j, d.data() + 6 * j);
      for (int64_t first = 0; first < r.heads; first += relation::kHeads)
        for (int64_t f = 0; f <= r.waves; ++f) {
          T by_sine[relation::kHeads] = {}, by_cosine[relation::kHeads] = {};
          const int64_t heads = std::min<int64_t>(relation::kHeads, r.heads - first);
          relation::grad_of_pairs(r, d.data(), grad, out, i, f, first, heads, 0, r.count, by_sine, by_cosine);
          relation::place_grad(r, f, first, heads, by_sine, by_cosine, rows.data() + i * size);
        }
    }
  });
  for (int64_t i = 0; i < r.count; ++i)
    for (int64_t at = 0; at < size; ++at) total[at] += rows[i * size + at];
}

// Calls body with a null pointer of x's element type.
template <class Body>
void by_float_type(const Tensor& x, const Body& body) {
  if (x.scalar_type() == ScalarType::Float) return body(static_cast<float*>(nullptr));
  body(static_cast<double*>(nullptr));
}

struct Arguments {
  Tensor boxes, gauss, weight, bias, out;

  Arguments(const Tensor& boxes_in, const Tensor& gauss_in, const Tensor& weight_in, const Tensor& bias_in)
      : boxes(torch::stable::contiguous(boxes_in)), gauss(torch::stable::contiguous(gauss_in)),
        weight(torch::stable::contiguous(weight_in)), bias(torch::stable::contiguous(bias_in)) {
    check_boxes(boxes, gauss);
    for (const Tensor* t : {&weight, &bias})
      check(t->scalar_type() == boxes.scalar_type() && same_device(*t, boxes),
            "relation_bias: weight and bias must be of the type of boxes");
    check(bias.dim() == 1 && weight.dim() == 2 && weight.size(0) == bias.size(0) && weight.size(1) == 2 * gauss.size(1),
          "relation_bias: weight must be (H, 2F) and bias (H)");
    out = empty(boxes, {bias.size(0), boxes.size(0), boxes.size(0)}, boxes.scalar_type());
  }
};

struct GradArguments {
  Tensor grad, out, boxes, gauss, total;

  GradArguments(const Tensor& grad_in, const Tensor& out_in, const Tensor& boxes_in, const Tensor& gauss_in)
      : grad(torch::stable::contiguous(grad_in)), out(torch::stable::contiguous(out_in)),
        boxes(torch::stable::contiguous(boxes_in)), gauss(torch::stable::contiguous(gauss_in)) {
    check_boxes(boxes, gauss);
    for (const Tensor* t : {&grad, &out})
      check(t->scalar_type() == boxes.scalar_type() && same_device(*t, boxes) && t->dim() == 3 &&
                t->size(0) == out.size(0) && t->size(1) == boxes.size(0) && t->size(2) == boxes.size(0),
            "relation_bias_grad: grad and out must be (H, K, K), of the type of boxes");
    total = zeros(boxes, {out.size(0), 2 * gauss.size(1) + 1}, boxes.scalar_type());
  }
};

}  // namespace

Tensor relation_bias(const Tensor& boxes, const Tensor& gauss, const Tensor& weight, const Tensor& bias) {
  const Arguments a(boxes, gauss, weight, bias);
  if (a.out.numel() == 0) return a.out;
  const RelationKernels* kernel = kernels();
  by_float_type(a.boxes, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const Relation<T> r = relation_of<T>(a.boxes, a.gauss, a.bias.size(0));
    if constexpr (std::is_same_v<T, float>)
      if (kernel) return vector_bias(*kernel, r, data<T>(a.weight), data<T>(a.bias), mutable_data<T>(a.out));
    plain_bias(r, data<T>(a.weight), data<T>(a.bias), mutable_data<T>(a.out));
  });
  return a.out;
}

Tensor relation_bias_grad(const Tensor& grad, const Tensor& out, const Tensor& boxes, const Tensor& gauss) {
  const GradArguments a(grad, out, boxes, gauss);
  if (a.out.numel() == 0) return a.total;
  const RelationKernels* kernel = kernels();
  by_float_type(a.boxes, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const Relation<T> r = relation_of<T>(a.boxes, a.gauss, a.out.size(0));
    if constexpr (std::is_same_v<T, float>)
      if (kernel) return vector_grad(*kernel, r, data<T>(a.grad), data<T>(a.out), mutable_data<T>(a.total));
    plain_grad(r, data<T>(a.grad), data<T>(a.out), mutable_data<T>(a.total));
  });
  return a.total;
}

#ifdef PC3D_CUDA
namespace {

Tensor relation_bias_cuda(const Tensor& boxes, const Tensor& gauss, const Tensor& weight, const Tensor& bias) {
  const Arguments a(boxes, gauss, weight, bias);
  if (a.out.numel() == 0) return a.out;
  const OnDevice on(a.boxes);
  by_float_type(a.boxes, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    relation::cuda_bias(relation_of<T>(a.boxes, a.gauss, a.bias.size(0)), data<T>(a.weight), data<T>(a.bias),
                        mutable_data<T>(a.out), on.stream());
  });
  check_launch("relation_bias");
  return a.out;
}

Tensor relation_bias_grad_cuda(const Tensor& grad, const Tensor& out, const Tensor& boxes, const Tensor& gauss) {
  const GradArguments a(grad, out, boxes, gauss);
  if (a.out.numel() == 0) return a.total;
  Tensor rows = empty(a.boxes, {a.boxes.size(0), a.total.size(0), a.total.size(1)}, a.boxes.scalar_type());
  const OnDevice on(a.boxes);
  by_float_type(a.boxes, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    relation::cuda_grad(relation_of<T>(a.boxes, a.gauss, a.out.size(0)), data<T>(a.grad), data<T>(a.out),
                        mutable_data<T>(rows), mutable_data<T>(a.total), on.stream());
  });
  check_launch("relation_bias_grad");
  return a.total;
}

}  // namespace
#endif

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) {
  m.impl("relation_bias", TORCH_BOX(&pc3d::relation_bias));
  m.impl("relation_bias_grad", TORCH_BOX(&pc3d::relation_bias_grad));
}

#ifdef PC3D_CUDA
STABLE_TORCH_LIBRARY_IMPL(pc3d, CUDA, m) {
  m.impl("relation_bias", TORCH_BOX(&pc3d::relation_bias_cuda));
  m.impl("relation_bias_grad", TORCH_BOX(&pc3d::relation_bias_grad_cuda));
}
#endif

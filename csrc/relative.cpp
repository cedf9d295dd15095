#include "relative.h"

#include <algorithm>

#include "cuda_call.h"
#include "relative_kernels.h"

namespace pc3d {
namespace {

using relative::Pairs;

// Keys are taken in blocks whose rows (36 KB of floats at 144 columns) stay in the first-level cache while queries pass.
constexpr int64_t kKeyBlock = 64;
constexpr int64_t kMaxColumns = 32768;  // what an int16 bin can name; known to pc3d/ops/relative.py too

Pairs pairs_of(const Tensor& bins, int64_t heads, int64_t columns, bool by_key) {
  check(bins.dim() == 3 && bins.size(0) == 3 && bins.scalar_type() == ScalarType::Short,
        "relative op: bins must be int16 (3, K, M)");
  check(columns <= kMaxColumns, "relative op: int16 bins name at most 32768 columns");
  return {data<int16_t>(bins), heads, bins.size(1), bins.size(2), columns, by_key};
}

void check_range(const Pairs& p) {
  const int64_t count = 3 * p.queries * p.keys;
  int16_t smallest = 0, largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    smallest = std::min(smallest, p.bins[i]);
    largest = std::max(largest, p.bins[i]);
  }
  check(count == 0 || (smallest >= 0 && largest < p.columns), "relative op: a bin is out of range");
}

// Calls visit(head, query, first key, last key) for all pairs, such that all calls for one row come from one thread.
template <class Visit>
void for_each_run(const Pairs& p, const Visit& visit) {
  const int64_t per_head = p.by_key ? (p.keys + kKeyBlock - 1) / kKeyBlock : p.queries;
  torch::stable::parallel_for(0, p.heads * per_head, p.by_key ? 1 : 8, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t head = item / per_head, part = item % per_head;
      if (!p.by_key) {
        visit(head, part, 0, p.keys);
        continue;
      }
      const int64_t first = part * kKeyBlock, last = std::min(first + kKeyBlock, p.keys);
      for (int64_t k = 0; k < p.queries; ++k) visit(head, k, first, last);
    }
  });
}

template <class T>
void read(const Pairs& p, const T* rows, T* out) {
  for_each_run(p, [&](int64_t h, int64_t k, int64_t first, int64_t last) {
    const int16_t *x = p.axis(0, k), *y = p.axis(1, k), *z = p.axis(2, k);
    const int64_t step = p.by_key ? p.columns : 0;
    const T* row = rows + (p.by_key ? h * p.keys + first : h * p.queries + k) * p.columns;
    T* to = out + (h * p.queries + k) * p.keys;
    for (int64_t m = first; m < last; ++m, row += step) to[m] = row[x[m]] + row[y[m]] + row[z[m]];
  });
}

template <class T>
void add(const Pairs& p, const T* weights, T* rows) {
  for_each_run(p, [&](int64_t h, int64_t k, int64_t first, int64_t last) {
    const int16_t *x = p.axis(0, k), *y = p.axis(1, k), *z = p.axis(2, k);
    const int64_t step = p.by_key ? p.columns : 0;
    T* row = rows + (p.by_key ? h * p.keys + first : h * p.queries + k) * p.columns;
    const T* from = weights + (h * p.queries + k) * p.keys;
    for (int64_t m = first; m < last; ++m, row += step) {
      row[x[m]] += from[m];
      row[y[m]] += from[m];
      row[z[m]] += from[m];
    }
  });
}

// Calls body with a null pointer of x's element type.
template <class Body>
void by_float_type(const Tensor& x, const Body& body) {
  if (x.scalar_type() == ScalarType::Float) return body(static_cast<float*>(nullptr));
  check(x.scalar_type() == ScalarType::Double, "relative op: values must be float32 or float64");
  body(static_cast<double*>(nullptr));
}

Pairs pairs_to_read(const Tensor& rows, const Tensor& bins, bool by_key) {
  check(rows.dim() == 3 && same_device(rows, bins), "relative_read: rows must be (H, R, T) on the device of bins");
  const Pairs pairs = pairs_of(bins, rows.size(0), rows.size(2), by_key);
  check(rows.size(1) == pairs.num_rows(), "relative_read: rows do not fit bins");
  return pairs;
}

Pairs pairs_to_add(const Tensor& weights, const Tensor& bins, int64_t columns, bool by_key) {
  check(weights.dim() == 3 && columns > 0 && same_device(weights, bins),
        "relative_add: weights must be (H, K, M) on the device of bins");
  const Pairs pairs = pairs_of(bins, weights.size(0), columns, by_key);
  check(weights.size(1) == pairs.queries && weights.size(2) == pairs.keys, "relative_add: weights do not fit bins");
  return pairs;
}

}  // namespace

Tensor relative_read(const Tensor& rows_in, const Tensor& bins_in, bool by_key) {
  const Tensor rows = torch::stable::contiguous(rows_in), bins = torch::stable::contiguous(bins_in);
  const Pairs pairs = pairs_to_read(rows, bins, by_key);
  check_range(pairs);
  Tensor out = empty(rows, {pairs.heads, pairs.queries, pairs.keys}, rows.scalar_type());
  by_float_type(rows, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    read(pairs, data<T>(rows), mutable_data<T>(out));
  });
  return out;
}

Tensor relative_add(const Tensor& weights_in, const Tensor& bins_in, int64_t columns, bool by_key) {
  const Tensor weights = torch::stable::contiguous(weights_in), bins = torch::stable::contiguous(bins_in);
  const Pairs pairs = pairs_to_add(weights, bins, columns, by_key);
  check_range(pairs);
  Tensor rows = zeros(weights, {pairs.heads, pairs.num_rows(), columns}, weights.scalar_type());
  by_float_type(weights, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    add(pairs, data<T>(weights), mutable_data<T>(rows));
  });
  return rows;
}

#ifdef PC3D_CUDA
namespace {

Tensor relative_read_cuda(const Tensor& rows_in, const Tensor& bins_in, bool by_key) {
  const Tensor rows = torch::stable::contiguous(rows_in), bins = torch::stable::contiguous(bins_in);
  const Pairs pairs = pairs_to_read(rows, bins, by_key);
  Tensor out = empty(rows, {pairs.heads, pairs.queries, pairs.keys}, rows.scalar_type());
  if (out.numel() == 0) return out;
  const OnDevice on(rows);
  by_float_type(rows, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    relative::cuda_read(pairs, data<T>(rows), mutable_data<T>(out), on.stream());
  });
  check_launch("relative_read");
  return out;
}

Tensor relative_add_cuda(const Tensor& weights_in, const Tensor& bins_in, int64_t columns, bool by_key) {
  const Tensor weights = torch::stable::contiguous(weights_in), bins = torch::stable::contiguous(bins_in);
  const Pairs pairs = pairs_to_add(weights, bins, columns, by_key);
  Tensor rows = empty(weights, {pairs.heads, pairs.num_rows(), columns}, weights.scalar_type());
  if (rows.numel() == 0) return rows;
  const OnDevice on(weights);
  by_float_type(weights, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    relative::cuda_add(pairs, data<T>(weights), mutable_data<T>(rows), on.stream());
  });
  check_launch("relative_add");
  return rows;
}

}  // namespace
#endif

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) {
  m.impl("relative_read", TORCH_BOX(&pc3d::relative_read));
  m.impl("relative_add", TORCH_BOX(&pc3d::relative_add));
}

#ifdef PC3D_CUDA
STABLE_TORCH_LIBRARY_IMPL(pc3d, CUDA, m) {
  m.impl("relative_read", TORCH_BOX(&pc3d::relative_read_cuda));
  m.impl("relative_add", TORCH_BOX(&pc3d::relative_add_cuda));
}
#endif

#include "relative_attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <optional>
#include <vector>

#include "tasks.h"

namespace pc3d {
namespace {

constexpr int64_t kKeysPerTask = 64;
constexpr int64_t kBlocksPerTask = 2;  // each keeps some 400 KB at 8 heads of 32 channels: two fit a second-level cache of 1 MB

const AttentionKernels& kernels() {
#if defined(__x86_64__)
  if (best_isa() >= Isa::avx512) return avx512_attention;
  if (best_isa() == Isa::avx2) return avx2_attention;
#endif
  throw std::runtime_error("relative_attention: no kernel for this processor; pc3d/ops/relative_attention.py uses the reference");
}

// Zeros that begin on a cache line: a vector that straddles two lines costs two loads.
class Floats {
 public:
  explicit Floats(int64_t count) : space_(count + 16) {}
  float* data() {
    const auto at = reinterpret_cast<uintptr_t>(space_.data());
    return space_.data() + (64 - at % 64) % 64 / sizeof(float);
  }

 private:
  std::vector<float> space_;
};

// A table (H, e, T) times `scale` with heads innermost: (groups, e, T, 8), or (groups, T, e rounded up to even, 8) turned.
Floats heads_inside(const float* table, const AttentionShape& s, bool turned, float scale = 1) {
  const int64_t e = s.channels, t = s.columns(), even = s.even_channels();
  Floats space(s.groups() * kGroup * t * (turned ? even : e));
  float* out = space.data();
  for (int64_t h = 0; h < s.heads; ++h)
    for (int64_t c = 0; c < e; ++c)
      for (int64_t j = 0; j < t; ++j) {
        const int64_t cell = turned ? (h / kGroup * t + j) * even + c : (h / kGroup * e + c) * t + j;
        out[cell * kGroup + h % kGroup] = table[(h * e + c) * t + j] * scale;
      }
  return space;
}

// Runs task(i, scratch) for i in [0, count); each thread has scratch of its own.
template <class Scratch, class F>
void run_with_scratch(int64_t count, const Scratch& make, const F& task) {
  const int64_t workers = std::min<int64_t>(count, torch::stable::get_num_threads());
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      auto scratch = make();
      for (int64_t i = next++; i < count; i = next++) task(i, scratch);
    }
  });
}

// Orders queries so that each run of `lanes` is near each other: halves along the longest side, again and again.
void gather_near(int32_t* queries, int64_t count, const float* xyz, int64_t lanes) {
  if (count <= lanes) return;
  const auto at = [&](int32_t query, int axis) { return std::isfinite(xyz[3 * query + axis]) ? xyz[3 * query + axis] : 0.0f; };
  int longest = 0;
  float most = -1;
  for (int axis = 0; axis < 3; ++axis) {
    const auto [low, high] = std::minmax_element(queries, queries + count, [&](int32_t a, int32_t b) { return at(a, axis) < at(b, axis); });
    const float length = at(*high, axis) - at(*low, axis);
    if (length > most) longest = axis, most = length;
  }
  const int64_t half = (count / lanes + 1) / 2 * lanes;
  std::nth_element(queries, queries + half, queries + count, [&](int32_t a, int32_t b) {
    const float x = at(a, longest), y = at(b, longest);
    return x < y || (x == y && a < b);
  });
  gather_near(queries, half, xyz, lanes);
  gather_near(queries + half, count - half, xyz, lanes);
}

void attend(const AttentionShape& shape, AttentionData data, float* key_rows, float* out) {
  const AttentionKernels& kernel = kernels();
  data.key_rows = key_rows;
  std::vector<int32_t> order(shape.queries);
  std::iota(order.begin(), order.end(), 0);
  gather_near(order.data(), shape.queries, data.query_xyz, kernel.lanes);
  data.order = order.data();
  const auto scratch_for = [&](int64_t blocks) { return [&shape, &kernel, blocks] { return Floats(kernel.scratch_size(shape, blocks)); }; };
  run_with_scratch((shape.keys + kKeysPerTask - 1) / kKeysPerTask, scratch_for(1), [&](int64_t i, Floats& scratch) {
    kernel.key_rows(shape, data, i * kKeysPerTask, std::min((i + 1) * kKeysPerTask, shape.keys), scratch.data(), key_rows);
  });
  // How blocks are dealt to tasks changes no result: each block sees the keys in the same order.
  const int64_t blocks = (shape.queries + kernel.lanes - 1) / kernel.lanes;
  const int64_t threads = std::min<int64_t>(blocks, torch::stable::get_num_threads());
  const int64_t tasks = std::max((blocks + kBlocksPerTask - 1) / kBlocksPerTask, threads), most = (blocks + tasks - 1) / tasks;
  run_with_scratch(tasks, scratch_for(most), [&](int64_t i, Floats& scratch) {
    const int64_t first = blocks * i / tasks * kernel.lanes;
    const int64_t end = std::min(blocks * (i + 1) / tasks * kernel.lanes, shape.queries);
    kernel.attend(shape, data, first, end - first, scratch.data(), out);
  });
}

void check_rows(const Tensor& t, int64_t rows, int64_t columns) {
  check(t.dim() == 2 && t.size(0) == rows && t.size(1) == columns && t.scalar_type() == ScalarType::Float,
        "relative_attention: rows must be float32 and fit each other");
}

}  // namespace

Tensor relative_attention(const Tensor& query_in, const Tensor& query_position_in, const Tensor& query_xyz_in,
                          const Tensor& key_in, const Tensor& key_position_in, const Tensor& value_in, const Tensor& key_xyz_in,
                          const Tensor& query_table_in, const Tensor& key_table_in, const Tensor& value_table_in,
                          double grid_size, const std::optional<Tensor>& blocked_in) {
  const auto whole = [](const Tensor& t) { return torch::stable::contiguous(t); };
  const Tensor query = whole(query_in), query_position = whole(query_position_in), query_xyz = whole(query_xyz_in);
  const Tensor key = whole(key_in), key_position = whole(key_position_in), value = whole(value_in), key_xyz = whole(key_xyz_in);
  const Tensor query_table = whole(query_table_in), key_table = whole(key_table_in), value_table = whole(value_table_in);
  check(query_table.dim() == 3 && query_table.size(2) % 6 == 0 && query_table.numel() > 0,
        "relative_attention: tables must be (H, e, 6 G)");
  const AttentionShape shape{query.size(0), key.size(0), query_table.size(0), query_table.size(1), query_table.size(2) / 6,
                             static_cast<float>(grid_size)};
  for (const Tensor* t : {&query_table, &key_table, &value_table})
    check(t->scalar_type() == ScalarType::Float && t->dim() == 3 && t->size(0) == shape.heads && t->size(1) == shape.channels &&
              t->size(2) == shape.columns(), "relative_attention: tables must be float32 and of one shape");
  for (const Tensor* t : {&query, &query_position}) check_rows(*t, shape.queries, shape.width());
  for (const Tensor* t : {&key, &key_position, &value}) check_rows(*t, shape.keys, shape.width());
  check_rows(query_xyz, shape.queries, 3);
  check_rows(key_xyz, shape.keys, 3);
  check(grid_size > 0 && shape.keys < INT32_MAX, "relative_attention: grid_size must be positive");

  AttentionData arguments{data<float>(query), data<float>(query_position), data<float>(query_xyz), data<float>(key),
                          data<float>(key_position), data<float>(value), data<float>(key_xyz), nullptr, nullptr, nullptr,
                          nullptr, nullptr, nullptr};
  std::optional<Tensor> blocked;
  if (blocked_in.has_value()) {
    blocked = whole(*blocked_in);
    check(blocked->scalar_type() == ScalarType::Bool && blocked->dim() == 2 && blocked->size(0) == shape.queries &&
              blocked->size(1) == shape.keys, "relative_attention: blocked must be bool (K, M)");
    arguments.blocked = data<bool>(*blocked);
  }
  Tensor out = zeros(query, {shape.queries, shape.width()}, ScalarType::Float);
  if (shape.queries == 0 || shape.keys == 0) return out;
  Floats queries_say = heads_inside(data<float>(query_table), shape, false);
  Floats keys_say = heads_inside(data<float>(key_table), shape, false, kLog2);
  Floats values_say = heads_inside(data<float>(value_table), shape, true);
  arguments.query_table = queries_say.data();
  arguments.key_table = keys_say.data();
  arguments.value_table = values_say.data();
  Tensor key_rows = empty(key, {shape.groups(), shape.keys, shape.columns(), kGroup}, ScalarType::Float);
  attend(shape, arguments, mutable_data<float>(key_rows), mutable_data<float>(out));
  return out;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("relative_attention", TORCH_BOX(&pc3d::relative_attention)); }

#include "grow_regions.h"

#include "sparse_rows.h"

#include <algorithm>
#include <vector>

namespace pc3d {
namespace {

class Growth {
 public:
  Growth(const int64_t* starts, const int32_t* neighbors, const double* affinity, const double* sizes, int64_t count, double hop,
         int64_t* number)
      : starts_(starts), neighbors_(neighbors), affinity_(affinity), sizes_(sizes), hop_(hop), number_(number), touched_(count) {}

  void grow(int32_t seed, int64_t group, double threshold) {
    queue_.assign(1, seed);
    number_[seed] = group;
    for (size_t at = 0; at < queue_.size(); ++at)
      for (int64_t e = starts_[queue_[at]]; e < starts_[queue_[at] + 1]; ++e) {
        const int32_t other = neighbors_[e];
        if (number_[other] >= 0 || !(score(other, group) >= threshold)) continue;
        number_[other] = group;
        queue_.push_back(other);
      }
  }

 private:
  // Affinity of a node to the members of a group that it touches, and to those it touches through one of them.
  double score(int32_t node, int64_t group) {
    ++round_;
    touched_[node] = round_;
    double total = 0, weight = 0;
    for (int64_t e = starts_[node]; e < starts_[node + 1]; ++e) {
      const int32_t k = neighbors_[e];
      if (number_[k] != group) continue;
      touched_[k] = round_;
      weight += sizes_[k];
      total += sizes_[k] * affinity_[e];
    }
    for (int64_t e = starts_[node]; e < starts_[node + 1]; ++e) {
      const int32_t middle = neighbors_[e];
      if (number_[middle] != group) continue;
      for (int64_t f = starts_[middle]; f < starts_[middle + 1]; ++f) {
        const int32_t k = neighbors_[f];
        if (number_[k] != group || touched_[k] == round_) continue;
        touched_[k] = round_;
        const double through = affinity_[e] * affinity_[f];
        total += hop_ * sizes_[k] * through;
        weight += hop_ * sizes_[k];
      }
    }
    return weight > 0 ? total / weight : 0;
  }

  const int64_t* starts_;
  const int32_t* neighbors_;
  const double *affinity_, *sizes_;
  double hop_;
  int64_t* number_;
  std::vector<int64_t> touched_;  // round in which a node was met last
  int64_t round_ = 0;
  std::vector<int32_t> queue_;
};

void check_graph(const Tensor& starts, const Tensor& neighbors, const Tensor& affinity, const Tensor& sizes) {
  const int64_t count = sizes.numel();
  const SparseRows rows = sparse_rows("grow_regions", starts, neighbors, count, Columns::ascending);
  check(rows.count == count && affinity.scalar_type() == ScalarType::Double && affinity.numel() == neighbors.numel() &&
            sizes.scalar_type() == ScalarType::Double,
        "grow_regions: sizes must be float64 (R,), affinities float64 (E,)");
  for (int64_t row = 0; row < count; ++row)
    check(!std::binary_search(rows.columns + rows.starts[row], rows.columns + rows.starts[row + 1], row),
          "grow_regions: a row holds its own node");
}

}  // namespace

Tensor grow_regions(const Tensor& starts_in, const Tensor& neighbors_in, const Tensor& affinity_in, const Tensor& sizes_in,
                    double threshold, double hop) {
  using torch::stable::contiguous;
  const Tensor starts = contiguous(starts_in), neighbors = contiguous(neighbors_in), affinity = contiguous(affinity_in),
               sizes = contiguous(sizes_in);
  check_graph(starts, neighbors, affinity, sizes);
  const int64_t count = sizes.numel();
  Tensor out = empty(sizes, {count}, ScalarType::Long);
  int64_t* number = mutable_data<int64_t>(out);
  std::fill_n(number, count, int64_t{-1});
  Growth growth(data<int64_t>(starts), data<int32_t>(neighbors), data<double>(affinity), data<double>(sizes), count, hop, number);
  int64_t groups = 0;
  for (int64_t node = 0; node < count; ++node)
    if (number[node] < 0) growth.grow(static_cast<int32_t>(node), groups++, threshold);
  return out;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("grow_regions", TORCH_BOX(&pc3d::grow_regions)); }

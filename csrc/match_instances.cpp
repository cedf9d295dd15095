#include "match_instances.h"

#include <algorithm>
#include <vector>

namespace pc3d {
namespace {

struct Scan {
  const double *iou, *ignored, *scores;
  const int64_t *labels, *truth_labels;
  const bool* truth_counts;
  int64_t num_predicted, num_true;
};

struct Found {
  std::vector<int64_t> cells, missed;
  std::vector<char> hits;
  std::vector<double> scores;

  void add(int64_t cell, bool hit, double score) {
    cells.push_back(cell);
    hits.push_back(hit);
    scores.push_back(score);
  }
};

// A true instance takes its predictions in listing order: the first is spent, and each pair costs the lower score.
void match_truth(const Scan& scan, int64_t truth, double overlap, int64_t cell, std::vector<char>& spent, Found& found) {
  bool matched = false;
  double best = 0;
  for (int64_t i = 0; i < scan.num_predicted; ++i) {
    if (spent[i] || !(scan.iou[i * scan.num_true + truth] > overlap)) continue;
    if (matched)
      found.add(cell, false, std::min(best, scan.scores[i]));
    else
      spent[i] = true;
    best = matched ? std::max(best, scan.scores[i]) : scan.scores[i];
    matched = true;
  }
  if (matched)
    found.add(cell, true, best);
  else
    found.missed.push_back(cell);
}

void match_all(const Scan& scan, double overlap, int64_t threshold, int64_t num_thresholds, Found& found) {
  std::vector<char> spent(scan.num_predicted, false);
  for (int64_t truth = 0; truth < scan.num_true; ++truth)
    if (scan.truth_counts[truth])
      match_truth(scan, truth, overlap, scan.truth_labels[truth] * num_thresholds + threshold, spent, found);
  for (int64_t i = 0; i < scan.num_predicted; ++i) {
    const double* row = scan.iou + i * scan.num_true;
    const bool matches = std::any_of(row, row + scan.num_true, [&](double iou) { return iou > overlap; });
    if (!matches && scan.ignored[i] <= overlap) found.add(scan.labels[i] * num_thresholds + threshold, false, scan.scores[i]);
  }
}

void check_column(const Tensor& column, int64_t rows, ScalarType dtype, const char* message) {
  check(column.dim() == 1 && column.size(0) == rows && column.scalar_type() == dtype && column.is_contiguous(), message);
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor> match_instances(const Tensor& iou, const Tensor& ignored, const Tensor& labels,
                                                           const Tensor& scores, const Tensor& truth_labels,
                                                           const Tensor& truth_counts, const Tensor& overlaps) {
  check(iou.dim() == 2 && iou.scalar_type() == ScalarType::Double && iou.is_contiguous(),
        "match_instances: iou must be contiguous float64 (I, G)");
  const int64_t predicted = iou.size(0), truths = iou.size(1), thresholds = overlaps.numel();
  check_column(ignored, predicted, ScalarType::Double, "match_instances: ignored must be float64 (I,)");
  check_column(labels, predicted, ScalarType::Long, "match_instances: labels must be int64 (I,)");
  check_column(scores, predicted, ScalarType::Double, "match_instances: scores must be float64 (I,)");
  check_column(truth_labels, truths, ScalarType::Long, "match_instances: truth_labels must be int64 (G,)");
  check_column(truth_counts, truths, ScalarType::Bool, "match_instances: truth_counts must be bool (G,)");
  check_column(overlaps, thresholds, ScalarType::Double, "match_instances: overlaps must be float64 (T,)");
  const Scan scan{data<double>(iou), data<double>(ignored), data<double>(scores), data<int64_t>(labels),
                  data<int64_t>(truth_labels), data<bool>(truth_counts), predicted, truths};
  Found found;
  for (int64_t t = 0; t < thresholds; ++t) match_all(scan, data<double>(overlaps)[t], t, thresholds, found);
  const int64_t count = static_cast<int64_t>(found.cells.size()), misses = static_cast<int64_t>(found.missed.size());
  Tensor cell = empty(iou, {count}, ScalarType::Long), hit = empty(iou, {count}, ScalarType::Bool);
  Tensor score = empty(iou, {count}, ScalarType::Double), missed = empty(iou, {misses}, ScalarType::Long);
  std::copy_n(found.cells.begin(), count, mutable_data<int64_t>(cell));
  std::copy_n(found.hits.begin(), count, mutable_data<bool>(hit));
  std::copy_n(found.scores.begin(), count, mutable_data<double>(score));
  std::copy_n(found.missed.begin(), misses, mutable_data<int64_t>(missed));
  return {cell, hit, score, missed};
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("match_instances", TORCH_BOX(&pc3d::match_instances)); }

#include "merge_views.h"

#include "number_set.h"
#include "sparse_rows.h"
#include "tasks.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>
#include <utility>

namespace pc3d {
namespace {

using namespace merge_views;

// Room for one number of each superpoint; what is not in use is 0.
struct Scratch {
  explicit Scratch(int64_t num_superpoints) : weight(num_superpoints), points(num_superpoints), met(num_superpoints) {}
  std::vector<double> weight;
  std::vector<int32_t> points;
  NumberSet met;
};

std::vector<double> held_of(const Row& inside, const Row& seen) {
  std::vector<double> held;
  held.reserve(inside.size());
  size_t at = 0;
  for (const Entry& entry : inside) {
    while (at < seen.size() && seen[at].superpoint < entry.superpoint) ++at;
    const bool found = at < seen.size() && seen[at].superpoint == entry.superpoint;
    const double points = found ? seen[at].points : 0;
    held.push_back(entry.points / std::max(points, 1.0) * std::sqrt(points));
  }
  return held;
}

// The groups that hold something of a superpoint.
class Holders {
 public:
  struct Share {
    int32_t group;
    double held;
  };

  Holders(const Node& groups, int64_t num_superpoints) : end_(num_superpoints + 1) {
    for (const Group& group : groups)
      for (const Entry& entry : group.inside) ++end_[entry.superpoint + 1];
    std::partial_sum(end_.begin(), end_.end(), end_.begin());
    shares_.resize(end_.back());
    for (size_t j = 0; j < groups.size(); ++j)
      for (size_t e = 0; e < groups[j].held.size(); ++e)
        shares_[end_[groups[j].inside[e].superpoint]++] = {static_cast<int32_t>(j), groups[j].held[e]};
  }

  // visit(share) for all groups that hold something of a superpoint, in their order.
  template <class F>
  void each(int32_t superpoint, const F& visit) const {
    for (int64_t k = superpoint ? end_[superpoint - 1] : 0; k < end_[superpoint]; ++k) visit(shares_[k]);
  }

 private:
  std::vector<int64_t> end_;   // of the shares of each superpoint
  std::vector<Share> shares_;
};

// All pairs with something in common: by left group, then right.
std::vector<Pair> pairs_of(const Node& left, const Node& right, int64_t num_superpoints) {
  const Holders holders(right, num_superpoints);
  std::vector<Pair> pairs;
  std::vector<double> common(right.size());
  for (size_t i = 0; i < left.size(); ++i) {
    for (size_t e = 0; e < left[i].held.size(); ++e)
      holders.each(left[i].inside[e].superpoint,
                   [&](const Holders::Share& share) { common[share.group] += left[i].held[e] * share.held; });
    for (size_t j = 0; j < right.size(); ++j)
      if (const double some = std::exchange(common[j], 0); some > 0)
        pairs.push_back({static_cast<int32_t>(i), static_cast<int32_t>(j), some, 0, 0});
  }
  return pairs;
}

// Sum over the superpoints of a group of what it holds, times the weights at hand.
double area_of(const Group& group, const Scratch& s) {
  double sum = 0;
  for (size_t e = 0; e < group.held.size(); ++e) sum += group.held[e] * s.weight[group.inside[e].superpoint];
  return sum;
}

// What the group at one end of each pair holds of what the group at the other end sees. Neighbours often see the same: they are
// masks of one frame.
void add_areas(const Node& holding, int32_t Pair::*holder, const Node& seeing, int32_t Pair::*seer, double Pair::*area,
               std::vector<Pair>& pairs, Scratch& s) {
  std::vector<std::vector<Pair*>> of_seer(seeing.size());
  for (Pair& pair : pairs) of_seer[pair.*seer].push_back(&pair);
  std::vector<double> areas;      // below 0: not known yet
  const Row* seen = nullptr;
  const auto weigh = [&](bool on) {
    for (const Entry& entry : *seen) s.weight[entry.superpoint] = on ? std::sqrt(entry.points) : 0;
  };
  for (size_t i = 0; i < seeing.size(); ++i) {
    if (of_seer[i].empty()) continue;
    if (seeing[i].seen.get() != seen) {
      if (seen) weigh(false);
      seen = seeing[i].seen.get();
      weigh(true);
      areas.assign(holding.size(), -1);
    }
    for (Pair* pair : of_seer[i]) {
      double& some = areas[pair->*holder];
      if (some < 0) some = area_of(holding[pair->*holder], s);
      pair->*area = some;
    }
  }
  if (seen) weigh(false);
}

bool meet(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  return std::any_of(a.begin(), a.end(), [&](int64_t track) { return std::binary_search(b.begin(), b.end(), track); });
}

// Whether a pair is one object, and how well it agrees.
std::pair<bool, double> judge(const Pair& pair, const Node& left, const Node& right, const Limits& limits) {
  const double iou = pair.common / std::max(pair.area_left + pair.area_right - pair.common, 1e-9);
  const double recall = pair.common / std::max(std::min(pair.area_left, pair.area_right), 1e-9);
  const bool joins = iou >= limits.iou || (recall >= limits.recall && iou >= 0.5 * limits.iou) ||
                     (iou >= limits.track_iou && meet(left[pair.left].tracks, right[pair.right].tracks));
  return {joins, iou >= limits.iou ? iou : recall};
}

void add(const Row& row, Scratch& s) {
  for (const Entry& entry : row) {
    s.met.add(entry.superpoint);
    s.points[entry.superpoint] += entry.points;
  }
}

Row take(Scratch& s) {
  Row row;
  s.met.take([&](int32_t superpoint) { row.push_back({superpoint, std::exchange(s.points[superpoint], 0)}); });
  return row;
}

Group united(const std::vector<Group*>& parts, Scratch& s) {
  Group out = std::move(*parts[0]);
  for (size_t k = 1; k < parts.size(); ++k) {
    out.masks.insert(out.masks.end(), parts[k]->masks.begin(), parts[k]->masks.end());
    out.tracks.insert(out.tracks.end(), parts[k]->tracks.begin(), parts[k]->tracks.end());
    out.agreement += parts[k]->agreement;
    out.joins += parts[k]->joins;
    add(parts[k]->inside, s);
  }
  if (parts.size() == 1) return out;
  std::sort(out.tracks.begin(), out.tracks.end());
  add(out.inside, s);
  out.inside = take(s);
  add(*out.seen, s);
  for (size_t k = 1; k < parts.size(); ++k) add(*parts[k]->seen, s);
  out.seen = std::make_shared<const Row>(take(s));
  out.held = held_of(out.inside, *out.seen);
  return out;
}

Node merge(Node& left, Node& right, const Limits& limits, Scratch& s) {
  if (left.empty() || right.empty()) return std::move(left.empty() ? right : left);
  std::vector<Pair> pairs = pairs_of(left, right, static_cast<int64_t>(s.points.size()));
  add_areas(left, &Pair::left, right, &Pair::right, &Pair::area_left, pairs, s);
  add_areas(right, &Pair::right, left, &Pair::left, &Pair::area_right, pairs, s);

  std::vector<Group*> groups;
  for (Group& group : left) groups.push_back(&group);
  for (Group& group : right) groups.push_back(&group);
  std::vector<size_t> root(groups.size());
  std::iota(root.begin(), root.end(), 0);
  const auto find = [&](size_t node) {
    while (root[node] != node) node = root[node] = root[root[node]];
    return node;
  };
  for (const Pair& pair : pairs) {
    const auto [joins, agreement] = judge(pair, left, right, limits);
    if (!joins) continue;
    const size_t a = find(pair.left), b = find(left.size() + pair.right);
    root[std::max(a, b)] = std::min(a, b);
    left[pair.left].agreement += agreement;
    ++left[pair.left].joins;
  }
  std::vector<std::vector<Group*>> parts(groups.size());
  for (size_t k = 0; k < groups.size(); ++k) parts[find(k)].push_back(groups[k]);
  Node out;
  for (const auto& part : parts)
    if (!part.empty()) out.push_back(united(part, s));
  return out;
}

// With a number of points at each entry.
struct Points : SparseRows {
  const int32_t* values;

  Row row(int64_t i) const {
    Row out;
    for (int64_t e = starts[i]; e < starts[i + 1]; ++e) out.push_back({columns[e], values[e]});
    return out;
  }
};

Points points_of(const Tensor& starts, const Tensor& columns, const Tensor& values, int64_t num_columns) {
  check(values.scalar_type() == ScalarType::Int && values.is_contiguous() && values.numel() == columns.numel(),
        "merge_views: numbers of points must be int32 (E,)");
  return {sparse_rows("merge_views", starts, columns, num_columns, Columns::ascending), data<int32_t>(values)};
}

std::vector<Node> leaves_of(const Points& counts, const Points& visible, const int64_t* frame_of_mask, const int64_t* tracks,
                            double min_points) {
  std::vector<Node> nodes(visible.count);
  std::shared_ptr<const Row> seen;
  for (int64_t mask = 0; mask < counts.count; ++mask) {
    const int64_t frame = frame_of_mask[mask], *starts = counts.starts + mask;
    if (!mask || frame != frame_of_mask[mask - 1]) seen = std::make_shared<const Row>(visible.row(frame));
    if (std::accumulate(counts.values + starts[0], counts.values + starts[1], int64_t{0}) < min_points) continue;
    Row inside = counts.row(mask);
    std::vector<double> held = held_of(inside, *seen);
    Group group{{static_cast<int32_t>(mask)}, std::move(inside), std::move(held), seen, {}};
    if (tracks[mask] >= 0) group.tracks.push_back(tracks[mask]);
    nodes[frame].push_back(std::move(group));
  }
  return nodes;
}

}  // namespace

std::tuple<Tensor, Tensor> merge_views_op(const Tensor& starts, const Tensor& superpoints, const Tensor& counts,
                                          const Tensor& visible_starts, const Tensor& visible_superpoints,
                                          const Tensor& visible, const Tensor& frame_of_mask, const Tensor& tracks,
                                          int64_t num_superpoints, double min_points, double iou, double recall,
                                          double track_iou) {
  const Points points = points_of(starts, superpoints, counts, num_superpoints);
  const Points sights = points_of(visible_starts, visible_superpoints, visible, num_superpoints);
  for (const Tensor* each : {&frame_of_mask, &tracks})
    check(each->numel() == points.count && each->scalar_type() == ScalarType::Long && each->is_contiguous(),
          "merge_views: frame_of_mask and tracks must be int64 (M,)");
  const int64_t* frames = data<int64_t>(frame_of_mask);
  check(std::is_sorted(frames, frames + points.count) &&
            (!points.count || (frames[0] >= 0 && frames[points.count - 1] < sights.count)),
        "merge_views: frames of masks must ascend, within those that see");
  std::vector<Node> nodes = leaves_of(points, sights, frames, data<int64_t>(tracks), min_points);
  while (nodes.size() > 1) {
    std::vector<Node> merged((nodes.size() + 1) / 2);
    if (nodes.size() % 2) merged.back() = std::move(nodes.back());
    run_tasks(static_cast<int64_t>(nodes.size()) / 2, [&] { return Scratch(num_superpoints); }, [&](Scratch& scratch, int64_t i) {
      merged[i] = merge(nodes[2 * i], nodes[2 * i + 1], {iou, recall, track_iou}, scratch);
    });
    nodes = std::move(merged);
  }
  Tensor group = empty(starts, {points.count}, ScalarType::Long);
  const int64_t num_groups = nodes.empty() ? 0 : static_cast<int64_t>(nodes[0].size());
  Tensor agreement = empty(starts, {num_groups}, ScalarType::Double);
  std::fill_n(mutable_data<int64_t>(group), points.count, -1);
  for (int64_t g = 0; g < num_groups; ++g) {
    for (const int32_t mask : nodes[0][g].masks) mutable_data<int64_t>(group)[mask] = g;
    mutable_data<double>(agreement)[g] = nodes[0][g].joins ? nodes[0][g].agreement / nodes[0][g].joins : 0;
  }
  return {group, agreement};
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("merge_views", TORCH_BOX(&pc3d::merge_views_op)); }

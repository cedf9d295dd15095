#include "knn.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace pc3d {
namespace {

constexpr int max_k = 64;
constexpr int leaf_size = 24;

struct Point {
  float at[3];
  int32_t id;
};

struct Node {
  float low[3], high[3];
  int32_t begin, end;
  int32_t first;  // The lowest id in the box.
  int32_t right;  // The left child is the next node; 0 marks a leaf.
};

// By IEEE monotonicity this never exceeds the rounded distance to any point in the box, so pruning is exact.
float distance_to_box(const float* query, const Node& node) {
  float gap[3];
  for (int a = 0; a < 3; ++a) gap[a] = std::max(std::max(node.low[a] - query[a], query[a] - node.high[a]), 0.0f);
  return (gap[0] * gap[0] + gap[1] * gap[1]) + gap[2] * gap[2];
}

class Tree {
 public:
  Tree(const float* xyz, int64_t count) : points(count) {
    for (int64_t i = 0; i < count; ++i)
      points[i] = {{xyz[3 * i], xyz[3 * i + 1], xyz[3 * i + 2]}, static_cast<int32_t>(i)};
    nodes.reserve(count / (leaf_size / 4) + 1);
    if (count) build(0, static_cast<int32_t>(count));
  }

  std::vector<Point> points;  // grouped by leaf
  std::vector<Node> nodes;

 private:
  int32_t build(int32_t begin, int32_t end) {
    const int32_t self = static_cast<int32_t>(nodes.size());
    nodes.push_back(bounded(begin, end));
    if (end - begin <= leaf_size) {
      nodes[self].first = lowest_id(begin, end);
      return self;
    }
    const int axis = widest_axis(nodes[self]);
    const int32_t middle = begin + (end - begin) / 2;
    std::nth_element(points.begin() + begin, points.begin() + middle, points.begin() + end,
                     [axis](const Point& p, const Point& q) {
                       return p.at[axis] != q.at[axis] ? p.at[axis] < q.at[axis] : p.id < q.id;
                     });
    build(begin, middle);
    const int32_t right = build(middle, end);
    nodes[self].right = right;
    nodes[self].first = std::min(nodes[self + 1].first, nodes[right].first);
    return self;
  }

  int32_t lowest_id(int32_t begin, int32_t end) const {
    int32_t lowest = points[begin].id;
    for (int32_t i = begin + 1; i < end; ++i) lowest = std::min(lowest, points[i].id);
    return lowest;
  }

  Node bounded(int32_t begin, int32_t end) const {
    Node node{{}, {}, begin, end, 0, 0};
    for (int a = 0; a < 3; ++a) {
      node.low[a] = node.high[a] = points[begin].at[a];
      for (int32_t i = begin + 1; i < end; ++i) {
        node.low[a] = std::min(node.low[a], points[i].at[a]);
        node.high[a] = std::max(node.high[a], points[i].at[a]);
      }
    }
    return node;
  }

  static int widest_axis(const Node& node) {
    int widest = 0;
    for (int a = 1; a < 3; ++a)
      if (node.high[a] - node.low[a] > node.high[widest] - node.low[widest]) widest = a;
    return widest;
  }
};

// The k best so far, sorted by (distance, id).
class Nearest {
 public:
  explicit Nearest(int k) : k_(k) {}

  float worst() const { return count_ < k_ ? std::numeric_limits<float>::infinity() : distance_[k_ - 1]; }
  // Whether a point of this id or a higher one, at this distance or farther, would be among the k.
  bool wants(float distance, int32_t id) const { return count_ < k_ || before(distance, id, k_ - 1); }
  void offer(float distance, int32_t id) {
    if (!wants(distance, id)) return;
    int slot = count_ < k_ ? count_++ : k_ - 1;
    for (; slot > 0 && before(distance, id, slot - 1); --slot) {
      distance_[slot] = distance_[slot - 1];
      id_[slot] = id_[slot - 1];
    }
    distance_[slot] = distance;
    id_[slot] = id;
  }
  void write(int64_t* row, int64_t self) const {
    for (int i = 0; i < k_; ++i) row[i] = i < count_ ? id_[i] : self;
  }

 private:
  bool before(float distance, int32_t id, int slot) const {
    return distance != distance_[slot] ? distance < distance_[slot] : id < id_[slot];
  }

  int k_, count_ = 0;
  float distance_[max_k];
  int32_t id_[max_k];
};

void scan_leaf(const Tree& tree, const Node& leaf, const Point& query, Nearest& nearest) {
  for (int32_t i = leaf.begin; i < leaf.end; ++i) {
    const Point& p = tree.points[i];
    const float dx = p.at[0] - query.at[0], dy = p.at[1] - query.at[1], dz = p.at[2] - query.at[2];
    const float distance = (dx * dx + dy * dy) + dz * dz;
    if (distance <= nearest.worst() && p.id != query.id) nearest.offer(distance, p.id);
  }
}

void search(const Tree& tree, const Point& query, Nearest& nearest) {
  struct Pending {
    int32_t node;
    float distance;
  } stack[64];  // The tree is balanced, so no deeper than 32.
  int top = 0;
  stack[top++] = {0, 0.0f};
  while (top) {
    const Pending next = stack[--top];
    if (next.distance > nearest.worst()) continue;
    const Node& node = tree.nodes[next.node];
    if (!nearest.wants(next.distance, node.first)) continue;  // of points in one place, and there may be many, the first k do
    if (!node.right) {
      scan_leaf(tree, node, query, nearest);
      continue;
    }
    Pending near{next.node + 1, distance_to_box(query.at, tree.nodes[next.node + 1])};
    Pending far{node.right, distance_to_box(query.at, tree.nodes[node.right])};
    if (far.distance < near.distance) std::swap(near, far);  // equal ones stay: the left child has the lower ids of one place
    stack[top++] = far;
    stack[top++] = near;
  }
}

}  // namespace

Tensor knn(const Tensor& xyz_in, int64_t k) {
  const Tensor xyz = torch::stable::contiguous(xyz_in);
  check(xyz.dim() == 2 && xyz.size(1) == 3 && xyz.scalar_type() == ScalarType::Float, "knn: xyz must be float32 (N, 3)");
  check(k >= 1 && k <= max_k, "knn: k must be in [1, 64]");
  check(xyz.size(0) < std::numeric_limits<int32_t>::max(), "knn: more than 2^31 points");
  const Tree tree(data<float>(xyz), xyz.size(0));
  Tensor neighbors = empty(xyz, {xyz.size(0), k}, ScalarType::Long);
  int64_t* rows = mutable_data<int64_t>(neighbors);
  torch::stable::parallel_for(0, xyz.size(0), 1024, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      Nearest nearest(static_cast<int>(k));
      search(tree, tree.points[i], nearest);
      nearest.write(rows + k * tree.points[i].id, tree.points[i].id);
    }
  });
  return neighbors;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("knn", TORCH_BOX(&pc3d::knn)); }

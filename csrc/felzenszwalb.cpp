#include "felzenszwalb.h"

#include <limits>
#include <utility>
#include <vector>

#include "sorted_edges.h"

namespace pc3d {
namespace {

// Union-find in one int per node: a root holds minus its size, any other node its parent.
class Components {
 public:
  explicit Components(int64_t count) : link_(count, -1) {}

  int32_t find(int32_t node) {
    while (link_[node] >= 0) {
      const int32_t parent = link_[node];
      if (link_[parent] < 0) return parent;
      node = link_[node] = link_[parent];
    }
    return node;
  }
  int32_t size(int32_t root) const { return -link_[root]; }
  int32_t join(int32_t a, int32_t b) {
    if (size(a) < size(b)) std::swap(a, b);
    link_[a] += link_[b];
    link_[b] = a;
    return a;
  }

 private:
  std::vector<int32_t> link_;
};

struct Edge {
  int32_t a, b;
};

// Joins what is alike and returns the edges that are left between two components, in their order.
std::vector<Edge> join_similar(Components& components, const EdgeArray& order, const Edge* edges,
                               int64_t num_nodes, float k) {
  constexpr int ahead = 16;  // edges are read in no order: ask for them early
  std::vector<float> threshold(num_nodes, k);
  std::vector<Edge> left;
  for (const KeyedEdge* item = order.begin(); item != order.end(); ++item) {
    if (order.end() - item > ahead) __builtin_prefetch(edges + item[ahead].edge);
    const Edge edge = edges[item->edge];
    const int32_t a = components.find(edge.a), b = components.find(edge.b);
    if (a == b) continue;
    const float weight = weight_of(item->key);
    if (weight <= threshold[a] && weight <= threshold[b]) {
      const int32_t root = components.join(a, b);
      threshold[root] = weight + k / static_cast<float>(components.size(root));
    } else {
      left.push_back(edge);
    }
  }
  return left;
}

void join_small(Components& components, const std::vector<Edge>& edges, int64_t min_size) {
  for (const Edge& edge : edges) {
    const int32_t a = components.find(edge.a), b = components.find(edge.b);
    if (a != b && (components.size(a) < min_size || components.size(b) < min_size)) components.join(a, b);
  }
}

void number_by_first_node(Components& components, int64_t num_nodes, int64_t* labels) {
  std::vector<int64_t> label_of_root(num_nodes, -1);
  int64_t next = 0;
  for (int64_t node = 0; node < num_nodes; ++node) {
    int64_t& label = label_of_root[components.find(static_cast<int32_t>(node))];
    if (label < 0) label = next++;
    labels[node] = label;
  }
}

}  // namespace

Tensor felzenszwalb(const Tensor& edges_in, const Tensor& weights_in, int64_t num_nodes, double k_threshold,
                    int64_t min_size, bool exact) {
  const Tensor edges = torch::stable::contiguous(edges_in), weights = torch::stable::contiguous(weights_in);
  check(edges.dim() == 2 && edges.size(1) == 2 && edges.scalar_type() == ScalarType::Int,
        "felzenszwalb: edges must be int32 (E, 2)");
  check(weights.dim() == 1 && weights.size(0) == edges.size(0) && weights.scalar_type() == ScalarType::Float,
        "felzenszwalb: weights must be float32 (E,)");
  check(num_nodes >= 0 && num_nodes < std::numeric_limits<int32_t>::max(), "felzenszwalb: num_nodes must fit 31 bits");
  check(edges.size(0) < std::numeric_limits<uint32_t>::max(), "felzenszwalb: more than 2^32 edges");
  static_assert(sizeof(Edge) == 2 * sizeof(int32_t), "edges are read in place");
  const uint32_t count = static_cast<uint32_t>(edges.size(0));
  const float* weight = data<float>(weights);
  const EdgeArray order = exact ? sorted_like_std_sort(weight, count) : sorted_by_weight(weight, count);
  Components components(num_nodes);
  const std::vector<Edge> left = join_similar(components, order, reinterpret_cast<const Edge*>(data<int32_t>(edges)),
                                              num_nodes, static_cast<float>(k_threshold));
  join_small(components, left, min_size);
  Tensor labels = empty(edges, {num_nodes}, ScalarType::Long);
  number_by_first_node(components, num_nodes, mutable_data<int64_t>(labels));
  return labels;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("felzenszwalb", TORCH_BOX(&pc3d::felzenszwalb)); }

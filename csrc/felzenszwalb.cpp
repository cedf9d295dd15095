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

void join_similar(Components& components, const std::vector<KeyedEdge>& order, const int64_t* edges, const float* weights,
                  int64_t num_nodes, float k) {
  std::vector<float> threshold(num_nodes, k);
  for (const KeyedEdge& item : order) {
    const float weight = weights[item.edge];
    const int32_t a = components.find(static_cast<int32_t>(edges[2 * item.edge]));
    const int32_t b = components.find(static_cast<int32_t>(edges[2 * item.edge + 1]));
    if (a == b || !(weight <= threshold[a]) || !(weight <= threshold[b])) continue;
    const int32_t root = components.join(a, b);
    threshold[root] = weight + k / static_cast<float>(components.size(root));
  }
}

void join_small(Components& components, const std::vector<KeyedEdge>& order, const int64_t* edges, int64_t min_size) {
  for (const KeyedEdge& item : order) {
    const int32_t a = components.find(static_cast<int32_t>(edges[2 * item.edge]));
    const int32_t b = components.find(static_cast<int32_t>(edges[2 * item.edge + 1]));
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
                    int64_t min_size) {
  const Tensor edges = torch::stable::contiguous(edges_in), weights = torch::stable::contiguous(weights_in);
  check(edges.dim() == 2 && edges.size(1) == 2 && edges.scalar_type() == ScalarType::Long,
        "felzenszwalb: edges must be int64 (E, 2)");
  check(weights.dim() == 1 && weights.size(0) == edges.size(0) && weights.scalar_type() == ScalarType::Float,
        "felzenszwalb: weights must be float32 (E,)");
  check(num_nodes >= 0 && num_nodes < std::numeric_limits<int32_t>::max(), "felzenszwalb: num_nodes must fit 31 bits");
  check(edges.size(0) < std::numeric_limits<uint32_t>::max(), "felzenszwalb: more than 2^32 edges");
  const std::vector<KeyedEdge> order = sorted_by_weight(data<float>(weights), static_cast<uint32_t>(edges.size(0)));
  Components components(num_nodes);
  join_similar(components, order, data<int64_t>(edges), data<float>(weights), num_nodes, static_cast<float>(k_threshold));
  join_small(components, order, data<int64_t>(edges), min_size);
  Tensor labels = empty(edges, {num_nodes}, ScalarType::Long);
  number_by_first_node(components, num_nodes, mutable_data<int64_t>(labels));
  return labels;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("felzenszwalb", TORCH_BOX(&pc3d::felzenszwalb)); }

// sparse_kernel_map and sparse_coarse_keys on CUDA: bodies of sparse_map_kernels.h, with torch's own cumulative sum and sort
// between them. The same steps run on the CPU as twin_sparse_*, for the tests.

#include <algorithm>
#include <array>
#include <limits>
#include <tuple>
#include <vector>

#include "cuda_call.h"
#include "sparse_map_kernels.h"

namespace pc3d {
namespace {

using sparse_map::Geometry;
using sparse_map::Triple;

// Where the steps run: here on the CPU, below on a GPU.
struct OnHost {
  explicit OnHost(const Tensor&) {}
  template <class Body>
  void each(const Body& body, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) body(i);
  }
  void read(const int64_t* from, int64_t* to, int64_t count) const { std::copy_n(from, count, to); }
};

#ifdef PC3D_CUDA
struct OnCuda {
  explicit OnCuda(const Tensor& like) : device(like) {}
  template <class Body>
  void each(const Body& body, int64_t count) const {
    cuda_each(body, count, device.stream());
    check_launch("sparse_kernel_map");
  }
  void read(const int64_t* from, int64_t* to, int64_t count) const { device.read(from, to, count); }

  OnDevice device;
};
#endif

Triple triple(const std::vector<int64_t>& values) {
  check(values.size() == 3, "sparse_kernel_map: sizes are three integers");
  return {values[0], values[1], values[2]};
}

void check_keys(const Tensor& keys) {
  check(keys.dim() == 1 && keys.scalar_type() == ScalarType::Long && keys.is_contiguous(),
        "sparse_kernel_map: keys must be contiguous int64");
  check(keys.numel() < std::numeric_limits<int32_t>::max(), "sparse_kernel_map: too many voxels for 32-bit rows");
}

Tensor cumulative_sum(const Tensor& counts) {
  std::array<StableIValue, 3> stack{torch::stable::detail::from(counts), torch::stable::detail::from(int64_t(0)),
                                    torch::stable::detail::from(std::optional<ScalarType>(ScalarType::Long))};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::cumsum", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

Tensor sorted_unique(const Tensor& keys) {
  std::array<StableIValue, 4> stack{torch::stable::detail::from(keys), torch::stable::detail::from(true),
                                    torch::stable::detail::from(false), torch::stable::detail::from(false)};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::_unique2", "", stack.data(), TORCH_ABI_VERSION));
  const Tensor rest[] = {torch::stable::detail::to<Tensor>(stack[1]), torch::stable::detail::to<Tensor>(stack[2])};  // freed
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// Sets `disorder` unless the keys ascend.
template <class Device>
void check_order(const Device& device, const Tensor& keys, const Tensor& disorder) {
  device.each(sparse_map::CheckOrder{data<int64_t>(keys), mutable_data<int64_t>(disorder)},
              std::max<int64_t>(0, keys.numel() - 1));
}

template <class Device>
std::tuple<Tensor, Tensor, Tensor> kernel_map(const Tensor& out_keys, const Tensor& in_keys, const Geometry& geometry) {
  check_keys(out_keys);
  check_keys(in_keys);
  check(same_device(out_keys, in_keys), "sparse_kernel_map: keys must be on one device");
  const int64_t taps = geometry.taps(), num_out = out_keys.numel();
  if (num_out == 0 || taps == 0)
    return {empty(out_keys, {0}, ScalarType::Int), empty(out_keys, {0}, ScalarType::Int),
            zeros(out_keys, {taps + 1}, ScalarType::Long)};
  const Device device(out_keys);
  const bool same_sites = data<int64_t>(out_keys) == data<int64_t>(in_keys) && num_out == in_keys.numel();
  const sparse_map::Search search{data<int64_t>(out_keys), data<int64_t>(in_keys), num_out, in_keys.numel(), geometry,
                                  same_sites && geometry.symmetric() ? taps / 2 : 0};
  const int64_t items = search.searched_taps() * search.runs();

  const Tensor disorder = zeros(out_keys, {1}, ScalarType::Long), counts = empty(out_keys, {items}, ScalarType::Int);
  const Tensor tap_offsets = empty(out_keys, {taps + 1}, ScalarType::Long), summary = empty(out_keys, {2}, ScalarType::Long);
  check_order(device, out_keys, disorder);
  if (!same_sites) check_order(device, in_keys, disorder);
  device.each(sparse_map::CountPairs{search, mutable_data<int32_t>(counts)}, items);
  const Tensor ends = cumulative_sum(counts);
  device.each(sparse_map::PlaceTaps{search, data<int64_t>(ends), data<int64_t>(disorder), mutable_data<int64_t>(tap_offsets),
                                    mutable_data<int64_t>(summary)}, 1);
  int64_t total_and_disorder[2];
  device.read(data<int64_t>(summary), total_and_disorder, 2);
  check(!total_and_disorder[1], "sparse_kernel_map: keys must be sorted and unique");

  const Tensor in_rows = empty(out_keys, {total_and_disorder[0]}, ScalarType::Int);
  const Tensor out_rows = empty(out_keys, {total_and_disorder[0]}, ScalarType::Int);
  device.each(sparse_map::WritePairs{search, data<int64_t>(ends), data<int64_t>(tap_offsets), mutable_data<int32_t>(in_rows),
                                     mutable_data<int32_t>(out_rows)}, items);
  return {in_rows, out_rows, tap_offsets};
}

template <class Device>
Tensor coarse_keys(const Tensor& keys, const Geometry& geometry, const Triple& shape) {
  check_keys(keys);
  sparse_map::ListParents list{data<int64_t>(keys), geometry, shape, nullptr};
  if (keys.numel() == 0 || list.slots() == 0) return empty(keys, {0}, ScalarType::Long);
  const Device device(keys);
  const Tensor disorder = zeros(keys, {1}, ScalarType::Long);
  const Tensor parents = empty(keys, {keys.numel() * list.slots()}, ScalarType::Long);
  list.parents = mutable_data<int64_t>(parents);
  check_order(device, keys, disorder);
  device.each(list, keys.numel());
  const Tensor coarse = sorted_unique(parents);
  int64_t last, unordered;
  device.read(data<int64_t>(coarse) + coarse.numel() - 1, &last, 1);
  device.read(data<int64_t>(disorder), &unordered, 1);
  check(!unordered, "sparse_coarse_keys: keys must be sorted and unique");
  if (last != sparse_map::no_key) return coarse;
  Tensor all = coarse;
  return torch::stable::contiguous(torch::stable::narrow(all, 0, 0, coarse.numel() - 1));
}

template <class Device>
std::tuple<Tensor, Tensor, Tensor> sparse_kernel_map_on(Tensor out_keys, Tensor in_keys, std::vector<int64_t> kernel_size,
                                                        std::vector<int64_t> stride, std::vector<int64_t> padding) {
  return kernel_map<Device>(out_keys, in_keys, {triple(kernel_size), triple(stride), triple(padding)});
}

template <class Device>
Tensor sparse_coarse_keys_on(Tensor keys, std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                             std::vector<int64_t> padding, std::vector<int64_t> shape) {
  return coarse_keys<Device>(keys, {triple(kernel_size), triple(stride), triple(padding)}, triple(shape));
}

}  // namespace
}  // namespace pc3d

STABLE_TORCH_LIBRARY_FRAGMENT(pc3d, m) {
  m.def("twin_sparse_kernel_map(Tensor out_keys, Tensor in_keys, int[] kernel_size, int[] stride, int[] padding)"
        " -> (Tensor, Tensor, Tensor)");
  m.def("twin_sparse_coarse_keys(Tensor keys, int[] kernel_size, int[] stride, int[] padding, int[] shape) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) {
  m.impl("twin_sparse_kernel_map", TORCH_BOX(&pc3d::sparse_kernel_map_on<pc3d::OnHost>));
  m.impl("twin_sparse_coarse_keys", TORCH_BOX(&pc3d::sparse_coarse_keys_on<pc3d::OnHost>));
}

#ifdef PC3D_CUDA
STABLE_TORCH_LIBRARY_IMPL(pc3d, CUDA, m) {
  m.impl("sparse_kernel_map", TORCH_BOX(&pc3d::sparse_kernel_map_on<pc3d::OnCuda>));
  m.impl("sparse_coarse_keys", TORCH_BOX(&pc3d::sparse_coarse_keys_on<pc3d::OnCuda>));
}
#endif

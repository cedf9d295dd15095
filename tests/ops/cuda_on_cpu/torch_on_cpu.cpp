// Guarded tensors, and what torch's CUDA side is asked for: the current stream and a device guard.
#include "torch_on_cpu.h"

#undef new_empty
#undef new_zeros

#include <cstring>
#include <vector>

namespace torch::stable {
namespace {

Tensor take(const Tensor& like, std::initializer_list<int64_t> sizes, torch::headeronly::ScalarType dtype, bool zero) {
  std::vector<int64_t> strides(sizes.size());
  int64_t count = 1;
  for (size_t i = sizes.size(); i-- > 0; count *= sizes.begin()[i]) strides[i] = count;
  const size_t bytes = count * new_empty(like, {1}, dtype).element_size();
  void* memory = cuda_on_cpu::take(bytes);
  if (zero) std::memset(memory, 0, bytes);
  return from_blob(memory, sizes, strides, Device(torch::headeronly::DeviceType::CPU), dtype);
}

}  // namespace

Tensor guarded_empty(const Tensor& like, std::initializer_list<int64_t> sizes, torch::headeronly::ScalarType dtype) {
  return take(like, sizes, dtype, false);
}
Tensor guarded_zeros(const Tensor& like, std::initializer_list<int64_t> sizes, torch::headeronly::ScalarType dtype) {
  return take(like, sizes, dtype, true);
}

}  // namespace torch::stable

extern "C" {
AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = cuda_on_cpu::current_stream();
  return AOTI_TORCH_SUCCESS;
}
AOTITorchError aoti_torch_create_device_guard(int32_t, DeviceGuardHandle* guard) {
  cuda_on_cpu::count_guards(1);
  *guard = reinterpret_cast<DeviceGuardHandle>(guard);
  return AOTI_TORCH_SUCCESS;
}
AOTITorchError aoti_torch_delete_device_guard(DeviceGuardHandle) {
  cuda_on_cpu::count_guards(-1);
  return AOTI_TORCH_SUCCESS;
}
}

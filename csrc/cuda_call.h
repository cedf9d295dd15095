// Calling CUDA kernels from an op: the device of the tensors, torch's current stream on it, and launch errors.
#pragma once

#include "pc3d.h"

#ifdef PC3D_CUDA
#include <cuda_runtime_api.h>
#include <torch/csrc/stable/accelerator.h>

// Weak, because a CPU build of torch has no such function: the library then still loads, and never comes here.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream);

namespace pc3d {

inline void check_cuda(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

// Makes the device of a tensor current while it lives, and knows torch's current stream there.
class OnDevice {
 public:
  explicit OnDevice(const Tensor& tensor) : guard_(tensor.get_device()) {
    if (aoti_torch_get_current_cuda_stream == nullptr) throw std::runtime_error("pc3d: this torch was built without CUDA");
    // The CUDA runtime linked in here is not torch's. It sees torch's device only where a context is current in this thread.
    check_cuda(cudaSetDevice(tensor.get_device()), "pc3d");
    void* stream = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }
  cudaStream_t stream() const { return stream_; }

  // Copies numbers to the host when all work before is done: the only place where an op waits for the GPU.
  void read(const int64_t* from, int64_t* to, int64_t count) const {
    check_cuda(cudaMemcpyAsync(to, from, count * sizeof(int64_t), cudaMemcpyDeviceToHost, stream_), "pc3d");
    check_cuda(cudaStreamSynchronize(stream_), "pc3d");
  }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_ = nullptr;
};

// Call after every launch: a launch that could not start raises here and not at some later, unrelated call.
inline void check_launch(const char* op) { check_cuda(cudaGetLastError(), op); }

}  // namespace pc3d
#endif

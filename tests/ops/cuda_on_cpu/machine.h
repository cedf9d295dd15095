// Between the parts of the played GPU.
#pragma once

#include "cuda_runtime_api.h"

namespace cuda_on_cpu {

// Memory of poison, all bits set: NaN, or an index out of range. Before its pages and after its end lie pages that must not be
// touched.
class Pages {
 public:
  explicit Pages(size_t bytes);
  ~Pages();
  Pages(const Pages&) = delete;
  void* start() { return memory_ + inner_ - bytes_; }
  size_t bytes() const { return bytes_; }
  void spoil();
  bool is_whole() const;  // nothing was written between the page's start and its own

 private:
  static constexpr size_t page = 4096;
  static constexpr unsigned char poison = 0xff;
  unsigned char* memory_;
  size_t bytes_, inner_;
};

void* take(size_t bytes);  // memory of the device, until an op's results were looked at
cudaStream_t current_stream();
void count_guards(int change);  // device guards that live

}  // namespace cuda_on_cpu

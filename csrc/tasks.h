// Tasks of uneven size over the threads of torch: each thread takes the next task that is left.
//
// Which thread runs a task is chance, so a task must write its own outputs only; then results are the same bits for
// any number of threads.
#pragma once

#include "pc3d.h"

#include <algorithm>
#include <atomic>

namespace pc3d {

template <class F>
void run_tasks(int64_t count, const F& task) {
  const int64_t workers = std::min<int64_t>(count, torch::stable::get_num_threads());
  if (workers <= 1) {
    for (int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, workers, 1, [&](int64_t, int64_t) {
    for (int64_t i = next++; i < count; i = next++) task(i);
  });
}

}  // namespace pc3d

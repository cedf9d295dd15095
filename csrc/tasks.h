// Tasks of uneven size over the threads of torch: each thread takes the next task that is left.
//
// Which thread runs a task is chance, so a task must write its own outputs only; then results are the same bits for
// any number of threads.
#pragma once

#include "pc3d.h"

#include <algorithm>
#include <atomic>

namespace pc3d {

// task(worker, i) for every i < count; each thread has a worker of its own, made by make().
template <class Make, class F>
void run_tasks(int64_t count, const Make& make, const F& task) {
  std::atomic<int64_t> next{0};
  const auto work = [&](int64_t, int64_t) {
    auto worker = make();
    for (int64_t i = next++; i < count; i = next++) task(worker, i);
  };
  const int64_t threads = std::min<int64_t>(count, torch::stable::get_num_threads());
  if (threads > 1) torch::stable::parallel_for(0, threads, 1, work);
  else if (count) work(0, 1);
}

template <class F>
void run_tasks(int64_t count, const F& task) {
  run_tasks(count, [] { return 0; }, [&](int, int64_t i) { task(i); });
}

}  // namespace pc3d

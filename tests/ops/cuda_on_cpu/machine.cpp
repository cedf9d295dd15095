// A GPU played by one thread of the CPU, to prove the launches and kernels of csrc/*.cu where no GPU is.
//
// Each thread of a block is a fiber with a stack of its own. Between two barriers the threads run one after another, each as
// far as it comes: first to last, last to first or at random, as the tests set it, and so do the blocks. A kernel that is
// right gives the same bits in any order; where a barrier is missing, some order shows it.
//
// Barriers. "__syncthreads() is allowed in conditional code but only if the conditional evaluates identically across the entire
// thread block, otherwise the code execution is likely to hang or produce unintended side effects" (CUDA C++ Programming
// Guide, synchronization functions). So all threads wait at the same line, or this is an error. Threads that have exited do
// not hold up a barrier on the hardware (ibid.: compute capability 7 and up wait for "all non-exited threads in the block";
// PTX, exit). Here they are an error all the same: a thread that left out a barrier comes to its end before the others, and
// nothing else would tell the two apart. No kernel of csrc/ needs it.
//
// Shared memory is NaN when a block begins. It and all that ops are given and take (torch_on_cpu.h) ends where a page ends that
// nobody may touch, and a kernel that does is stopped there. Launches know the limits of the hardware, the device guard, the
// stream, and want to be checked.
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <exception>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "machine.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_cpu {
namespace {

constexpr size_t stack_bytes = 256 * 1024, plain_shared_bytes = 48 * 1024;

struct Settings {
  int order = 0;  // 0: first to last, 1: last to first, else the seed of a random order
  int shared_bytes = 232448;  // of a block, when it asks: 227 KB on sm_90, 163 KB on sm_80
};
Settings settings;
std::mt19937 random_numbers;

std::vector<std::unique_ptr<Pages>> taken;  // memory of the device
int device_guards = 0, unchecked_launches = 0;
cudaError_t last_error = cudaSuccess;
std::map<const void*, size_t> allowed_bytes;  // kernel -> dynamic shared memory that it asked for

std::string place_name(const char* file, int line) { return std::string(file) + ":" + std::to_string(line); }
[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("cuda_on_cpu: " + what); }

std::vector<int64_t> order_of(int64_t count) {
  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  if (settings.order == 1) std::reverse(order.begin(), order.end());
  if (settings.order > 1) std::shuffle(order.begin(), order.end(), random_numbers);
  return order;
}

// What a block shares.
struct Shared {
  std::map<std::pair<const char*, int>, std::unique_ptr<Pages>> arrays;  // by file and line
  std::unique_ptr<Pages> dynamic;

  void begin_launch(size_t dynamic_bytes) {
    arrays.clear();
    dynamic = std::make_unique<Pages>(dynamic_bytes);
  }
  void begin_block() {
    dynamic->spoil();
    for (auto& [where, array] : arrays) array->spoil();
  }
  void end_block() const {
    size_t bytes = 0;
    bool whole = dynamic->is_whole();
    for (const auto& [where, array] : arrays) {
      whole = whole && array->is_whole();
      bytes += array->bytes();
    }
    if (!whole) fail("written before the start of shared memory");
    if (bytes > plain_shared_bytes) fail("a kernel declares more than 48 KB of shared memory");
    if (bytes && bytes + dynamic->bytes() > static_cast<size_t>(settings.shared_bytes)) fail("more shared memory than there is");
  }
};
Shared shared_memory;

// The threads of a block.
struct Fiber {
  enum class State { ready, waiting, done } state = State::ready;
  bool started = false;
  const char* file = nullptr;  // of the barrier at which it waits
  int line = 0;
  jmp_buf place;
  ucontext_t begin;
  std::unique_ptr<char[]> stack{new char[stack_bytes]};
};
std::vector<std::unique_ptr<Fiber>> fibers;
Fiber* running = nullptr;
jmp_buf scheduler;
const std::function<void()>* kernel_thread = nullptr;
std::exception_ptr failure;

const void* touched = nullptr;  // what a kernel had no business with

void stop(int, siginfo_t* info, void*) {
  touched = info->si_addr;
  _longjmp(scheduler, 1);
}

// While it lives, a kernel that touches a forbidden page comes back to the scheduler.
class Watch {
 public:
  Watch() {
    struct sigaction action = {};
    action.sa_sigaction = stop;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (size_t i = 0; i < 2; ++i) sigaction(signals[i], &action, before_ + i);
  }
  ~Watch() {
    for (size_t i = 0; i < 2; ++i) sigaction(signals[i], before_ + i, nullptr);
  }

 private:
  static constexpr int signals[2] = {SIGSEGV, SIGBUS};
  struct sigaction before_[2];
};

void leave() {
  if (!_setjmp(running->place)) _longjmp(scheduler, 1);
}

void live() {
  for (;;) {
    try {
      (*kernel_thread)();
    } catch (...) {
      failure = std::current_exception();
    }
    running->state = Fiber::State::done;
    leave();
  }
}

void resume(Fiber& fiber) {
  running = &fiber;
  if (_setjmp(scheduler)) return;
  if (fiber.started) _longjmp(fiber.place, 1);
  fiber.started = true;
  getcontext(&fiber.begin);
  fiber.begin.uc_stack.ss_sp = fiber.stack.get();
  fiber.begin.uc_stack.ss_size = stack_bytes;
  makecontext(&fiber.begin, live, 0);
  setcontext(&fiber.begin);
}

// Runs each thread up to its next barrier or its end; returns how many came to their end.
size_t run_to_barrier(size_t threads) {
  for (const int64_t t : order_of(threads)) {
    const auto number = static_cast<unsigned>(t);
    threadIdx = dim3(number % blockDim.x, number / blockDim.x % blockDim.y, number / blockDim.x / blockDim.y);
    resume(*fibers[t]);
    if (failure) std::rethrow_exception(std::exchange(failure, nullptr));
    if (std::exchange(touched, nullptr)) fail("a thread touched memory past an end of what it was given");
  }
  return std::count_if(fibers.begin(), fibers.begin() + threads, [](const auto& f) { return f->state == Fiber::State::done; });
}

void run_block(size_t threads) {
  shared_memory.begin_block();
  for (size_t t = 0; t < threads; ++t) fibers[t]->state = Fiber::State::ready;
  for (size_t done = 0; (done = run_to_barrier(threads)) < threads;) {
    const auto waits = [](const std::unique_ptr<Fiber>& fiber) { return fiber->state == Fiber::State::waiting; };
    const Fiber& first = **std::find_if(fibers.begin(), fibers.begin() + threads, waits);
    const std::string where = place_name(first.file, first.line);
    if (done) fail(std::to_string(done) + " threads have returned where others wait at the barrier of " + where);
    for (size_t t = 0; t < threads; ++t)
      if (const Fiber& own = *fibers[t]; own.file != first.file || own.line != first.line)
        fail("threads wait at different barriers: " + where + " and " + place_name(own.file, own.line));
  }
  shared_memory.end_block();
}

cudaError_t launch_error(dim3 grid, dim3 block, size_t dynamic_bytes, const void* kernel) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (!threads || threads > 1024 || block.x > 1024 || block.y > 1024 || block.z > 64) return cudaErrorInvalidConfiguration;
  if (!grid.x || !grid.y || !grid.z) return cudaErrorInvalidConfiguration;
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) return cudaErrorInvalidConfiguration;
  const auto asked = allowed_bytes.find(kernel);
  return dynamic_bytes > std::max(plain_shared_bytes, asked == allowed_bytes.end() ? 0 : asked->second) ? cudaErrorInvalidValue
                                                                                                        : cudaSuccess;
}

}  // namespace

Pages::Pages(size_t bytes) : bytes_(bytes), inner_((bytes + page - 1) / page * page) {
  void* all = mmap(nullptr, inner_ + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<unsigned char*>(all) + page;
  mprotect(memory_, inner_, PROT_READ | PROT_WRITE);
  std::memset(memory_, poison, inner_);
}
Pages::~Pages() { munmap(memory_ - page, inner_ + 2 * page); }
void Pages::spoil() { std::memset(start(), poison, bytes_); }
bool Pages::is_whole() const {
  return std::all_of(memory_, memory_ + inner_ - bytes_, [](unsigned char byte) { return byte == poison; });
}

void barrier(const char* file, int line) {
  running->state = Fiber::State::waiting;
  running->file = file;
  running->line = line;
  leave();
}

void run(dim3 grid, dim3 block, size_t dynamic_bytes, cudaStream_t stream, const void* kernel,
         const std::function<void()>& thread) {
  if (!device_guards) fail("a launch with no device guard around it");
  if (stream != current_stream()) fail("a launch that is not on the current stream");
  if (const cudaError_t error = launch_error(grid, block, dynamic_bytes, kernel)) {
    last_error = error;
    return;
  }
  ++unchecked_launches;
  const size_t threads = size_t{block.x} * block.y * block.z;
  while (fibers.size() < threads) fibers.push_back(std::make_unique<Fiber>());
  gridDim = grid;
  blockDim = block;
  kernel_thread = &thread;
  shared_memory.begin_launch(dynamic_bytes);
  const Watch watch;
  try {
    for (const int64_t number : order_of(int64_t{grid.x} * grid.y * grid.z)) {
      blockIdx = dim3(static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
                      static_cast<unsigned>(number / grid.x / grid.y));
      run_block(threads);
    }
  } catch (...) {
    fibers.clear();  // they stand in the middle of a kernel
    unchecked_launches = 0;
    throw;
  }
}

void* dynamic_shared() { return shared_memory.dynamic->start(); }

void* static_shared(const char* file, int line, size_t bytes) {
  std::unique_ptr<Pages>& array = shared_memory.arrays[{file, line}];
  if (!array) array = std::make_unique<Pages>(bytes);
  if (array->bytes() != bytes) fail("two shared arrays on one line, " + place_name(file, line));
  return array->start();
}

cudaError_t set_dynamic_bytes(const void* kernel, int bytes) {
  if (bytes < 0 || bytes > settings.shared_bytes) return last_error = cudaErrorInvalidValue;
  allowed_bytes[kernel] = bytes;
  return cudaSuccess;
}

cudaStream_t current_stream() {
  static char stream;
  return reinterpret_cast<cudaStream_t>(&stream);
}
void count_guards(int change) { device_guards += change; }
void* take(size_t bytes) {
  taken.push_back(std::make_unique<Pages>(bytes));
  return taken.back()->start();
}

}  // namespace cuda_on_cpu

using namespace cuda_on_cpu;

cudaError_t cudaGetLastError() {
  unchecked_launches = 0;
  return std::exchange(last_error, cudaSuccess);
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorInvalidConfiguration ? "invalid configuration argument" : "invalid argument";
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = settings.shared_bytes;
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  if (stream != current_stream()) fail("a copy that is not on the current stream");
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

// For the tests, by ctypes.
extern "C" {
__attribute__((visibility("default"))) void cuda_on_cpu_set(int order, int shared_bytes) {
  settings = {order, shared_bytes};
  random_numbers.seed(static_cast<unsigned>(order));
  allowed_bytes.clear();
  unchecked_launches = 0;
  last_error = cudaSuccess;
}
// Memory of a device, until the next complaint.
__attribute__((visibility("default"))) void* cuda_on_cpu_take(size_t bytes) { return take(bytes); }
// What was wrong about the calls since the last time, or null.
__attribute__((visibility("default"))) const char* cuda_on_cpu_complaint() {
  const auto all = std::move(taken);
  taken.clear();
  if (std::exchange(unchecked_launches, 0)) return "a launch was not followed by check_launch";
  if (std::exchange(last_error, cudaSuccess)) return "an error of the runtime was not looked at";
  if (device_guards) return "a device guard was left behind";
  const bool whole = std::all_of(all.begin(), all.end(), [](const auto& pages) { return pages->is_whole(); });
  return whole ? nullptr : "written before the start of a tensor";
}
}

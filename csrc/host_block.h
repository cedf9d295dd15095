// A block of CUDA threads, played by the CPU: the tests run kernel bodies in it. Shared memory starts as NaN, and the copies
// and products of the GPU are done as PTX defines them.
#pragma once

#include <vector>

#include "sparse_tiles_kernels.h"

namespace pc3d::tiles {

class HostBlock {
 public:
  // late: threads run last to first, and copies land as late as the body's waits and barriers allow, not at once. A body
  // that is right gives the same bits either way.
  explicit HostBlock(bool late) : late_(late) {}

  template <class T>
  struct PerThread {
    std::vector<T> of = std::vector<T>(block_threads);
    T& operator[](int thread) { return of[thread]; }
  };
  template <class T>
  struct PerLane {
    T of[warp_threads];
    T& operator[](int lane) { return of[lane]; }
  };

  template <class Use>
  void each_thread(const Use& use) const { each(block_threads, use); }
  template <class Use>
  void each_warp(const Use& use) const { each(warps, use); }
  template <class Use>
  void each_lane(const Use& use) const { each(warp_threads, use); }

  template <int count>
  Chunk* shared() {
    shared_.assign(count, Chunk{{~0u, ~0u, ~0u, ~0u}});
    return shared_.data();
  }
  template <int count>
  uint32_t* shared_words() {
    words_.assign(count, ~0u);
    return words_.data();
  }

  // Copies a chunk, or zeros, into shared memory some time before the wait for its group is over.
  void copy(Chunk* to, const Chunk* from, bool there) {
    copies_.push_back({to, there ? from : nullptr});
    if (!late_) copies_.back().land();
  }
  void commit() { groups_.push_back(copies_.size()); }
  template <int pending>
  void wait() {
    if (groups_.size() > pending) due_ = groups_[groups_.size() - 1 - pending];
  }
  void barrier() {
    for (; landed_ < due_; ++landed_)
      if (late_) copies_[landed_].land();
  }

  // sum(lane) += left[lane] right[lane], a product of 16 rows, 8 columns and 8 words along K.
  template <class Math, class Sum>
  void multiply_add(const Sum& sum, PerLane<FragmentA>& left, PerLane<FragmentB>& right) const {
    for (int row = 0; row < 16; ++row)
      for (int column = 0; column < 8; ++column) {
        float& total = sum(row % 8 * 4 + column / 2).value[row / 8 * 2 + column % 2];
        for (int k = 0; k < 8; ++k) {
          const uint32_t a = left[row % 8 * 4 + k % 4].word[row / 8 + k / 4 * 2], b = right[column * 4 + k % 4].word[k / 4];
          total += dot(Math(), a, b);
        }
      }
  }

  // ldmatrix.trans: word i of lane l gets numbers (2t, g) and (2t + 1, g) of matrix i, whose row r lies at at(8 i + r).
  template <class Fragment, class At>
  void load_turned(PerLane<Fragment>& to, const At& at) const {
    for (int lane = 0; lane < warp_threads; ++lane)
      for (int i = 0; i < static_cast<int>(sizeof(Fragment) / 4); ++i) {
        const auto number = [&](int row) {
          return static_cast<uint32_t>(reinterpret_cast<const uint16_t*>(at(8 * i + row))[lane / 4]);
        };
        to[lane].word[i] = number(lane % 4 * 2) | number(lane % 4 * 2 + 1) << 16;
      }
  }

 private:
  struct Copy {
    Chunk* to;
    const Chunk* from;
    void land() const { *to = from ? *from : Chunk{}; }
  };

  template <class Use>
  void each(int count, const Use& use) const {
    for (int i = 0; i < count; ++i) use(late_ ? count - 1 - i : i);
  }

  static float dot(Tf32Math, uint32_t a, uint32_t b) { return float_of(a) * float_of(b); }
  static float dot(HalfMath, uint32_t a, uint32_t b) { return dot_halves<Half>(a, b); }
  static float dot(BFloat16Math, uint32_t a, uint32_t b) { return dot_halves<BFloat16>(a, b); }
  template <class T>
  static float dot_halves(uint32_t a, uint32_t b) {
    const auto low = [](uint32_t word) { return widen(T{static_cast<uint16_t>(word)}); };
    return low(a) * low(b) + low(a >> 16) * low(b >> 16);
  }

  bool late_;
  std::vector<Chunk> shared_;
  std::vector<uint32_t> words_;
  std::vector<Copy> copies_;
  std::vector<size_t> groups_;
  size_t due_ = 0, landed_ = 0;
};

}  // namespace pc3d::tiles

// A set of numbers below a bound.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace pc3d {

// Taking the numbers out, ascending, costs by how many they are.
class NumberSet {
 public:
  explicit NumberSet(int64_t most) : words_((most + 63) / 64), used_((words_.size() + 63) / 64) {}

  void add(int32_t number) {
    words_[number / 64] |= uint64_t{1} << number % 64;
    used_[number / 4096] |= uint64_t{1} << number / 64 % 64;
  }

  template <class F>
  void take(const F& visit) {
    for (size_t u = 0; u < used_.size(); ++u)
      for (uint64_t used = std::exchange(used_[u], 0); used; used &= used - 1) {
        const size_t w = 64 * u + __builtin_ctzll(used);
        for (uint64_t bits = std::exchange(words_[w], 0); bits; bits &= bits - 1)
          visit(static_cast<int32_t>(64 * w + __builtin_ctzll(bits)));
      }
  }

 private:
  std::vector<uint64_t> words_, used_;  // a bit of used_ is a word with bits
};

}  // namespace pc3d

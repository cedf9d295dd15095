// A set of numbers below a bound.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace pc3d {

// Taking the numbers out, ascending, costs by how many they are.
class NumberSet {
 public:
  // Up to 64 numbers: 64 times word, and the place of each bit.
  struct Word {
    int32_t word;
    uint64_t bits;
  };

  explicit NumberSet(int64_t most) : words_((most + 63) / 64), used_((words_.size() + 63) / 64) {}

  void add(int32_t number) { add(Word{number / 64, uint64_t{1} << number % 64}); }
  void add(Word some) {
    words_[some.word] |= some.bits;
    used_[some.word / 64] |= uint64_t{1} << some.word % 64;
  }

  template <class F>
  void take_words(const F& visit) {
    for (size_t u = 0; u < used_.size(); ++u)
      for (uint64_t used = std::exchange(used_[u], 0); used; used &= used - 1) {
        const int32_t word = static_cast<int32_t>(64 * u + __builtin_ctzll(used));
        visit(Word{word, std::exchange(words_[word], 0)});
      }
  }

  template <class F>
  void take(const F& visit) {
    take_words([&](Word some) {
      for (; some.bits; some.bits &= some.bits - 1) visit(64 * some.word + __builtin_ctzll(some.bits));
    });
  }

 private:
  std::vector<uint64_t> words_, used_;  // a bit of used_ is a word with bits
};

}  // namespace pc3d

// The products on matrix units (AMX): 16 x 16 sums take 32 channels in one instruction, in bfloat16 with float32 sums.
//
// A float32 is exactly the sum of three bfloat16. Of the nine products of two such triples the six largest are taken; the
// others are below 2^-24 of the result, so this is float32 arithmetic, at 2.5 times the speed of fused multiply-add.
// Where x is infinite the result may be NaN instead, and values below 1e-30 may lose digits.
#include "sparse_conv_amx.h"
#if PC3D_AMX

#define PC3D_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16")))
#define PC3D_BF16

#define PC3D_SIMD amx
#include "sparse_conv_avx512.h"
#undef PC3D_SIMD

namespace pc3d {
namespace amx_float {
struct Simd : amx::Floats {};
}
namespace amx_bf16 {
struct Simd : amx::Halves {};
}
}  // namespace pc3d

#define PC3D_SIMD amx_float
#include "sparse_conv_finish.h"
#undef PC3D_SIMD
#define PC3D_SIMD amx_bf16
#include "sparse_conv_finish.h"

namespace pc3d {
namespace amx {

constexpr int kTile = 1024;        // bytes of a tile: 16 rows of 16 sums or of 32 bfloat16
constexpr int kRows = 32;          // pairs at a time, two tiles of them
constexpr int kColumns = 32;       // output channels at a time, two tiles
constexpr int kStep = 32;          // channels at a time
constexpr int kMaxSteps = 6;       // of one input row that are held ready
template <class T>
constexpr int kParts = 3;          // bfloat16 of one value
template <>
constexpr int kParts<Bf16> = 1;

// 32 channels of a row as bfloat16, a part every two tiles: what is cut off one is the next. Channel c stands beside c + 16.
PC3D_INLINE void split(__m512 a, __m512 b, char* to) {
  const __m512i high_half = _mm512_set1_epi32(0xffff0000);
#pragma GCC unroll 3
  for (int p = 0; p < 3; ++p) {
    const __m512i bits_a = _mm512_castps_si512(a), bits_b = _mm512_castps_si512(b);
    _mm512_store_si512(to + p * 2 * kTile, _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(bits_a, 16), bits_b));
    if (p == 2) break;
    a = _mm512_sub_ps(a, _mm512_castsi512_ps(_mm512_and_si512(bits_a, high_half)));
    b = _mm512_sub_ps(b, _mm512_castsi512_ps(_mm512_and_si512(bits_b, high_half)));
  }
}
PC3D_INLINE void read_step(const float* x, char* to) { split(_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16), to); }
PC3D_INLINE void read_step(const float* x, int64_t channels, char* to) {
  const uint32_t mask = (1u << channels) - 1;
  split(_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), x), _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), x + 16),
        to);
}
// Channel 2 c stands beside 2 c + 1.
PC3D_INLINE void read_step(const Bf16* x, char* to) { _mm512_store_si512(to, _mm512_loadu_si512(x)); }
PC3D_INLINE void read_step(const Bf16* x, int64_t channels, char* to) {
  _mm512_store_si512(to, _mm512_maskz_loadu_epi16((1u << channels) - 1, x));
}

// Where a step's channel stands in its row.
template <class T>
constexpr int place_of(int channel) {
  return kParts<T> == 3 ? channel % 16 * 2 + channel / 16 : channel;
}

inline int64_t steps_of(int64_t channels) { return (channels + kStep - 1) / kStep; }

template <class T>
int64_t tap_bytes(const Inputs<T>& x, int64_t vectors) {
  int64_t steps = 0;
  for (int i = 0; i < x.count; ++i) steps += steps_of(x.channels[i]);
  return steps * vectors * 2 * kParts<T> * kTile;
}

// Weights of one step of channels and vector of columns.
template <class T>
struct WeightBlock {
  T values[kStep][kColumns];

  void read(const T* from, int64_t in_step, int64_t out_step, int64_t channels, int64_t columns) {
    for (int64_t j = 0; j < kColumns; ++j)
      for (int64_t c = 0; c < kStep; ++c)
        values[c][j] = j < columns && c < channels ? from[j * out_step + c * in_step] : T{};
  }
};

// Cut a part off each weight, rounded to nearest: what the dropped products lose then has no sign of its own.
inline void cut_part(WeightBlock<float>& block, uint16_t* part) {
  float* values = block.values[0];
  for (int i = 0; i < kStep * kColumns; ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, values + i, sizeof bits);
    bits += (bits & 0x7f800000) != 0x7f800000 ? 0x8000 : 0;
    part[i] = static_cast<uint16_t>(bits >> 16);
    bits &= 0xffff0000;
    float taken;
    __builtin_memcpy(&taken, &bits, sizeof taken);
    values[i] -= taken;
  }
}
inline void cut_part(WeightBlock<Bf16>& block, uint16_t* part) { __builtin_memcpy(part, &block, sizeof block); }

// Weights as [input][vector][step of channels][part][half of the vector], each a tile of 16 channel pairs by 16 columns.
template <class T>
void pack(const TapWeight<T>& weight, const Inputs<T>& x, int64_t vectors, void* packed) {
  uint16_t* tile = static_cast<uint16_t*>(packed);
  WeightBlock<T> block;
  uint16_t part[kStep * kColumns];
  const T* from = weight.w;
  for (int i = 0; i < x.count; from += x.channels[i++] * weight.in_step)
    for (int64_t column = 0; column < vectors * kColumns; column += kColumns)
      for (int64_t channel = 0; channel < x.channels[i]; channel += kStep) {
        block.read(from + column * weight.out_step + channel * weight.in_step, weight.in_step, weight.out_step,
                   x.channels[i] - channel, weight.columns - column);
        for (int p = 0; p < kParts<T>; ++p) {
          cut_part(block, part);
          for (int half = 0; half < 2; ++half, tile += kTile / 2)
            for (int c = 0; c < kStep; ++c)
              for (int j = 0; j < 16; ++j)
                tile[(place_of<T>(c) / 2 * 16 + j) * 2 + place_of<T>(c) % 2] = part[c * kColumns + half * 16 + j];
        }
      }
}

// The compiler does not know that tile loads read memory and tile stores write it.
PC3D_INLINE void settle_memory() { __asm__ volatile("" ::: "memory"); }

// Some channels of a group of rows as tiles, [step][part][half][16 rows], read a few rows at a time.
template <class T>
class Rows {
 public:
  // Channels `from` to `to` of x rows `in`, `count` of them.
  void start(const T* x, int64_t channels, int64_t from, int64_t to, const int32_t* in, int64_t count) {
    x_ = x, channels_ = channels, at_ = from, end_ = count ? to : from, in_ = in, count_ = count, row_ = 0, to_ = tiles;
  }
  PC3D_TARGET inline void read(int64_t some) {
    for (; some > 0 && at_ < end_; some -= kRows) {
      const int64_t last = row_ + some < count_ ? row_ + some : count_;
      const T* x = x_ + at_;
      const int32_t* in = in_;
      const int64_t stride = channels_;
      char* to = to_;
      if (end_ - at_ >= kStep)
        for (int64_t r = row_; r < last; ++r) read_step(x + in[r] * stride, to + r * 64);
      else
        for (int64_t r = row_; r < last; ++r) read_step(x + in[r] * stride, end_ - at_, to + r * 64);
      row_ = last;
      if (last == count_) row_ = 0, at_ += kStep, to_ += 2 * kParts<T> * kTile;
    }
  }

  alignas(64) char tiles[kMaxSteps * kParts<T> * 2 * kTile];

 private:
  const T* x_;
  const int32_t* in_;
  int64_t channels_, at_, end_, count_, row_;
  char* to_;
};

// The product of some rows and a vector of columns, added to the sums a few rows at a time.
class Product {
 public:
  PC3D_TARGET inline void take(float* sums, int64_t stride, const int32_t* out, int64_t count) {
    _tile_stored(0, values_, 128);
    _tile_stored(1, values_ + 16, 128);
    _tile_stored(2, values_ + 16 * kColumns, 128);
    _tile_stored(3, values_ + 16 * kColumns + 16, 128);
    settle_memory();
    sums_ = sums, stride_ = stride, out_ = out, count_ = count, row_ = 0;
  }
  PC3D_TARGET inline void add(int64_t some) {
    const int64_t last = row_ + some < count_ ? row_ + some : count_, stride = stride_;
    const int32_t* out = out_;
    float* sums = sums_;
    for (int64_t r = row_; r < last; ++r) {
      float* sum = sums + out[r] * stride;
      const float* value = values_ + r * kColumns;
      _mm512_store_ps(sum, _mm512_add_ps(_mm512_load_ps(sum), _mm512_load_ps(value)));
      _mm512_store_ps(sum + 16, _mm512_add_ps(_mm512_load_ps(sum + 16), _mm512_load_ps(value + 16)));
    }
    row_ = last;
  }

 private:
  alignas(64) float values_[kRows * kColumns];
  float* sums_ = nullptr;
  const int32_t* out_ = nullptr;
  int64_t stride_ = 0, count_ = 0, row_ = 0;
};

// Sums in tiles 0 to 3 += the product of the rows in tiles 4 and 5 and the weights in 6 and 7. The matrix unit is busy for
// 64 cycles then; `meanwhile` is for the vector units.
#define PC3D_LOAD_ROWS(part) _tile_loadd(4, a + (part) * 2 * kTile, 64); _tile_loadd(5, a + ((part) * 2 + 1) * kTile, 64)
#define PC3D_LOAD_WEIGHT(part) _tile_loadd(6, w + (part) * 2 * kTile, 64); _tile_loadd(7, w + ((part) * 2 + 1) * kTile, 64)
#define PC3D_PRODUCT                                                                                   \
  _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7); _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7); \
  meanwhile()

// The smallest products come first.
template <class T, class F>
PC3D_INLINE void multiply_step(const char* a, const char* w, const F& meanwhile) {
  if constexpr (kParts<T> == 3) {
    PC3D_LOAD_ROWS(0); PC3D_LOAD_WEIGHT(2); PC3D_PRODUCT;
    PC3D_LOAD_ROWS(2); PC3D_LOAD_WEIGHT(0); PC3D_PRODUCT;
    PC3D_LOAD_ROWS(1); PC3D_LOAD_WEIGHT(1); PC3D_PRODUCT;
    PC3D_LOAD_WEIGHT(0); PC3D_PRODUCT;
    PC3D_LOAD_ROWS(0); PC3D_LOAD_WEIGHT(1); PC3D_PRODUCT;
    PC3D_LOAD_WEIGHT(0); PC3D_PRODUCT;
  } else {
    PC3D_LOAD_ROWS(0); PC3D_LOAD_WEIGHT(0); PC3D_PRODUCT;
  }
}

// Channels `from` to `to` of one input. While the matrix unit works on a group of pairs, the rows of the next are read and the
// last product is added.
template <class T>
PC3D_TARGET void multiply_channels(const T* x, int64_t channels, int64_t from, int64_t to, const char* w, int64_t w_stride,
                                   int64_t vectors, float* sums, const Pairs& pairs) {
  constexpr int64_t step_bytes = 2 * kParts<T> * kTile, products_per_step = kParts<T> == 3 ? 6 : 1;
  const int64_t steps = steps_of(to - from), turns = steps * products_per_step;
  const int64_t adds = (kRows + turns - 1) / turns, reads = (kRows * steps + turns * vectors - 1) / (turns * vectors);
  const auto size = [&](int64_t p) { return pairs.count - p < kRows ? pairs.count - p : kRows; };
  Rows<T> rows[2];
  Product products[2];
  int group = 0, done = 0;
  rows[0].start(x, channels, from, to, pairs.in, size(0));
  for (int64_t s = 0; s < steps; ++s) rows[0].read(kRows);
  for (int64_t p = 0; p < pairs.count; p += kRows, group = 1 - group) {
    Rows<T>& next = rows[1 - group];
    next.start(x, channels, from, to, pairs.in + p + kRows, p + kRows < pairs.count ? size(p + kRows) : 0);
    settle_memory();
    for (int64_t v = 0; v < vectors; ++v, done = 1 - done) {
      Product& last = products[1 - done];
      const auto meanwhile = [&]() PC3D_TARGET {
        next.read(reads);
        last.add(adds);
      };
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int64_t s = 0; s < steps; ++s)
        multiply_step<T>(rows[group].tiles + s * step_bytes, w + v * w_stride + s * step_bytes, meanwhile);
      products[done].take(sums + v * kColumns, vectors * kColumns, pairs.out + p, size(p));
    }
    for (int64_t s = 0; s < steps; ++s) next.read(kRows);
  }
  products[1 - done].add(kRows);
}

template <class T>
PC3D_TARGET void multiply(const Inputs<T>& x, const void* packed, int64_t vectors, float* sums, int64_t first,
                          const Pairs& pairs) {
  constexpr int64_t step_bytes = 2 * kParts<T> * kTile, most = kMaxSteps * kStep;
  const char* w = static_cast<const char*>(packed);
  sums -= first * vectors * kColumns;
  for (int i = 0; i < x.count; ++i) {
    const int64_t channels = x.channels[i], w_stride = steps_of(channels) * step_bytes;
    for (int64_t from = 0; from < channels; from += most)
      multiply_channels(x.rows[i], channels, from, from + most < channels ? from + most : channels,
                        w + from / kStep * step_bytes, w_stride, vectors, sums, pairs);
    w += vectors * w_stride;
  }
}

// All eight tiles have 16 rows of 64 bytes.
PC3D_TARGET void enter(bool begin) {
  if (!begin) {
    _tile_release();
    return;
  }
  struct {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  settle_memory();
  _tile_loadconfig(&config);
}

constexpr int kMaxVectors = 8;

}  // namespace amx

const ConvKernels<float> amx_conv_float = {amx::kColumns, amx::kMaxVectors, amx::enter, amx::tap_bytes<float>,
                                           amx::pack<float>, amx::multiply<float>, amx_float::finish};
const ConvKernels<Bf16> amx_conv_bf16 = {amx::kColumns, amx::kMaxVectors, amx::enter, amx::tap_bytes<Bf16>,
                                         amx::pack<Bf16>, amx::multiply<Bf16>, amx_bf16::finish};

}  // namespace pc3d
#endif

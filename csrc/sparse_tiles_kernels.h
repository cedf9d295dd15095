// Bodies of the kernels of sparse_tiles.h. `Block` is a block of threads: CudaBlock on the GPU, HostBlock where a CPU plays
// all threads of a block in turn. Between two calls of each_thread or each_warp that share memory stands a barrier.
#pragma once

#include "numbers.h"
#include "sparse_tiles.h"

namespace pc3d::tiles {

constexpr int warp_threads = 32;
constexpr int warps = block_threads / warp_threads;
constexpr int step_chunks = 4;  // a step of a convolution: 64 bytes of each row

// Chunk `c` of row `r` in a shared matrix whose rows are 4 chunks: turned about so that the 8 rows and the one chunk that a
// warp reads at once lie in different banks.
PC3D_HD inline int narrow_place(int r, int c) { return r * step_chunks + (c ^ (r >> 1 & 3)); }

// The same for rows of `width` = 8 or 16 chunks, of which a warp reads one chunk of 8 rows or two chunks of 4.
PC3D_HD inline int wide_place(int width, int r, int c) { return r * width + (c ^ ((r & 3) << 1 | (r >> 2 & 1))); }

// Products on tensor cores, warp by warp. A warp's fragments are, in 4-byte words and with g = lane / 4, t = lane % 4: of A
// the words (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4); of B (8 columns) the words (t, g), (t + 4, g); of the sum the
// numbers (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1). A word is one tf32 or two neighbouring half numbers of a row.
struct FragmentA {
  uint32_t word[4];
};
struct FragmentB {
  uint32_t word[2];
};
struct FragmentSum {
  float value[4];
};

// What the tensor cores multiply.
struct HalfMath {
  using Number = Half;
  static constexpr int word_numbers = 2;
  PC3D_HD static uint32_t round(uint32_t word) { return word; }
};
struct BFloat16Math {
  using Number = BFloat16;
  static constexpr int word_numbers = 2;
  PC3D_HD static uint32_t round(uint32_t word) { return word; }
};
struct Tf32Math {
  using Number = float;
  static constexpr int word_numbers = 1;
  PC3D_HD static uint32_t round(uint32_t word) { return round_to_tf32(word); }
};

template <class Math, int TM, int TN>
struct TensorTile {
  static constexpr int row_groups = TM / (warps * group_rows);  // of a warp
  static constexpr int column_groups = TN / 8;
  static constexpr int blocks_at_once = 4;  // on a multiprocessor: bounds the registers, and at most a word spills
  struct Sums {
    FragmentSum of[row_groups][column_groups];
  };
  using Sum = float;

  // Adds one step, where `groups` has a bit for each group of 16 rows that is not all zero.
  template <class Block, class Registers>
  PC3D_HD static void multiply(Block& block, const Chunk* a, const Chunk* b, uint32_t groups, Registers& sums) {
    block.each_warp([&](int warp) {
      const int first = warp * row_groups;
      if (!(groups >> first & ((1u << row_groups) - 1))) return;
      PC3D_UNROLL
      for (int half = 0; half < 2; ++half) {
        typename Block::template PerLane<FragmentB> right[column_groups];
        PC3D_UNROLL
        for (int n = 0; n < column_groups; ++n)
          block.each_lane([&](int lane) { right[n][lane] = load_b(b, n * 8, half, lane); });
        PC3D_UNROLL
        for (int m = 0; m < row_groups; ++m) {
          if (!(groups >> (first + m) & 1)) continue;
          typename Block::template PerLane<FragmentA> left;
          block.each_lane([&](int lane) { left[lane] = load_a(a, (first + m) * group_rows, half, lane); });
          PC3D_UNROLL
          for (int n = 0; n < column_groups; ++n)
            block.template multiply_add<Math>([&](int lane) -> FragmentSum& { return sums[warp * warp_threads + lane].of[m][n]; },
                                              left, right[n]);
        }
      }
    });
  }

  PC3D_HD static FragmentA load_a(const Chunk* a, int row, int half, int lane) {
    const int g = row + lane / 4, t = lane % 4;
    const auto word = [&](int r, int c) { return Math::round(a[narrow_place(r, 2 * half + c)].word[t]); };
    return {{word(g, 0), word(g + 8, 0), word(g, 1), word(g + 8, 1)}};
  }
  PC3D_HD static FragmentB load_b(const Chunk* b, int column, int half, int lane) {
    const int g = column + lane / 4, t = lane % 4;
    const auto word = [&](int c) { return Math::round(b[narrow_place(g, 2 * half + c)].word[t]); };
    return {{word(0), word(1)}};
  }

  // Calls use(row, column, sums of `run` neighbouring columns) for what a thread holds.
  static constexpr int run = 2;
  template <class Use>
  PC3D_HD static void each(int thread, const Sums& sums, const Use& use) {
    const int warp = thread / warp_threads, lane = thread % warp_threads;
    PC3D_UNROLL
    for (int m = 0; m < row_groups; ++m)
      PC3D_UNROLL
      for (int n = 0; n < column_groups; ++n) {
        const FragmentSum& sum = sums.of[m][n];
        const int row = (warp * row_groups + m) * group_rows + lane / 4, column = n * 8 + lane % 4 * 2;
        use(row, column, sum.value);
        use(row + 8, column, sum.value + 2);
      }
  }
};

// Products in plain arithmetic, for float and double. A thread has rows r, r + 16, ... and columns c, c + 8, ... with
// r = thread / 8, c = thread % 8.
template <class T, int TM, int TN>
struct PlainTile {
  static constexpr int rows = TM / group_rows, columns = TN / 8, numbers = sizeof(Chunk) / sizeof(T);
  static constexpr int blocks_at_once = 3;
  struct Sums {
    T of[rows][columns];
  };
  using Sum = T;

  template <class Block, class Registers>
  PC3D_HD static void multiply(Block& block, const Chunk* a, const Chunk* b, uint32_t groups, Registers& registers) {
    block.each_thread([&](int thread) {
      Sums& sums = registers[thread];
      PC3D_UNROLL
      for (int c = 0; c < step_chunks; ++c) {
        Numbers right[columns];
        PC3D_UNROLL
        for (int j = 0; j < columns; ++j) right[j] = load(b, thread % 8 + j * 8, c);
        PC3D_UNROLL
        for (int i = 0; i < rows; ++i) {
          if (!(groups >> i & 1)) continue;
          const Numbers left = load(a, thread / 8 + i * group_rows, c);
          PC3D_UNROLL
          for (int k = 0; k < numbers; ++k)
            PC3D_UNROLL
            for (int j = 0; j < columns; ++j) sums.of[i][j] = multiply_add(left.of[k], right[j].of[k], sums.of[i][j]);
        }
      }
    });
  }

  static constexpr int run = 1;
  template <class Use>
  PC3D_HD static void each(int thread, const Sums& sums, const Use& use) {
    PC3D_UNROLL
    for (int i = 0; i < rows; ++i)
      PC3D_UNROLL
      for (int j = 0; j < columns; ++j) use(thread / 8 + i * group_rows, thread % 8 + j * 8, &sums.of[i][j]);
  }

 private:
  struct alignas(16) Numbers {
    T of[numbers];
  };
  PC3D_HD static Numbers load(const Chunk* from, int row, int c) {
    return reinterpret_cast<const Numbers*>(from)[narrow_place(row, c)];
  }
};

// Where a block is in its steps: `part` counts the 64 bytes of a row.
struct Cursor {
  int64_t step;
  int64_t part;
};

// One block: the sums of a tile of TM outputs and TN columns over its share of the tile's steps.
template <class Tile, class Out, int TM, int TN>
struct ConvolveBody {
  static constexpr int threads_per_row = step_chunks, rows_at_once = block_threads / threads_per_row;
  static constexpr int stage_chunks = (TM + TN) * step_chunks;
  static constexpr int stages = stage_chunks < 12 * 1024 / static_cast<int>(sizeof(Chunk)) ? 4 : 3;  // in use and on their way
  static constexpr int shared_chunks = stages * stage_chunks;
  static constexpr int blocks_at_once = Tile::blocks_at_once;
  struct Fetched {
    int32_t row[TM / rows_at_once];
    int32_t tap;
    uint32_t groups;
  };

  Convolution p;

  PC3D_HD int64_t column_tiles() const { return ceil_div(p.columns, TN); }
  PC3D_HD int64_t blocks() const { return p.num_tiles * column_tiles() * p.splits; }

  template <class Block>
  PC3D_HD void operator()(Block& block, int64_t number) const {
    const int64_t tile = number % p.num_tiles, column = number / p.num_tiles % column_tiles() * TN;
    const int64_t split = number / (p.num_tiles * column_tiles());
    const int64_t parts = ceil_div(p.chunks, step_chunks), first = p.step_offsets[tile];
    const int64_t all = (p.step_offsets[tile + 1] - first) * parts;
    const int64_t begin = all * split / p.splits, count = all * (split + 1) / p.splits - begin;
    Chunk* const shared = block.template shared<shared_chunks>();
    uint32_t* const groups = block.template shared_words<stages>();

    typename Block::template PerThread<typename Tile::Sums> sums;
    typename Block::template PerThread<Fetched> fetched;
    block.each_thread([&](int thread) { sums[thread] = typename Tile::Sums{}; });
    Cursor ahead{first + begin / parts, begin % parts};
    if (count > 0) fetch(block, ahead, fetched);
    int64_t copied = 0;
    const auto copy_next = [&] {  // an empty group when all is copied, so that waiting counts on
      if (copied < count) {
        copy(block, ahead, column, shared + copied % stages * stage_chunks, groups + copied % stages, fetched);
        if (++ahead.part == parts) ahead = {ahead.step + 1, 0};
        if (++copied < count && ahead.part == 0) fetch(block, ahead, fetched);
      }
      block.commit();
    };
    for (int i = 0; i < stages - 1; ++i) copy_next();
    for (int64_t i = 0; i < count; ++i) {
      block.template wait<stages - 2>();
      block.barrier();  // copies of all threads are there, and all threads are done with the stage that is copied to next
      copy_next();
      const Chunk* stage = shared + i % stages * stage_chunks;
      Tile::multiply(block, stage, stage + TM * step_chunks, groups[i % stages], sums);
    }
    block.each_thread([&](int thread) { store(thread, tile, column, split, sums[thread]); });
  }

 private:
  // Reads which rows the next step wants, a step before they are wanted.
  template <class Block, class Registers>
  PC3D_HD void fetch(Block& block, Cursor at, Registers& fetched) const {
    block.each_thread([&](int thread) {
      Fetched& next = fetched[thread];
      next.tap = p.steps[2 * at.step];
      next.groups = static_cast<uint32_t>(p.steps[2 * at.step + 1]);
      PC3D_UNROLL
      for (int j = 0; j < TM / rows_at_once; ++j)
        next.row[j] = p.in_rows[at.step * TM + thread / threads_per_row + j * rows_at_once];
    });
  }

  // Four threads copy 64 bytes of a row. Groups without a pair are neither copied nor read.
  template <class Block, class Registers>
  PC3D_HD void copy(Block& block, Cursor at, int64_t column, Chunk* stage, uint32_t* groups, Registers& fetched) const {
    block.each_thread([&](int thread) {
      const Fetched& now = fetched[thread];
      const int c = thread % threads_per_row, r = thread / threads_per_row;
      const int64_t chunk = at.part * step_chunks + c;
      const bool in_row = chunk < p.chunks;
      if (thread == 0) *groups = now.groups;
      PC3D_UNROLL
      for (int j = 0; j < TM / rows_at_once; ++j) {
        const int row = r + j * rows_at_once;
        if (!(now.groups >> (row / group_rows) & 1)) continue;
        const bool there = in_row && now.row[j] >= 0;
        block.copy(stage + narrow_place(row, c), p.x + (there ? now.row[j] * p.chunks + chunk : 0), there);
      }
      PC3D_UNROLL
      for (int j = 0; j < TN / rows_at_once; ++j) {
        const int n = r + j * rows_at_once;
        const bool there = in_row && column + n < p.columns;
        block.copy(stage + TM * step_chunks + narrow_place(n, c),
                   p.weight + (there ? ((column + n) * p.taps + now.tap) * p.chunks + chunk : 0), there);
      }
    });
  }

  PC3D_HD void store(int thread, int64_t tile, int64_t column, int64_t split, const typename Tile::Sums& sums) const {
    Tile::each(thread, sums, [&](int row, int c, const typename Tile::Sum* values) {
      const int64_t out = p.out_rows[tile * TM + row], j = column + c;
      if (out < 0 || j >= p.columns) return;
      const int64_t at = out * p.columns + j;
      if (p.splits > 1) put(static_cast<typename Tile::Sum*>(p.y) + split * p.num_out * p.columns + at, j, values);
      else put(static_cast<Out*>(p.y) + at, j, values);
    });
  }

  // Neighbours go out together where rows of y are even.
  template <class T>
  PC3D_HD void put(T* to, int64_t j, const typename Tile::Sum* values) const {
    struct alignas(2 * sizeof(T)) Two {
      T of[2];
    };
    if (Tile::run == 2 && p.columns % 2 == 0) {
      *reinterpret_cast<Two*>(to) = {{narrow<T>(values[0]), narrow<T>(values[Tile::run - 1])}};
      return;
    }
    for (int v = 0; v < Tile::run && j + v < p.columns; ++v) to[v] = narrow<T>(values[v]);
  }
};

// y = the sum over splits, in order.
template <class Sum, class Out>
struct MergeSplits {
  const Sum* sums;
  Out* y;
  int64_t splits, count;

  PC3D_HD void operator()(int64_t i) const {
    Sum total = sums[i];
    for (int64_t s = 1; s < splits; ++s) total += sums[s * count + i];
    y[i] = narrow<Out>(total);
  }
};

// Products of columns of gathered rows: K runs over pairs, the shared matrices are (pairs, channels).
template <class Math>
struct TensorOuter {
  static constexpr int word_numbers = Math::word_numbers;       // 2 for half types, 1 for tf32
  static constexpr int channels = 64, pairs = 16 * word_numbers;  // of a stage
  static constexpr int width = channels / (4 * word_numbers);   // chunks of a shared row: 8 or 16
  static constexpr int row_groups = 2, column_groups = 4;       // a warp has 32 x 32 of the 64 x 64 sums
  struct Sums {
    FragmentSum of[row_groups][column_groups];
  };
  using Sum = float;

  // rows and columns: how many of the 64 exist.
  template <class Block, class Registers>
  PC3D_HD static void multiply(Block& block, const Chunk* a, const Chunk* b, int64_t rows, int64_t columns, Registers& sums) {
    block.each_warp([&](int warp) {
      const int row = warp / 2 * 32, column = warp % 2 * 32;
      if (row >= rows || column >= columns) return;
      PC3D_UNROLL
      for (int k = 0; k < pairs; k += 8 * word_numbers) {
        typename Block::template PerLane<FragmentB> right[column_groups];
        PC3D_UNROLL
        for (int n = 0; n < column_groups; ++n) load_b(block, b, k, column + n * 8, right[n]);
        PC3D_UNROLL
        for (int m = 0; m < row_groups; ++m) {
          typename Block::template PerLane<FragmentA> left;
          load_a(block, a, k, row + m * 16, left);
          PC3D_UNROLL
          for (int n = 0; n < column_groups; ++n)
            block.template multiply_add<Math>([&](int lane) -> FragmentSum& { return sums[warp * warp_threads + lane].of[m][n]; },
                                              left, right[n]);
        }
      }
    });
  }

  // The words of a fragment stand along K, across rows here: two half numbers of one channel and neighbouring pairs, or one
  // tf32. Matrices of 8 x 8 half numbers are turned while they are read: lane l names row l % 8 of matrix l / 8.
  template <class Block, class Fragments>
  PC3D_HD static void load_a(Block& block, const Chunk* a, int k, int channel, Fragments& left) {
    if constexpr (word_numbers == 2)
      block.load_turned(left, [&](int lane) {
        return a + wide_place(width, k + lane % 8 + lane / 16 * 8, channel / 8 + lane / 8 % 2);
      });
    else
      block.each_lane([&](int lane) {
        const int g = channel + lane / 4, t = k + lane % 4;
        left[lane] = {{word(a, t, g), word(a, t, g + 8), word(a, t + 4, g), word(a, t + 4, g + 8)}};
      });
  }
  template <class Block, class Fragments>
  PC3D_HD static void load_b(Block& block, const Chunk* b, int k, int channel, Fragments& right) {
    if constexpr (word_numbers == 2)
      block.load_turned(right, [&](int lane) { return b + wide_place(width, k + lane % 16, channel / 8); });
    else
      block.each_lane([&](int lane) {
        const int g = channel + lane / 4, t = k + lane % 4;
        right[lane] = {{word(b, t, g), word(b, t + 4, g)}};
      });
  }
  PC3D_HD static uint32_t word(const Chunk* from, int row, int number) {
    return Math::round(from[wide_place(width, row, number / 4)].word[number % 4]);
  }

  template <class Use>
  PC3D_HD static void each(int thread, const Sums& sums, const Use& use) {
    const int warp = thread / warp_threads, lane = thread % warp_threads;
    PC3D_UNROLL
    for (int m = 0; m < row_groups; ++m)
      PC3D_UNROLL
      for (int n = 0; n < column_groups; ++n)
        PC3D_UNROLL
        for (int v = 0; v < 4; ++v)
          use(warp / 2 * 32 + m * 16 + lane / 4 + v / 2 * 8, warp % 2 * 32 + n * 8 + lane % 4 * 2 + v % 2,
              sums.of[m][n].value[v]);
  }
};

// The same in plain arithmetic. A thread has two chunks of rows and one chunk of columns.
template <class T>
struct PlainOuter {
  static constexpr int numbers = sizeof(Chunk) / sizeof(T);
  static constexpr int channels = 16 * numbers, pairs = 16, width = 16;
  struct Sums {
    T of[2][numbers][numbers];
  };
  using Sum = T;

  template <class Block, class Registers>
  PC3D_HD static void multiply(Block& block, const Chunk* a, const Chunk* b, int64_t, int64_t, Registers& registers) {
    block.each_thread([&](int thread) {
      Sums& sums = registers[thread];
      PC3D_UNROLL
      for (int k = 0; k < pairs; ++k) {
        const Numbers right = load(b, k, thread % 16);
        PC3D_UNROLL
        for (int h = 0; h < 2; ++h) {
          const Numbers left = load(a, k, thread / 16 + h * 8);
          PC3D_UNROLL
          for (int i = 0; i < numbers; ++i)
            PC3D_UNROLL
            for (int j = 0; j < numbers; ++j) sums.of[h][i][j] = multiply_add(left.of[i], right.of[j], sums.of[h][i][j]);
        }
      }
    });
  }

  template <class Use>
  PC3D_HD static void each(int thread, const Sums& sums, const Use& use) {
    PC3D_UNROLL
    for (int h = 0; h < 2; ++h)
      PC3D_UNROLL
      for (int i = 0; i < numbers; ++i)
        PC3D_UNROLL
        for (int j = 0; j < numbers; ++j)
          use((thread / 16 + h * 8) * numbers + i, thread % 16 * numbers + j, sums.of[h][i][j]);
  }

 private:
  struct alignas(16) Numbers {
    T of[numbers];
  };
  PC3D_HD static Numbers load(const Chunk* from, int row, int c) {
    return reinterpret_cast<const Numbers*>(from)[wide_place(width, row, c)];
  }
};

// One block: the products of a piece of one tap's pairs, for `channels` rows and columns of dW.
template <class Outer>
struct WeightGradientBody {
  static constexpr int matrix_chunks = Outer::pairs * Outer::width, stage_chunks = 2 * matrix_chunks, stages = 4;
  static constexpr int shared_chunks = stages * stage_chunks, copies = matrix_chunks / block_threads;
  static constexpr int blocks_at_once = 4;
  struct Fetched {
    int32_t in[copies], out[copies];
  };

  WeightGradient p;

  PC3D_HD int64_t row_tiles() const { return ceil_div(p.grad_columns, Outer::channels); }
  PC3D_HD int64_t column_tiles() const { return ceil_div(p.x_columns, Outer::channels); }
  PC3D_HD int64_t blocks() const { return p.pieces * row_tiles() * column_tiles(); }

  template <class Block>
  PC3D_HD void operator()(Block& block, int64_t number) const {
    const int64_t piece_number = number % p.pieces, tile = number / p.pieces;
    const int64_t row = tile / column_tiles() * Outer::channels, column = tile % column_tiles() * Outer::channels;
    const Piece piece = find_piece(p.tap_offsets, p.taps, p.piece_pairs, piece_number);
    if (piece.tap == p.taps) return;
    const int64_t count = ceil_div(piece.end - piece.begin, Outer::pairs);
    Chunk* const shared = block.template shared<shared_chunks>();

    typename Block::template PerThread<typename Outer::Sums> sums;
    typename Block::template PerThread<Fetched> fetched;
    block.each_thread([&](int thread) { sums[thread] = typename Outer::Sums{}; });
    fetch(block, piece.begin, piece.end, fetched);
    int64_t copied = 0;
    const auto copy_next = [&] {
      if (copied < count) {
        copy(block, row, column, shared + copied % stages * stage_chunks, fetched);
        if (++copied < count) fetch(block, piece.begin + copied * Outer::pairs, piece.end, fetched);
      }
      block.commit();
    };
    for (int i = 0; i < stages - 1; ++i) copy_next();
    for (int64_t i = 0; i < count; ++i) {
      block.template wait<stages - 2>();
      block.barrier();
      copy_next();
      const Chunk* stage = shared + i % stages * stage_chunks;
      Outer::multiply(block, stage, stage + matrix_chunks, p.grad_columns - row, p.x_columns - column, sums);
    }
    block.each_thread([&](int thread) {
      auto* to = static_cast<typename Outer::Sum*>(p.partial) + piece_number * p.grad_columns * p.x_columns;
      Outer::each(thread, sums[thread], [&](int r, int c, typename Outer::Sum value) {
        if (row + r < p.grad_columns && column + c < p.x_columns) to[(row + r) * p.x_columns + column + c] = value;
      });
    });
  }

 private:
  template <class Block, class Registers>
  PC3D_HD void fetch(Block& block, int64_t begin, int64_t end, Registers& fetched) const {
    block.each_thread([&](int thread) {
      Fetched& next = fetched[thread];
      PC3D_UNROLL
      for (int j = 0; j < copies; ++j) {
        const int64_t pair = begin + (thread + j * block_threads) / Outer::width;
        next.in[j] = pair < end ? p.in_rows[pair] : -1;
        next.out[j] = pair < end ? p.out_rows[pair] : -1;
      }
    });
  }

  // Past the last pair both rows are zero: no product of what memory held before.
  template <class Block, class Registers>
  PC3D_HD void copy(Block& block, int64_t row, int64_t column, Chunk* stage, Registers& fetched) const {
    constexpr int64_t chunk_numbers = Outer::channels / Outer::width;
    block.each_thread([&](int thread) {
      const Fetched& now = fetched[thread];
      PC3D_UNROLL
      for (int j = 0; j < copies; ++j) {
        const int k = (thread + j * block_threads) / Outer::width, c = (thread + j * block_threads) % Outer::width;
        const int64_t grad_chunk = row / chunk_numbers + c, x_chunk = column / chunk_numbers + c;
        const bool grad_there = now.out[j] >= 0 && grad_chunk < p.grad_chunks, x_there = now.in[j] >= 0 && x_chunk < p.x_chunks;
        Chunk* to = stage + wide_place(Outer::width, k, c);
        block.copy(to, p.grad + (grad_there ? now.out[j] * p.grad_chunks + grad_chunk : 0), grad_there);
        block.copy(to + matrix_chunks, p.x + (x_there ? now.in[j] * p.x_chunks + x_chunk : 0), x_there);
      }
    });
  }
};

// dW[m, tap, n] = the sum over the tap's pieces, in order.
template <class Sum, class Out>
struct MergePieces {
  const Sum* partial;
  Out* grad;
  const int64_t* tap_offsets;
  int64_t taps, rows, columns, piece_pairs;

  PC3D_HD void operator()(int64_t i) const {  // i counts (tap, m, n): threads read neighbouring numbers
    const int64_t tap = i / (rows * columns), at = i % (rows * columns);
    int64_t piece = 0;
    for (int64_t k = 0; k < tap; ++k) piece += ceil_div(tap_offsets[k + 1] - tap_offsets[k], piece_pairs);
    const int64_t last = piece + ceil_div(tap_offsets[tap + 1] - tap_offsets[tap], piece_pairs);
    Sum total = 0;
    for (; piece < last; ++piece) total += partial[piece * rows * columns + at];
    grad[(at / columns * taps + tap) * columns + at % columns] = narrow<Out>(total);
  }
};

// The kinds of products by type: their bodies, the type of sums, and of numbers in memory.
template <class Math>
struct TensorKind {
  using Number = typename Math::Number;
  using Sum = float;
  static constexpr int64_t most_columns = 64;
  template <int TM, int TN>
  using Convolve = ConvolveBody<TensorTile<Math, TM, TN>, Number, TM, TN>;
  using Gradient = WeightGradientBody<TensorOuter<Math>>;
};
template <class T>
struct PlainKind {
  using Number = T;
  using Sum = T;
  static constexpr int64_t most_columns = 256 / sizeof(T);  // sums of more doubles do not fit the registers
  template <int TM, int TN>
  using Convolve = ConvolveBody<PlainTile<T, TM, TN>, T, TM, TN>;
  using Gradient = WeightGradientBody<PlainOuter<T>>;
};

// Calls use(body) with the body that suits the problem's size.
template <class Kind, int TM, class Use>
void with_columns(const Convolution& p, const Use& use) {
  if constexpr (Kind::most_columns > 32)
    if (p.columns > 32) return use(typename Kind::template Convolve<TM, 64>{p});
  use(typename Kind::template Convolve<TM, 32>{p});
}
template <class Kind, class Use>
void with_body(int64_t tile_rows, const Convolution& p, const Use& use) {
  if (tile_rows == 128) with_columns<Kind, 128>(p, use);
  else with_columns<Kind, 64>(p, use);
}

template <class Kind>
MergeSplits<typename Kind::Sum, typename Kind::Number> merge_splits(const Convolution& p, void* out) {
  return {static_cast<const typename Kind::Sum*>(p.y), static_cast<typename Kind::Number*>(out), p.splits, p.num_out * p.columns};
}
template <class Kind>
MergePieces<typename Kind::Sum, typename Kind::Number> merge_pieces(const WeightGradient& p, void* out) {
  return {static_cast<const typename Kind::Sum*>(p.partial), static_cast<typename Kind::Number*>(out), p.tap_offsets,
          p.taps, p.grad_columns, p.x_columns, p.piece_pairs};
}

// Calls use(kind) with an object of the kind that a type is computed by.
template <class Use>
void with_kind(Type type, const Use& use) {
  switch (type) {
    case Type::half: return use(TensorKind<HalfMath>());
    case Type::bfloat16: return use(TensorKind<BFloat16Math>());
    case Type::tf32: return use(TensorKind<Tf32Math>());
    case Type::float32: return use(PlainKind<float>());
    case Type::float64: return use(PlainKind<double>());
  }
}

}  // namespace pc3d::tiles

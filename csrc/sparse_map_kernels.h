// Bodies of the CUDA kernels of sparse_kernel_map and sparse_coarse_keys (contract in pc3d/ops/sparse_map.py).
//
// Pairs are found by search in the sorted keys, twice: once to count them, once to write them where the counts say. A
// thread takes a run of neighbouring outputs at one tap; what they look for ascends, so each search starts where the last
// one ended. Counts are exact, so nothing is added atomically and the pairs come out in the order of the contract.
#pragma once

#include "device.h"

namespace pc3d::sparse_map {

// The layout of a key; the same numbers stand in pc3d/ops/sparse_map.py.
constexpr int field_bits = 16;
constexpr int64_t bias = 64;
constexpr int64_t field_mask = (int64_t(1) << field_bits) - 1;
constexpr int64_t no_key = INT64_MAX;

constexpr int64_t run_outputs = 16;

struct Triple {
  int64_t x, y, z;
};

struct Voxel {
  int64_t scan;
  Triple at;
};

PC3D_HD inline Voxel unpack(int64_t key) {
  return {key >> (3 * field_bits),
          {(key >> (2 * field_bits) & field_mask) - bias, (key >> field_bits & field_mask) - bias, (key & field_mask) - bias}};
}
PC3D_HD inline int64_t pack(int64_t scan, const Triple& at) {
  return (scan << (3 * field_bits)) + ((at.x + bias) << (2 * field_bits)) + ((at.y + bias) << field_bits) + at.z + bias;
}

struct Geometry {
  Triple kernel, stride, padding;

  PC3D_HD int64_t taps() const { return kernel.x * kernel.y * kernel.z; }
  // Equal sites under a symmetric kernel: tap k from i to o is tap K-1-k from o to i.
  bool symmetric() const {
    return stride.x == 1 && stride.y == 1 && stride.z == 1 && kernel.x == 2 * padding.x + 1 &&
           kernel.y == 2 * padding.y + 1 && kernel.z == 2 * padding.z + 1;
  }
  // Key of the input voxel that an output reads at a tap.
  PC3D_HD int64_t read_key(int64_t out_key, int64_t tap) const {
    const Voxel out = unpack(out_key);
    return pack(out.scan, {out.at.x * stride.x + tap / (kernel.y * kernel.z) - padding.x,
                           out.at.y * stride.y + tap / kernel.z % kernel.y - padding.y,
                           out.at.z * stride.z + tap % kernel.z - padding.z});
  }
};

// First position from `at` on whose key is not below `wanted`: steps that double, then halves.
PC3D_HD inline int64_t seek(const int64_t* keys, int64_t count, int64_t at, int64_t wanted) {
  int64_t low = at, step = 1;  // every key before low is below wanted
  while (low + step <= count && keys[low + step - 1] < wanted) {
    low += step;
    step *= 2;
  }
  int64_t high = low + step <= count ? low + step - 1 : count;  // the key at high is not below wanted
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (keys[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

// The search that both passes make. `first_tap` is the first tap searched for: with mirrored sites the taps before the
// centre are the images of those after it.
struct Search {
  const int64_t* out_keys;
  const int64_t* in_keys;
  int64_t num_out, num_in;
  Geometry geometry;
  int64_t first_tap;

  PC3D_HD int64_t searched_taps() const { return geometry.taps() - first_tap; }
  PC3D_HD int64_t runs() const { return ceil_div(num_out, run_outputs); }
  // Which searched tap gives the pairs of a tap.
  PC3D_HD int64_t source(int64_t tap) const { return (tap < first_tap ? geometry.taps() - 1 - tap : tap) - first_tap; }

  // Calls use(output row, input row) for the pairs of item = searched tap * runs + run.
  template <class Use>
  PC3D_HD void walk(int64_t item, const Use& use) const {
    const int64_t tap = first_tap + item / runs(), begin = item % runs() * run_outputs;
    const int64_t end = begin + run_outputs < num_out ? begin + run_outputs : num_out;
    int64_t row = 0;
    for (int64_t o = begin; o < end; ++o) {
      const int64_t wanted = geometry.read_key(out_keys[o], tap);
      row = seek(in_keys, num_in, row, wanted);
      if (row < num_in && in_keys[row] == wanted) use(o, row);
    }
  }
};

struct CountPairs {
  Search search;
  int32_t* counts;  // (searched taps, runs)

  PC3D_HD void operator()(int64_t item) const {
    int32_t found = 0;
    search.walk(item, [&](int64_t, int64_t) { ++found; });
    counts[item] = found;
  }
};

// Pairs of searched taps before `tap`; ends are the inclusive sums of the counts.
PC3D_HD inline int64_t pairs_before(const Search& search, const int64_t* ends, int64_t tap) {
  return tap == 0 ? 0 : ends[tap * search.runs() - 1];
}

// A single thread: where the pairs of each tap begin, and for the host the total and whether the keys were in order.
struct PlaceTaps {
  Search search;
  const int64_t* ends;
  const int64_t* disorder;
  int64_t* tap_offsets;  // (taps + 1)
  int64_t* summary;      // (2)

  PC3D_HD void operator()(int64_t) const {
    const int64_t taps = search.geometry.taps();
    tap_offsets[0] = 0;
    for (int64_t tap = 0; tap < taps; ++tap) {
      const int64_t source = search.source(tap);
      tap_offsets[tap + 1] = tap_offsets[tap] + pairs_before(search, ends, source + 1) - pairs_before(search, ends, source);
    }
    summary[0] = tap_offsets[taps];
    summary[1] = *disorder;
  }
};

struct WritePairs {
  Search search;
  const int64_t* ends;
  const int64_t* tap_offsets;
  int32_t* in_rows;
  int32_t* out_rows;

  PC3D_HD void operator()(int64_t item) const {
    const int64_t searched = item / search.runs(), tap = search.first_tap + searched, image = search.geometry.taps() - 1 - tap;
    const int64_t within = (item == 0 ? 0 : ends[item - 1]) - pairs_before(search, ends, searched);
    int64_t at = tap_offsets[tap] + within, mirrored = tap_offsets[image] + within;
    const bool twice = image < search.first_tap;
    search.walk(item, [&](int64_t out, int64_t in) {
      in_rows[at] = static_cast<int32_t>(in);
      out_rows[at++] = static_cast<int32_t>(out);
      if (!twice) return;
      in_rows[mirrored] = static_cast<int32_t>(out);
      out_rows[mirrored++] = static_cast<int32_t>(in);
    });
  }
};

// Sets *disorder where a key is not above the one before. Several threads may store the same 1.
struct CheckOrder {
  const int64_t* keys;
  int64_t* disorder;

  PC3D_HD void operator()(int64_t i) const {
    if (keys[i] >= keys[i + 1]) *disorder = 1;
  }
};

// All coarse voxels that read a fine one: in each axis at most ceil(kernel / stride), those that are not become no_key.
struct ListParents {
  const int64_t* keys;
  Geometry geometry;
  Triple shape;
  int64_t* parents;  // (V, slots of x * slots of y * slots of z)

  PC3D_HD static int64_t slots(int64_t kernel, int64_t stride) { return ceil_div(kernel, stride); }
  PC3D_HD int64_t slots() const {
    return slots(geometry.kernel.x, geometry.stride.x) * slots(geometry.kernel.y, geometry.stride.y) *
           slots(geometry.kernel.z, geometry.stride.z);
  }
  // Parent number `slot` along one axis, or -1.
  PC3D_HD static int64_t parent(int64_t fine, int64_t kernel, int64_t stride, int64_t padding, int64_t size, int64_t slot) {
    const int64_t reach = fine + padding, coarse = reach / stride - slot;
    return coarse >= 0 && coarse < size && reach - stride * coarse < kernel ? coarse : -1;
  }

  PC3D_HD void operator()(int64_t voxel) const {
    const Voxel fine = unpack(keys[voxel]);
    const Geometry& g = geometry;
    const int64_t ny = slots(g.kernel.y, g.stride.y), nz = slots(g.kernel.z, g.stride.z), count = slots();
    for (int64_t slot = 0; slot < count; ++slot) {
      const int64_t x = parent(fine.at.x, g.kernel.x, g.stride.x, g.padding.x, shape.x, slot / (ny * nz));
      const int64_t y = parent(fine.at.y, g.kernel.y, g.stride.y, g.padding.y, shape.y, slot / nz % ny);
      const int64_t z = parent(fine.at.z, g.kernel.z, g.stride.z, g.padding.z, shape.z, slot % nz);
      parents[voxel * count + slot] = x < 0 || y < 0 || z < 0 ? no_key : pack(fine.scan, {x, y, z});
    }
  }
};

}  // namespace pc3d::sparse_map

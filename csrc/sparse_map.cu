#include "sparse_map_kernels.h"

#include "each.cuh"

namespace pc3d {

template void cuda_each(const sparse_map::CountPairs&, int64_t, void*);
template void cuda_each(const sparse_map::PlaceTaps&, int64_t, void*);
template void cuda_each(const sparse_map::WritePairs&, int64_t, void*);
template void cuda_each(const sparse_map::CheckOrder&, int64_t, void*);
template void cuda_each(const sparse_map::ListParents&, int64_t, void*);

}  // namespace pc3d

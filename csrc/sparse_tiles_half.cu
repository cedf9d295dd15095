#include "cuda_block.cuh"

namespace pc3d::tiles {

PC3D_TILES_OF(TensorKind<HalfMath>)

}  // namespace pc3d::tiles

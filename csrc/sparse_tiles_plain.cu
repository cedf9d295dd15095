#include "cuda_block.cuh"

namespace pc3d::tiles {

PC3D_TILES_OF(PlainKind<float>)
PC3D_TILES_OF(PlainKind<double>)

}  // namespace pc3d::tiles

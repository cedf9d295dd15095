#include "sample_columns.h"

namespace pc3d {
namespace {

void check_rows(const Tensor& rows, int64_t count, ScalarType dtype, bool optional, const char* message) {
  check(rows.dim() == 2 && rows.size(1) == 3 && rows.scalar_type() == dtype && rows.is_contiguous() &&
            (rows.size(0) == count || (optional && rows.size(0) == 0)),
        message);
}

}  // namespace

Tensor point_features(const Tensor& rgb, const Tensor& xyz, const Tensor& normals, const Tensor& shift) {
  const int64_t count = xyz.size(0);
  check_rows(xyz, count, ScalarType::Float, false, "point_features: xyz must be contiguous float32 (N, 3)");
  check_rows(rgb, count, ScalarType::Byte, true, "point_features: rgb must be contiguous uint8 (N, 3) or (0, 3)");
  check_rows(normals, count, ScalarType::Float, true, "point_features: normals must be contiguous float32 (N, 3) or (0, 3)");
  check(shift.numel() == 3 && shift.scalar_type() == ScalarType::Float && shift.is_contiguous(),
        "point_features: shift must be float32 (3,)");
  Tensor features = empty(xyz, {count, 9}, ScalarType::Float);
  const uint8_t* color = rgb.size(0) ? data<uint8_t>(rgb) : nullptr;
  const float *point = data<float>(xyz), *normal = normals.size(0) ? data<float>(normals) : nullptr;
  const float* add = data<float>(shift);
  float* out = mutable_data<float>(features);
  torch::stable::parallel_for(0, count, 16384, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t axis = 0; axis < 3; ++axis) {
        out[9 * i + axis] = color ? static_cast<float>(color[3 * i + axis]) / 127.5f - 1.0f + add[axis] : 0.0f;
        out[9 * i + 3 + axis] = point[3 * i + axis];
        out[9 * i + 6 + axis] = normal ? normal[3 * i + axis] : 0.0f;
      }
  });
  return features;
}

std::tuple<Tensor, Tensor> instance_sums(const Tensor& instance, const Tensor& superpoint, const Tensor& xyz,
                                         int64_t num_instances, int64_t num_superpoints) {
  const int64_t count = xyz.size(0);
  check_rows(xyz, count, ScalarType::Float, false, "instance_sums: xyz must be contiguous float32 (N, 3)");
  for (const Tensor* ids : {&instance, &superpoint})
    check(ids->dim() == 1 && ids->size(0) == count && ids->scalar_type() == ScalarType::Long && ids->is_contiguous(),
          "instance_sums: instance and superpoint must be contiguous int64 (N,)");
  Tensor counts = zeros(xyz, {num_instances + 1, num_superpoints}, ScalarType::Long);
  Tensor sums = zeros(xyz, {num_instances, 3}, ScalarType::Double);
  const int64_t *row = data<int64_t>(instance), *column = data<int64_t>(superpoint);
  const float* point = data<float>(xyz);
  int64_t* cell = mutable_data<int64_t>(counts);
  double* sum = mutable_data<double>(sums);
  for (int64_t i = 0; i < count; ++i) {
    ++cell[(row[i] < 0 ? num_instances : row[i]) * num_superpoints + column[i]];
    if (row[i] >= 0)
      for (int64_t axis = 0; axis < 3; ++axis) sum[3 * row[i] + axis] += point[3 * i + axis];
  }
  return {counts, sums};
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) {
  m.impl("point_features", TORCH_BOX(&pc3d::point_features));
  m.impl("instance_sums", TORCH_BOX(&pc3d::instance_sums));
}

// Region growing over a graph of affinities (SAI3D, CVPR 2024).
//
// From each node without a number, in order, breadth first: a neighbour joins where its affinity to the members it touches,
// and with weight hop to those that it touches through one of them, weighted by their sizes, reaches the threshold. Sums go
// over neighbours in ascending order, in float64: the same bits on every machine.
#pragma once

#include "pc3d.h"

namespace pc3d {

// Rows of neighbours: starts (R + 1,) int64, neighbors (E,) int32 ascending in a row and without the node itself, affinity
// (E,) float64; sizes (R,) float64 -> number (R,) int64, dense, by the first node that has it.
Tensor grow_regions(const Tensor& starts, const Tensor& neighbors, const Tensor& affinity, const Tensor& sizes, double threshold,
                    double hop);

}  // namespace pc3d

// Sums over a group of threads and over the pieces of a row, in an order that is fixed by their size.
#pragma once

#include "geometry.h"

namespace hvae::cuda {

// The order of every sum over `group` lanes: halves are added until one value is left. Lane 0 ends
// with the sum. On the host `values` is an array of all lanes; `group_sum` below is its twin.
template <typename Real>
inline Real tree_sum(Real* values, int group) {
  for (int width = group / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) {
      values[lane] += values[lane + width];
    }
  }
  return values[0];
}

// Lane `lane`'s share of the sum over a row's pieces, in float64.
template <typename Real>
HVAE_INLINE double sum_pieces(const Real* partials, std::int64_t pieces, int lane) {
  double sum = 0.0;
  for (std::int64_t piece = lane; piece < pieces; piece += kThreads) {
    sum += static_cast<double>(partials[piece]);
  }
  return sum;
}

#if defined(__CUDACC__)
// All threads of the block must call it.
template <typename Real>
__device__ Real group_sum(Real value, int group) {
  if (group > 32) {  // then the group is the block
    __shared__ Real shared[kThreads];
    shared[threadIdx.x] = value;
    __syncthreads();
    for (int width = group / 2; width >= 32; width /= 2) {
      if (threadIdx.x < width) {
        shared[threadIdx.x] += shared[threadIdx.x + width];
      }
      __syncthreads();
    }
    value = shared[threadIdx.x % 32];
    group = 32;
  }
  for (int width = group / 2; width > 0; width /= 2) {
    value += __shfl_down_sync(0xFFFFFFFFu, value, width, group);
  }
  return value;
}
#endif

}  // namespace hvae::cuda

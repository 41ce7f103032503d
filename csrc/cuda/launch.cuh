// The kernels around the work of a thread, and their launches.
#pragma once

#include <cuda_runtime.h>

#include "kernels.h"
#include "reduce.h"

namespace hvae::cuda {

template <typename Work, typename Real>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(Geometry geometry, Inputs in, Seed seed, ForwardOutputs out) {
  const int groups = kThreads / geometry.group;
  const std::int64_t index =
      static_cast<std::int64_t>(blockIdx.x) * groups + threadIdx.x / geometry.group;
  const int lane = threadIdx.x % geometry.group;
  const bool active = index < geometry.items;
  const Real part = active ? Work::run(geometry, in, seed, out, item_at(geometry, index), lane)
                           : Real(0);
  const Real sum = group_sum(part, geometry.group);
  if (active && lane == 0) {
    static_cast<Real*>(out.partials)[index] = sum;
  }
}

template <typename Work>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(Geometry geometry, BackwardInputs in, Seed seed, BackwardOutputs out) {
  const int groups = kThreads / geometry.group;
  const std::int64_t index =
      static_cast<std::int64_t>(blockIdx.x) * groups + threadIdx.x / geometry.group;
  if (index < geometry.items) {
    Work::run(geometry, in, seed, out, item_at(geometry, index), threadIdx.x % geometry.group);
  }
}

// One block per row.
template <typename Real>
__global__ void __launch_bounds__(kThreads)
    combine_kernel(const Real* partials, std::int64_t pieces, Real* rate) {
  const std::int64_t row = blockIdx.x;
  const double part = sum_pieces(partials + row * pieces, pieces, threadIdx.x);
  const double sum = group_sum(part, kThreads);
  if (threadIdx.x == 0) {
    rate[row] = static_cast<Real>(sum);
  }
}

inline dim3 grid_of(const Geometry& geometry) {
  const std::int64_t groups = kThreads / geometry.group;
  return dim3(static_cast<unsigned>((geometry.items + groups - 1) / groups));
}

template <template <typename, bool> class Work, typename T>
cudaError_t launch_forward(const Extent& extent, const Inputs& in, const Seed& seed,
                           const ForwardOutputs& out, cudaStream_t stream) {
  using Real = typename Compute<T>::type;
  const Geometry geometry = make_geometry(extent, in, {nullptr, 0, 0, 0}, kUnit<T>);
  if (geometry.aligned) {
    forward_kernel<Work<T, true>, Real>
        <<<grid_of(geometry), kThreads, 0, stream>>>(geometry, in, seed, out);
  } else {
    forward_kernel<Work<T, false>, Real>
        <<<grid_of(geometry), kThreads, 0, stream>>>(geometry, in, seed, out);
  }
  if (geometry.pieces > 1) {
    combine_kernel<Real><<<dim3(static_cast<unsigned>(extent.rows)), kThreads, 0, stream>>>(
        static_cast<const Real*>(out.partials), geometry.pieces, static_cast<Real*>(out.rate));
  }
  return cudaGetLastError();
}

template <template <typename, bool> class Work, typename T>
cudaError_t launch_backward(const Extent& extent, const BackwardInputs& in, const Seed& seed,
                            const BackwardOutputs& out, cudaStream_t stream) {
  const Geometry geometry = make_geometry(extent, in.saved, in.d_z, kUnit<T>);
  if (geometry.aligned) {
    backward_kernel<Work<T, true>>
        <<<grid_of(geometry), kThreads, 0, stream>>>(geometry, in, seed, out);
  } else {
    backward_kernel<Work<T, false>>
        <<<grid_of(geometry), kThreads, 0, stream>>>(geometry, in, seed, out);
  }
  return cudaGetLastError();
}

// The four types of one posterior.
template <template <typename, bool> class Work>
const char* forward_by_type(DType dtype, const Extent& extent, const Inputs& in, const Seed& seed,
                            const ForwardOutputs& out, void* stream) {
  const auto queue = static_cast<cudaStream_t>(stream);
  cudaError_t error = cudaErrorInvalidValue;
  switch (dtype) {
    case DType::kFloat32:
      error = launch_forward<Work, float>(extent, in, seed, out, queue);
      break;
    case DType::kFloat64:
      error = launch_forward<Work, double>(extent, in, seed, out, queue);
      break;
    case DType::kBFloat16:
      error = launch_forward<Work, BFloat16>(extent, in, seed, out, queue);
      break;
    case DType::kFloat16:
      error = launch_forward<Work, Float16>(extent, in, seed, out, queue);
      break;
  }
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

template <template <typename, bool> class Work>
const char* backward_by_type(DType dtype, const Extent& extent, const BackwardInputs& in,
                             const Seed& seed, const BackwardOutputs& out, void* stream) {
  const auto queue = static_cast<cudaStream_t>(stream);
  cudaError_t error = cudaErrorInvalidValue;
  switch (dtype) {
    case DType::kFloat32:
      error = launch_backward<Work, float>(extent, in, seed, out, queue);
      break;
    case DType::kFloat64:
      error = launch_backward<Work, double>(extent, in, seed, out, queue);
      break;
    case DType::kBFloat16:
      error = launch_backward<Work, BFloat16>(extent, in, seed, out, queue);
      break;
    case DType::kFloat16:
      error = launch_backward<Work, Float16>(extent, in, seed, out, queue);
      break;
  }
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace hvae::cuda

#include "gaussian.h"

#include "launch.cuh"

namespace hvae::cuda {

const char* gaussian_forward(DType dtype, const Extent& extent, const Inputs& in, const Seed& seed,
                             const ForwardOutputs& out, void* stream) {
  return forward_by_type<GaussianForward>(dtype, extent, in, seed, out, stream);
}

const char* gaussian_backward(DType dtype, const Extent& extent, const BackwardInputs& in,
                              const Seed& seed, const BackwardOutputs& out, void* stream) {
  return backward_by_type<GaussianBackward>(dtype, extent, in, seed, out, stream);
}

}  // namespace hvae::cuda

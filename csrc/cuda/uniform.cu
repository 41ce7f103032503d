#include "uniform.h"

#include "launch.cuh"

namespace hvae::cuda {

const char* uniform_forward(DType dtype, const Extent& extent, const Inputs& in, const Seed& seed,
                             const ForwardOutputs& out, void* stream) {
  return forward_by_type<UniformForward>(dtype, extent, in, seed, out, stream);
}

const char* uniform_backward(DType dtype, const Extent& extent, const BackwardInputs& in,
                              const Seed& seed, const BackwardOutputs& out, void* stream) {
  return backward_by_type<UniformBackward>(dtype, extent, in, seed, out, stream);
}

}  // namespace hvae::cuda

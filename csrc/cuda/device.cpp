// CUDA as a device: torch's current stream, and CUDA's errors as exceptions.
#include "../device.h"

#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include "geometry.h"
#include "kernels.h"

namespace hvae {
namespace {

void check(const char* error) {
  TORCH_CHECK(error == nullptr, "hvae CUDA kernel could not be launched: ", error);
}

void* current_stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

std::int64_t piece_count(const Extent& extent) { return cuda::piece_count(extent); }

void forward(Posterior posterior, DType dtype, const Extent& extent, const Inputs& inputs,
             const Seed& seed, const ForwardOutputs& outputs) {
  const auto kernel =
      posterior == Posterior::kGaussian ? cuda::gaussian_forward : cuda::uniform_forward;
  check(kernel(dtype, extent, inputs, seed, outputs, current_stream()));
}

void backward(Posterior posterior, DType dtype, const Extent& extent, const BackwardInputs& inputs,
              const Seed& seed, const BackwardOutputs& outputs) {
  const auto kernel =
      posterior == Posterior::kGaussian ? cuda::gaussian_backward : cuda::uniform_backward;
  check(kernel(dtype, extent, inputs, seed, outputs, current_stream()));
}

}  // namespace

const Device kCudaDevice{piece_count, forward, backward};

}  // namespace hvae

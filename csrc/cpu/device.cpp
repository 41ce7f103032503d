// The CPU as a device: splits blocks over torch's threads.
#include "../device.h"

#include <ATen/Parallel.h>

#include "kernels.h"

namespace hvae {
namespace {

constexpr std::int64_t kBlocksPerThread = 8;  // at least: 4,096 elements

std::int64_t piece_count(const Extent& extent) { return cpu::piece_count(extent); }

void forward(Posterior posterior, DType dtype, const Extent& extent, const Inputs& inputs,
             const Seed& seed, const ForwardOutputs& outputs) {
  const cpu::Kernels& kernels = cpu::kernels();
  const cpu::Forward kernel = posterior == Posterior::kGaussian ? kernels.gaussian_forward
                                                                : kernels.uniform_forward;
  at::parallel_for(0, cpu::block_count(extent), kBlocksPerThread,
                   [&](std::int64_t begin, std::int64_t end) {
                     kernel(dtype, extent, inputs, seed, outputs, begin, end);
                   });
  const std::int64_t pieces = cpu::piece_count(extent);
  if (pieces > 1) {
    kernels.combine(dtype, extent.rows, pieces, outputs);
  }
}

void backward(Posterior posterior, DType dtype, const Extent& extent, const BackwardInputs& inputs,
              const Seed& seed, const BackwardOutputs& outputs) {
  const cpu::Kernels& kernels = cpu::kernels();
  const cpu::Backward kernel = posterior == Posterior::kGaussian ? kernels.gaussian_backward
                                                                 : kernels.uniform_backward;
  at::parallel_for(0, cpu::block_count(extent), kBlocksPerThread,
                   [&](std::int64_t begin, std::int64_t end) {
                     kernel(dtype, extent, inputs, seed, outputs, begin, end);
                   });
}

}  // namespace

const Device kCpuDevice{piece_count, forward, backward};

}  // namespace hvae

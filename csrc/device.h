// What a device offers to the ops: kernels over bound operands. No torch here.
#pragma once

#include "rows.h"

namespace hvae {

enum class Posterior { kGaussian, kUniform };

struct Device {
  // How many partial sums each row is cut in.
  std::int64_t (*piece_count)(const Extent&);
  void (*forward)(Posterior, DType, const Extent&, const Inputs&, const Seed&,
                  const ForwardOutputs&);
  void (*backward)(Posterior, DType, const Extent&, const BackwardInputs&, const Seed&,
                   const BackwardOutputs&);
};

extern const Device kCpuDevice;
#if defined(HVAE_CUDA)
extern const Device kCudaDevice;  // runs on the current device, in torch's current stream
#endif

}  // namespace hvae

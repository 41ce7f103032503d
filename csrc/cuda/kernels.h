// The CUDA kernels as plain functions: raw pointers, sizes and a stream. No torch here.
//
// Each queues its kernels and returns nullptr, or the text of CUDA's error.
#pragma once

#include "../rows.h"

namespace hvae::cuda {

const char* gaussian_forward(DType, const Extent&, const Inputs&, const Seed&,
                             const ForwardOutputs&, void* stream);
const char* gaussian_backward(DType, const Extent&, const BackwardInputs&, const Seed&,
                              const BackwardOutputs&, void* stream);
const char* uniform_forward(DType, const Extent&, const Inputs&, const Seed&,
                            const ForwardOutputs&, void* stream);
const char* uniform_backward(DType, const Extent&, const BackwardInputs&, const Seed&,
                             const BackwardOutputs&, void* stream);

}  // namespace hvae::cuda

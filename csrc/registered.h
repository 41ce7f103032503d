// What a device offers to the registration: four functions over bound tensors.
#pragma once

#include <tuple>
#include <vector>

#include "ops.h"

namespace hvae {

struct Device {
  std::tuple<at::Tensor, at::Tensor> (*gaussian_forward)(const Bound&, const Call&, bool sample);
  std::vector<at::Tensor> (*gaussian_backward)(const OptionalTensor& d_z,
                                               const OptionalTensor& d_rate, const Bound&,
                                               const Call&);
  std::tuple<at::Tensor, at::Tensor> (*uniform_forward)(const Bound&, const Call&);
  std::vector<at::Tensor> (*uniform_backward)(const OptionalTensor& d_z,
                                              const OptionalTensor& d_rate, const Bound&,
                                              const Call&);
};

const Device& cpu_device();
#if defined(HVAE_CUDA)
const Device& cuda_device();
#endif

}  // namespace hvae

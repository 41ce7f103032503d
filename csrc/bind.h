// From tensors to what the kernels take: checks, extents and operands, the same for every device.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "rows.h"

namespace hvae {

using OptionalTensor = std::optional<at::Tensor>;

// The arguments every op has besides its tensors.
struct Call {
  std::int64_t seed, offset, batch_dims, first_index, copies;
};

// The tensors of one call, kept alive (an unusual layout is copied), and as operands.
struct Bound {
  DType dtype;
  Extent extent;
  Inputs inputs;
  at::Tensor location, scale, mu_p, raw_p;
};

// Checks that the four agree in shape, type and device, and describes them. mu_p and raw_p are both
// there or both absent.
Bound bind(const at::Tensor& location, const at::Tensor& scale, const OptionalTensor& mu_p,
           const OptionalTensor& raw_p, const Call& call);

// The gradient that came back for z, or for the rate [batch], as an operand; `keep` holds a copy.
Operand bind_element_grad(const OptionalTensor& grad, const Bound& bound, const Call& call,
                          at::Tensor& keep);
Operand bind_rate_grad(const OptionalTensor& grad, const Bound& bound, at::Tensor& keep);

// float64 for float64, else float32: the type that rates are summed in.
at::ScalarType rate_type(const at::Tensor& location);

}  // namespace hvae

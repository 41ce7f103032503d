#include "bind.h"

#include <c10/util/Exception.h>

namespace hvae {
namespace {

void check_like(const char* name, const at::Tensor& tensor, const char* first_name,
                const at::Tensor& first) {
  TORCH_CHECK_VALUE(tensor.sizes() == first.sizes(), name, " has shape ", tensor.sizes(), ", ",
                    first_name, " has ", first.sizes());
  TORCH_CHECK_VALUE(tensor.scalar_type() == first.scalar_type(), name, " is ",
                    tensor.scalar_type(), ", ", first_name, " is ", first.scalar_type());
  TORCH_CHECK_VALUE(tensor.device() == first.device(), name, " is on ", tensor.device(), ", ",
                    first_name, " is on ", first.device());
}

// Dimensions [begin, end) as one dimension: its stride, or nothing if no single stride fits.
std::optional<std::int64_t> collapse(const at::Tensor& tensor, std::int64_t begin,
                                     std::int64_t end) {
  std::int64_t stride = 0, next = 0;
  bool found = false;
  for (std::int64_t dim = end - 1; dim >= begin; --dim) {
    if (tensor.size(dim) == 1) {
      continue;
    }
    if (!found) {
      stride = tensor.stride(dim);
      found = true;
    } else if (tensor.stride(dim) != next) {
      return std::nullopt;
    }
    next = tensor.stride(dim) * tensor.size(dim);
  }
  return stride;
}

DType dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return DType::kFloat32;
    case at::kDouble:
      return DType::kFloat64;
    case at::kBFloat16:
      return DType::kBFloat16;
    case at::kHalf:
      return DType::kFloat16;
    default:
      TORCH_CHECK_VALUE(false, "tensors are ", tensor.scalar_type(),
                        "; float32, float64, bfloat16 or float16 are allowed");
  }
}

struct Shape {
  Extent extent;
  std::int64_t batch_dims, outer_dims;
};

// Dimensions [0, outer_dims) are the outer rows, [outer_dims, batch_dims) the inner ones.
Shape shape_of(const at::Tensor& location, const Call& call) {
  const std::int64_t dims = location.dim(), batch = call.batch_dims;
  TORCH_CHECK_VALUE(batch >= 0 && batch <= dims, "batch_dims is ", batch, ", a tensor of shape ",
                    location.sizes(), " allows 0 to ", dims);
  Shape shape{{1, 1, 1, 0, static_cast<std::uint64_t>(call.first_index)}, batch,
              batch > 1 ? 1 : 0};
  for (std::int64_t dim = 0; dim < dims; ++dim) {
    (dim < batch ? shape.extent.rows : shape.extent.cols) *= location.size(dim);
    shape.extent.inner *= dim >= shape.outer_dims && dim < batch ? location.size(dim) : 1;
  }
  TORCH_CHECK_VALUE(call.copies >= 1 && shape.extent.rows % call.copies == 0, "copies is ",
                    call.copies, ", it must divide the ", shape.extent.rows, " rows");
  shape.extent.noise_rows = shape.extent.rows / call.copies;
  return shape;
}

Operand describe(at::Tensor& tensor, const Shape& shape) {
  const auto inner = collapse(tensor, shape.outer_dims, shape.batch_dims);
  const auto columns = collapse(tensor, shape.batch_dims, tensor.dim());
  if (!inner || !columns) {
    tensor = tensor.contiguous();
    return describe(tensor, shape);
  }
  const std::int64_t outer = shape.outer_dims == 1 ? tensor.stride(0) : 0;
  const bool single = shape.extent.cols == 1;
  return {tensor.const_data_ptr(), outer, *inner, single ? 1 : *columns};
}

Operand describe_optional(at::Tensor& tensor, const Shape& shape) {
  return tensor.defined() ? describe(tensor, shape) : Operand{nullptr, 0, 0, 0};
}

}  // namespace

at::ScalarType rate_type(const at::Tensor& location) {
  return location.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

Bound bind(const at::Tensor& location, const at::Tensor& scale, const OptionalTensor& mu_p,
           const OptionalTensor& raw_p, const Call& call) {
  TORCH_CHECK_VALUE(mu_p.has_value() == raw_p.has_value(),
                    "mu_p and raw_p must both be given, or neither");
  check_like("the scale", scale, "the location", location);
  if (mu_p.has_value()) {
    check_like("mu_p", *mu_p, "the location", location);
    check_like("raw_p", *raw_p, "the location", location);
  }
  Bound bound{dtype_of(location), {}, {}, location, scale, mu_p.value_or(at::Tensor()), raw_p.value_or(at::Tensor())};
  const Shape shape = shape_of(location, call);
  bound.extent = shape.extent;
  bound.inputs = {describe(bound.location, shape), describe(bound.scale, shape),
                  describe_optional(bound.mu_p, shape), describe_optional(bound.raw_p, shape)};
  return bound;
}

Operand bind_element_grad(const OptionalTensor& grad, const Bound& bound, const Call& call,
                          at::Tensor& keep) {
  keep = grad.value_or(at::Tensor());
  if (!keep.defined()) {
    return {nullptr, 0, 0, 0};
  }
  check_like("the gradient of z", keep, "the location", bound.location);
  return describe(keep, shape_of(bound.location, call));
}

Operand bind_rate_grad(const OptionalTensor& grad, const Bound& bound, at::Tensor& keep) {
  keep = grad.value_or(at::Tensor());
  if (!keep.defined()) {
    return {nullptr, 0, 0, 0};
  }
  TORCH_CHECK_VALUE(keep.numel() == bound.extent.rows &&
                        keep.scalar_type() == rate_type(bound.location) &&
                        keep.device() == bound.location.device(),
                    "the gradient of the rate has ", keep.numel(), " elements of ",
                    keep.scalar_type(), ", the call has ", bound.extent.rows, " rows");
  keep = keep.contiguous();
  return {keep.const_data_ptr(), bound.extent.inner, 1, 0};
}

}  // namespace hvae

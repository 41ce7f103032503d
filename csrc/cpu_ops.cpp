// Runs the CPU kernels over tensors: allocates outputs and splits blocks over torch's threads.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>

#include "cpu/kernels.h"
#include "registered.h"

namespace hvae {
namespace {

cpu::DType dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return cpu::DType::kFloat32;
    case at::kDouble:
      return cpu::DType::kFloat64;
    case at::kBFloat16:
      return cpu::DType::kBFloat16;
    case at::kHalf:
      return cpu::DType::kFloat16;
    default:
      TORCH_CHECK_VALUE(false, "tensors are ", tensor.scalar_type(),
                        "; float32, float64, bfloat16 or float16 are allowed");
  }
}

template <typename Run>
void over_blocks(const Extent& extent, const Run& run) {
  constexpr std::int64_t blocks_per_thread = 16;
  if (extent.rows > 0 && extent.cols > 0) {
    at::parallel_for(0, cpu::block_count(extent), blocks_per_thread, run);
  }
}

at::Tensor empty_like_contiguous(const at::Tensor& tensor) {
  return at::empty(tensor.sizes(), tensor.options());
}

// Partial sums [rows, pieces]; with empty rows nothing is written and the sum over no pieces is 0.
at::Tensor empty_partials(const Bound& bound) {
  const std::int64_t pieces = bound.extent.cols > 0 ? cpu::piece_count(bound.extent) : 0;
  return at::empty({bound.extent.rows, pieces},
                   bound.location.options().dtype(rate_type(bound.location)));
}

at::Tensor finish_rate(const at::Tensor& partials, const Bound& bound, const Call& call) {
  const at::Tensor rate = partials.size(1) == 1 ? partials : partials.sum(1);
  return rate.view(bound.location.sizes().slice(0, call.batch_dims));
}

std::tuple<at::Tensor, at::Tensor> forward(cpu::Forward kernel, const Bound& bound,
                                           const Call& call, bool sample) {
  const at::Tensor z = sample ? empty_like_contiguous(bound.location) : at::Tensor();
  const at::Tensor partials = empty_partials(bound);
  const ForwardOutputs outputs{sample ? z.mutable_data_ptr() : nullptr,
                               partials.mutable_data_ptr()};
  const cpu::DType dtype = dtype_of(bound.location);
  over_blocks(bound.extent, [&](std::int64_t begin, std::int64_t end) {
    kernel(dtype, bound.extent, bound.inputs, seed_of(call), outputs, begin, end);
  });
  return {z, finish_rate(partials, bound, call)};
}

std::vector<at::Tensor> backward(cpu::Backward kernel, const OptionalTensor& d_z,
                                 const OptionalTensor& d_rate, const Bound& bound,
                                 const Call& call) {
  at::Tensor keep_z, keep_rate;
  const BackwardInputs inputs{bound.inputs, bind_element_grad(d_z, bound, call, keep_z),
                              bind_rate_grad(d_rate, bound, keep_rate)};
  std::vector<at::Tensor> grads;
  for (int i = 0; i < (bound.mu_p.defined() ? 4 : 2); ++i) {
    grads.push_back(empty_like_contiguous(bound.location));
  }
  const bool prior = grads.size() == 4;
  const BackwardOutputs outputs{grads[0].mutable_data_ptr(), grads[1].mutable_data_ptr(),
                                prior ? grads[2].mutable_data_ptr() : nullptr,
                                prior ? grads[3].mutable_data_ptr() : nullptr};
  const cpu::DType dtype = dtype_of(bound.location);
  over_blocks(bound.extent, [&](std::int64_t begin, std::int64_t end) {
    kernel(dtype, bound.extent, inputs, seed_of(call), outputs, begin, end);
  });
  return grads;
}

std::tuple<at::Tensor, at::Tensor> gaussian_forward(const Bound& bound, const Call& call,
                                                    bool sample) {
  return forward(cpu::kernels().gaussian_forward, bound, call, sample);
}

std::vector<at::Tensor> gaussian_backward(const OptionalTensor& d_z, const OptionalTensor& d_rate,
                                          const Bound& bound, const Call& call) {
  return backward(cpu::kernels().gaussian_backward, d_z, d_rate, bound, call);
}

std::tuple<at::Tensor, at::Tensor> uniform_forward(const Bound& bound, const Call& call) {
  return forward(cpu::kernels().uniform_forward, bound, call, true);
}

std::vector<at::Tensor> uniform_backward(const OptionalTensor& d_z, const OptionalTensor& d_rate,
                                         const Bound& bound, const Call& call) {
  return backward(cpu::kernels().uniform_backward, d_z, d_rate, bound, call);
}

}  // namespace

const Device& cpu_device() {
  static const Device device{gaussian_forward, gaussian_backward, uniform_forward,
                             uniform_backward};
  return device;
}

}  // namespace hvae

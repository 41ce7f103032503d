// The ops of namespace `hvae`: their schemas, and one registration per device.
//
// Gradients are registered in autograd.cpp; fake tensors, vmap and autocast in
// hvae_codec/ops/torch_rules.py.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <tuple>
#include <vector>

#include "bind.h"
#include "device.h"

namespace hvae {
namespace {

using TensorPair = std::tuple<at::Tensor, at::Tensor>;
using TensorList = std::vector<at::Tensor>;

Seed seed_of(const Call& call) {
  return {static_cast<std::uint64_t>(call.seed), static_cast<std::uint64_t>(call.offset)};
}

bool is_empty(const Extent& extent) { return extent.rows == 0 || extent.cols == 0; }

at::Tensor new_contiguous(const at::Tensor& like) { return at::empty(like.sizes(), like.options()); }

template <const Device& device>
TensorPair forward(Posterior posterior, const Bound& bound, const Call& call, bool sample) {
  const c10::DeviceGuard guard(bound.location.device());
  const auto batch = bound.location.sizes().slice(0, call.batch_dims);
  const auto options = bound.location.options().dtype(rate_type(bound.location));
  const at::Tensor z = sample ? new_contiguous(bound.location) : at::Tensor();
  if (is_empty(bound.extent)) {
    return {z, at::zeros(batch, options)};
  }
  const std::int64_t pieces = device.piece_count(bound.extent);
  const at::Tensor rate = at::empty(batch, options);
  const at::Tensor partials = pieces > 1 ? at::empty({bound.extent.rows, pieces}, options) : rate;
  const ForwardOutputs outputs{sample ? z.mutable_data_ptr() : nullptr,
                               partials.mutable_data_ptr(), rate.mutable_data_ptr()};
  device.forward(posterior, bound.dtype, bound.extent, bound.inputs, seed_of(call), outputs);
  return {z, rate};
}

template <const Device& device>
TensorList backward(Posterior posterior, const OptionalTensor& d_z, const OptionalTensor& d_rate,
                    const Bound& bound, const Call& call) {
  const c10::DeviceGuard guard(bound.location.device());
  at::Tensor kept_z, kept_rate;
  const BackwardInputs inputs{bound.inputs, bind_element_grad(d_z, bound, call, kept_z),
                              bind_rate_grad(d_rate, bound, kept_rate)};
  const bool prior = bound.mu_p.defined();
  TensorList grads;
  void* outputs[4] = {};
  for (int i = 0; i < (prior ? 4 : 2); ++i) {
    grads.push_back(new_contiguous(bound.location));
    outputs[i] = grads.back().mutable_data_ptr();
  }
  if (!is_empty(bound.extent)) {
    device.backward(posterior, bound.dtype, bound.extent, inputs, seed_of(call),
                    {outputs[0], outputs[1], outputs[2], outputs[3]});
  }
  return grads;
}

template <const Device& device, Posterior posterior>
TensorPair rsample(const at::Tensor& location, const at::Tensor& scale, const OptionalTensor& mu_p,
                   const OptionalTensor& raw_p, std::int64_t seed, std::int64_t offset,
                   std::int64_t batch_dims, std::int64_t first_index, std::int64_t copies) {
  const Call call{seed, offset, batch_dims, first_index, copies};
  return forward<device>(posterior, bind(location, scale, mu_p, raw_p, call), call, true);
}

template <const Device& device, Posterior posterior>
TensorList rsample_backward(const OptionalTensor& d_z, const OptionalTensor& d_rate,
                            const at::Tensor& location, const at::Tensor& scale,
                            const OptionalTensor& mu_p, const OptionalTensor& raw_p,
                            std::int64_t seed, std::int64_t offset, std::int64_t batch_dims,
                            std::int64_t first_index, std::int64_t copies) {
  const Call call{seed, offset, batch_dims, first_index, copies};
  return backward<device>(posterior, d_z, d_rate, bind(location, scale, mu_p, raw_p, call), call);
}

template <const Device& device>
at::Tensor gaussian_kl(const at::Tensor& mu_q, const at::Tensor& raw_q, const OptionalTensor& mu_p,
                       const OptionalTensor& raw_p, std::int64_t batch_dims) {
  const Call call{0, 0, batch_dims, 0, 1};
  const Bound bound = bind(mu_q, raw_q, mu_p, raw_p, call);
  return std::get<1>(forward<device>(Posterior::kGaussian, bound, call, false));
}

template <const Device& device>
TensorList gaussian_kl_backward(const at::Tensor& d_kl, const at::Tensor& mu_q,
                                const at::Tensor& raw_q, const OptionalTensor& mu_p,
                                const OptionalTensor& raw_p, std::int64_t batch_dims) {
  const Call call{0, 0, batch_dims, 0, 1};
  const Bound bound = bind(mu_q, raw_q, mu_p, raw_p, call);
  return backward<device>(Posterior::kGaussian, std::nullopt, d_kl, bound, call);
}

template <const Device& device>
void implement(torch::Library& library) {
  constexpr Posterior gaussian = Posterior::kGaussian, uniform = Posterior::kUniform;
  library.impl("gaussian_rsample_kl", rsample<device, gaussian>);
  library.impl("gaussian_rsample_kl_backward", rsample_backward<device, gaussian>);
  library.impl("gaussian_kl", gaussian_kl<device>);
  library.impl("gaussian_kl_backward", gaussian_kl_backward<device>);
  library.impl("uniform_rsample_nats", rsample<device, uniform>);
  library.impl("uniform_rsample_nats_backward", rsample_backward<device, uniform>);
}

}  // namespace
}  // namespace hvae

TORCH_LIBRARY(hvae, library) {
  library.def(
      "gaussian_rsample_kl(Tensor mu_q, Tensor raw_q, Tensor? mu_p, Tensor? raw_p, SymInt seed, "
      "SymInt offset, int batch_dims, SymInt first_index, SymInt copies) -> (Tensor z, Tensor kl)");
  library.def(
      "gaussian_rsample_kl_backward(Tensor? d_z, Tensor? d_kl, Tensor mu_q, Tensor raw_q, "
      "Tensor? mu_p, Tensor? raw_p, SymInt seed, SymInt offset, int batch_dims, "
      "SymInt first_index, SymInt copies) -> Tensor[]");
  library.def(
      "gaussian_kl(Tensor mu_q, Tensor raw_q, Tensor? mu_p, Tensor? raw_p, int batch_dims) "
      "-> Tensor");
  library.def(
      "gaussian_kl_backward(Tensor d_kl, Tensor mu_q, Tensor raw_q, Tensor? mu_p, Tensor? raw_p, "
      "int batch_dims) -> Tensor[]");
  library.def(
      "uniform_rsample_nats(Tensor mean, Tensor step, Tensor? mu_p, Tensor? raw_p, SymInt seed, "
      "SymInt offset, int batch_dims, SymInt first_index, SymInt copies) -> (Tensor z, Tensor nats)");
  library.def(
      "uniform_rsample_nats_backward(Tensor? d_z, Tensor? d_nats, Tensor mean, Tensor step, "
      "Tensor? mu_p, Tensor? raw_p, SymInt seed, SymInt offset, int batch_dims, "
      "SymInt first_index, SymInt copies) -> Tensor[]");
}

TORCH_LIBRARY_IMPL(hvae, CPU, library) { hvae::implement<hvae::kCpuDevice>(library); }
#if defined(HVAE_CUDA)
TORCH_LIBRARY_IMPL(hvae, CUDA, library) { hvae::implement<hvae::kCudaDevice>(library); }
#endif

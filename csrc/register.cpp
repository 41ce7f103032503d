// The ops of namespace `hvae`: their schemas, and one registration per device.
//
// Autograd, fake tensors, vmap and autocast are registered in hvae_codec/ops_rules.py.
#include <torch/library.h>

#include "registered.h"

namespace hvae {
namespace {

using TensorPair = std::tuple<at::Tensor, at::Tensor>;
using TensorList = std::vector<at::Tensor>;

template <const Device& (*device)()>
TensorPair gaussian_rsample_kl(const at::Tensor& mu_q, const at::Tensor& raw_q,
                               const OptionalTensor& mu_p, const OptionalTensor& raw_p,
                               std::int64_t seed, std::int64_t offset, std::int64_t batch_dims,
                               std::int64_t first_index, std::int64_t copies) {
  const Call call{seed, offset, batch_dims, first_index, copies};
  return device().gaussian_forward(bind(mu_q, raw_q, mu_p, raw_p, call), call, true);
}

template <const Device& (*device)()>
TensorList gaussian_rsample_kl_backward(const OptionalTensor& d_z, const OptionalTensor& d_kl,
                                        const at::Tensor& mu_q, const at::Tensor& raw_q,
                                        const OptionalTensor& mu_p, const OptionalTensor& raw_p,
                                        std::int64_t seed, std::int64_t offset,
                                        std::int64_t batch_dims, std::int64_t first_index,
                                        std::int64_t copies) {
  const Call call{seed, offset, batch_dims, first_index, copies};
  return device().gaussian_backward(d_z, d_kl, bind(mu_q, raw_q, mu_p, raw_p, call), call);
}

template <const Device& (*device)()>
at::Tensor gaussian_kl(const at::Tensor& mu_q, const at::Tensor& raw_q, const OptionalTensor& mu_p,
                       const OptionalTensor& raw_p, std::int64_t batch_dims) {
  const Call call{0, 0, batch_dims, 0, 1};
  return std::get<1>(
      device().gaussian_forward(bind(mu_q, raw_q, mu_p, raw_p, call), call, false));
}

template <const Device& (*device)()>
TensorList gaussian_kl_backward(const at::Tensor& d_kl, const at::Tensor& mu_q,
                                const at::Tensor& raw_q, const OptionalTensor& mu_p,
                                const OptionalTensor& raw_p, std::int64_t batch_dims) {
  const Call call{0, 0, batch_dims, 0, 1};
  return device().gaussian_backward(std::nullopt, d_kl, bind(mu_q, raw_q, mu_p, raw_p, call),
                                    call);
}

template <const Device& (*device)()>
TensorPair uniform_rsample_nats(const at::Tensor& mean, const at::Tensor& step,
                                const OptionalTensor& mu_p, const OptionalTensor& raw_p,
                                std::int64_t seed, std::int64_t offset, std::int64_t batch_dims,
                                std::int64_t first_index, std::int64_t copies) {
  const Call call{seed, offset, batch_dims, first_index, copies};
  return device().uniform_forward(bind(mean, step, mu_p, raw_p, call), call);
}

template <const Device& (*device)()>
TensorList uniform_rsample_nats_backward(const OptionalTensor& d_z, const OptionalTensor& d_nats,
                                         const at::Tensor& mean, const at::Tensor& step,
                                         const OptionalTensor& mu_p, const OptionalTensor& raw_p,
                                         std::int64_t seed, std::int64_t offset,
                                         std::int64_t batch_dims, std::int64_t first_index,
                                         std::int64_t copies) {
  const Call call{seed, offset, batch_dims, first_index, copies};
  return device().uniform_backward(d_z, d_nats, bind(mean, step, mu_p, raw_p, call), call);
}

template <const Device& (*device)()>
void implement(torch::Library& library) {
  library.impl("gaussian_rsample_kl", gaussian_rsample_kl<device>);
  library.impl("gaussian_rsample_kl_backward", gaussian_rsample_kl_backward<device>);
  library.impl("gaussian_kl", gaussian_kl<device>);
  library.impl("gaussian_kl_backward", gaussian_kl_backward<device>);
  library.impl("uniform_rsample_nats", uniform_rsample_nats<device>);
  library.impl("uniform_rsample_nats_backward", uniform_rsample_nats_backward<device>);
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

TORCH_LIBRARY_IMPL(hvae, CPU, library) { hvae::implement<hvae::cpu_device>(library); }
#if defined(HVAE_CUDA)
TORCH_LIBRARY_IMPL(hvae, CUDA, library) { hvae::implement<hvae::cuda_device>(library); }
#endif

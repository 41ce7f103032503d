// Gradients of the ops, for the dispatcher's Autograd key.
//
// They are here and not in Python because a call on a model's own shape takes 15 us: Python's
// registration of a gradient alone adds 30 to that, and as much again on the way back.
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/SymInt.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace hvae {
namespace {

using at::Tensor;
using c10::SymInt;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Optional = std::optional<Tensor>;
using Pair = std::tuple<Tensor, Tensor>;

constexpr char kGaussianRsampleKl[] = "hvae::gaussian_rsample_kl";
constexpr char kUniformRsampleNats[] = "hvae::uniform_rsample_nats";
constexpr char kGaussianKl[] = "hvae::gaussian_kl";

template <const char* name>
auto find_backward() {
  return c10::Dispatcher::singleton().findSchemaOrThrow((std::string(name) + "_backward").c_str(),
                                                        "");
}

Optional present(const Tensor& tensor) {
  return tensor.defined() ? Optional(tensor) : std::nullopt;
}

// The gradients an op returned, two or four, for its four tensors and the numbers after them.
variable_list for_inputs(std::vector<Tensor> grads, std::size_t numbers) {
  grads.resize(4 + numbers);
  return grads;
}

template <const char* name>
struct Rsample : torch::autograd::Function<Rsample<name>> {
  using Signature = Pair(const Tensor&, const Tensor&, const Optional&, const Optional&, SymInt,
                         SymInt, std::int64_t, SymInt, SymInt);
  using BackwardSignature = std::vector<Tensor>(const Optional&, const Optional&, const Tensor&,
                                                const Tensor&, const Optional&, const Optional&,
                                                SymInt, SymInt, std::int64_t, SymInt, SymInt);

  static variable_list forward(AutogradContext* context, const Tensor& location,
                               const Tensor& scale, const Optional& mu_p, const Optional& raw_p,
                               const SymInt& seed, const SymInt& offset, std::int64_t batch_dims,
                               const SymInt& first_index, const SymInt& copies) {
    static const auto op =
        c10::Dispatcher::singleton().findSchemaOrThrow(name, "").template typed<Signature>();
    context->set_materialize_grads(false);
    context->save_for_backward({location, scale, mu_p.value_or(Tensor()), raw_p.value_or(Tensor())});
    context->saved_data["seed"] = seed;
    context->saved_data["offset"] = offset;
    context->saved_data["batch_dims"] = batch_dims;
    context->saved_data["first_index"] = first_index;
    context->saved_data["copies"] = copies;
    const at::AutoDispatchBelowADInplaceOrView guard;
    auto [z, rate] = op.call(location, scale, mu_p, raw_p, seed, offset, batch_dims, first_index,
                             copies);
    return {z, rate};
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    static const auto op = find_backward<name>().template typed<BackwardSignature>();
    if (!grads[0].defined() && !grads[1].defined()) {
      return variable_list(9);
    }
    const auto saved = context->get_saved_variables();
    auto& numbers = context->saved_data;
    return for_inputs(
        op.call(present(grads[0]), present(grads[1]), saved[0], saved[1], present(saved[2]),
                present(saved[3]), numbers["seed"].toSymInt(), numbers["offset"].toSymInt(),
                numbers["batch_dims"].toInt(), numbers["first_index"].toSymInt(),
                numbers["copies"].toSymInt()),
        5);
  }

  static Pair call(const Tensor& location, const Tensor& scale, const Optional& mu_p,
                   const Optional& raw_p, SymInt seed, SymInt offset, std::int64_t batch_dims,
                   SymInt first_index, SymInt copies) {
    const auto outputs = Rsample::apply(location, scale, mu_p, raw_p, seed, offset, batch_dims,
                                        first_index, copies);
    return {outputs[0], outputs[1]};
  }
};

struct Kl : torch::autograd::Function<Kl> {
  using Signature = Tensor(const Tensor&, const Tensor&, const Optional&, const Optional&,
                           std::int64_t);
  using BackwardSignature = std::vector<Tensor>(const Tensor&, const Tensor&, const Tensor&,
                                                const Optional&, const Optional&, std::int64_t);

  static Tensor forward(AutogradContext* context, const Tensor& mu_q, const Tensor& raw_q,
                        const Optional& mu_p, const Optional& raw_p, std::int64_t batch_dims) {
    static const auto op =
        c10::Dispatcher::singleton().findSchemaOrThrow(kGaussianKl, "").typed<Signature>();
    context->save_for_backward({mu_q, raw_q, mu_p.value_or(Tensor()), raw_p.value_or(Tensor())});
    context->saved_data["batch_dims"] = batch_dims;
    const at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(mu_q, raw_q, mu_p, raw_p, batch_dims);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    static const auto op = find_backward<kGaussianKl>().typed<BackwardSignature>();
    const auto saved = context->get_saved_variables();
    return for_inputs(op.call(grads[0], saved[0], saved[1], present(saved[2]), present(saved[3]),
                              context->saved_data["batch_dims"].toInt()),
                      1);
  }

  static Tensor call(const Tensor& mu_q, const Tensor& raw_q, const Optional& mu_p,
                     const Optional& raw_p, std::int64_t batch_dims) {
    return Kl::apply(mu_q, raw_q, mu_p, raw_p, batch_dims);
  }
};

}  // namespace
}  // namespace hvae

TORCH_LIBRARY_IMPL(hvae, Autograd, library) {
  library.impl("gaussian_rsample_kl", hvae::Rsample<hvae::kGaussianRsampleKl>::call);
  library.impl("uniform_rsample_nats", hvae::Rsample<hvae::kUniformRsampleNats>::call);
  library.impl("gaussian_kl", hvae::Kl::call);
}

// The op hvae::integer_convolution: checks, memory and threads.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "kernels.h"

namespace hvae::integer {
namespace {

constexpr std::int64_t kProductsPerThread = 1 << 20;  // at least
constexpr std::int64_t kMaxSide = 64;                 // of a kernel, a stride and a shuffle
constexpr std::int64_t kMaxOutputs = 1 << 20;

void check(const char* name, const at::Tensor& tensor, at::ScalarType type) {
  TORCH_CHECK_VALUE(tensor.scalar_type() == type && tensor.is_contiguous(), name,
                    " must be contiguous and of type ", type, ", not ", tensor.scalar_type());
}

// Describes the inputs; the weights must have just the pairs of channels that they have.
void bind_inputs(Convolution& c, const std::vector<at::Tensor>& inputs) {
  TORCH_CHECK_VALUE(!inputs.empty() && inputs.size() <= kMaxInputs, inputs.size(),
                    " inputs; 1 to ", kMaxInputs, " are allowed");
  const at::ScalarType type = inputs[0].scalar_type();
  TORCH_CHECK_VALUE(type == at::kShort || type == at::kByte,
                    "inputs are int16 or uint8 (128 more than they stand for), not ", type);
  for (const at::Tensor& x : inputs) {
    check("an input", x, type);
    TORCH_CHECK_VALUE(x.dim() == 4, "an input is [N, H, W, C], not ", x.sizes());
    TORCH_CHECK_VALUE(x.sizes().slice(0, 3) == inputs[0].sizes().slice(0, 3),
                      "inputs of different sizes: ", x.sizes(), " and ", inputs[0].sizes());
    const std::int64_t multiple = type == at::kByte ? 4 : 2;
    TORCH_CHECK_VALUE(
        x.size(3) % multiple == 0 && x.size(3) > 0 && x.size(3) <= kMaxChannels, "inputs of ",
        x.size(3), " channels; multiples of ", multiple, " up to ", kMaxChannels, " are allowed");
    c.inputs[c.input_count++] = {x.const_data_ptr(), x.size(3)};
  }
  c.height = inputs[0].size(1);
  c.width = inputs[0].size(2);
}

at::Tensor convolve(const std::vector<at::Tensor>& inputs, const at::Tensor& weights,
                    const at::Tensor& bias, const at::Tensor& positive, const at::Tensor& negative,
                    const std::optional<at::Tensor>& residual, std::int64_t kernel,
                    std::int64_t stride, std::int64_t padding, std::int64_t outputs,
                    std::int64_t shuffle, std::int64_t low, std::int64_t high, bool pixels) {
  Convolution c{};
  bind_inputs(c, inputs);
  TORCH_CHECK_VALUE(kernel >= 1 && kernel <= kMaxSide && stride >= 1 && stride <= kMaxSide &&
                        padding >= 0 && padding < kernel && c.height + 2 * padding >= kernel &&
                        c.width + 2 * padding >= kernel,
                    "a kernel of ", kernel, ", stride ", stride, ", padding ", padding,
                    " does not fit ", c.height, "x", c.width, " positions");
  const bool bytes = inputs[0].scalar_type() == at::kByte;
  check("weights", weights, bytes ? at::kChar : at::kShort);
  check("bias", bias, at::kInt);
  check("positive", positive, at::kFloat);
  check("negative", negative, at::kFloat);
  TORCH_CHECK_VALUE(outputs >= 1 && outputs <= kMaxOutputs, outputs, " outputs; 1 to ", kMaxOutputs,
                    " are allowed");
  c.outputs = outputs;
  const std::int64_t groups = (c.outputs + kGroup - 1) / kGroup;
  std::int64_t channels = 0;
  for (int i = 0; i < c.input_count; ++i) {
    channels += c.inputs[i].channels;
  }
  TORCH_CHECK_VALUE(weights.numel() == groups * kGroup * kernel * kernel * channels &&
                        bias.numel() == groups * kGroup && positive.numel() == bias.numel() &&
                        negative.numel() == bias.numel(),
                    "weights, bias and factors do not fit ", channels, " channels and ", c.outputs,
                    " outputs");
  TORCH_CHECK_VALUE(shuffle >= 1 && shuffle <= kMaxSide && c.outputs % (shuffle * shuffle) == 0,
                    c.outputs, " outputs cannot be shuffled by ", shuffle);
  TORCH_CHECK_VALUE(low <= high && (pixels ? low >= 0 && high <= 255 : low >= -32768 && high <= 32767),
                    "bounds ", low, " to ", high, " do not fit the result");
  c.kernel = static_cast<int>(kernel);
  c.stride = static_cast<int>(stride);
  c.padding = static_cast<int>(padding);
  c.out_height = (c.height + 2 * padding - kernel) / stride + 1;
  c.out_width = (c.width + 2 * padding - kernel) / stride + 1;
  c.weights = weights.const_data_ptr();
  c.bias = bias.const_data_ptr<std::int32_t>();
  const std::int64_t images = inputs[0].size(0);
  const at::Tensor result = at::empty({images, c.out_height * shuffle, c.out_width * shuffle,
                                       c.outputs / (shuffle * shuffle)},
                                      inputs[0].options().dtype(pixels ? at::kByte : at::kShort));
  if (residual) {
    check("the residual", *residual, at::kShort);
    TORCH_CHECK_VALUE(residual->sizes() == result.sizes(), "a residual of ", residual->sizes(),
                      " for a result of ", result.sizes());
  }
  c.output = {nullptr,
              pixels ? nullptr : result.mutable_data_ptr<std::int16_t>(),
              pixels ? result.mutable_data_ptr<std::uint8_t>() : nullptr,
              residual ? residual->const_data_ptr<std::int16_t>() : nullptr,
              positive.const_data_ptr<float>(),
              negative.const_data_ptr<float>(),
              static_cast<std::int16_t>(low),
              static_cast<std::int16_t>(high),
              shuffle};
  const std::int64_t per_row = c.out_width * c.outputs * kernel * kernel * channels;
  const Convolve run = bytes ? kernels().convolve_bytes : kernels().convolve;
  at::parallel_for(0, images * c.out_height,
                   kProductsPerThread / std::max<std::int64_t>(per_row, 1) + 1,
                   [&](std::int64_t begin, std::int64_t end) { run(c, begin, end); });
  return result;
}

at::Tensor narrow(const at::Tensor& values, double factor) {
  check("values", values, at::kShort);
  const at::Tensor result = at::empty(values.sizes(), values.options().dtype(at::kByte));
  const std::int16_t* from = values.const_data_ptr<std::int16_t>();
  std::uint8_t* to = result.mutable_data_ptr<std::uint8_t>();
  const Narrow run = kernels().narrow;
  at::parallel_for(0, values.numel(), kProductsPerThread, [&](std::int64_t begin, std::int64_t end) {
    run(from + begin, end - begin, static_cast<float>(factor), to + begin);
  });
  return result;
}

}  // namespace
}  // namespace hvae::integer

TORCH_LIBRARY_FRAGMENT(hvae, library) {
  library.def(
      "integer_convolution(Tensor[] inputs, Tensor weights, Tensor bias, Tensor positive, "
      "Tensor negative, Tensor? residual, int kernel, int stride, int padding, int outputs, "
      "int shuffle, int low, int high, bool pixels) -> Tensor");
  library.def("integer_narrow(Tensor values, float factor) -> Tensor");
}

TORCH_LIBRARY_IMPL(hvae, CPU, library) {
  library.impl("integer_convolution", hvae::integer::convolve);
  library.impl("integer_narrow", hvae::integer::narrow);
}

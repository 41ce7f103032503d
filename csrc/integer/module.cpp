// hvae_codec._integer: sums of products for entropy coding, without torch.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>

#include "kernels.h"

namespace py = pybind11;

namespace hvae::integer {
namespace {

template <typename Value>
using Array = py::array_t<Value, py::array::c_style>;

// Adds to sums int32 [N, h, w, C] the convolution of values int16 [N, H, W, inputs] by weights in
// groups, padded with zeros; its outputs [r][r][C] are those of r x r positions, h = r H.
void add_sums(Array<std::int32_t> sums, const Array<std::int16_t>& values,
              const Array<std::int16_t>& weights, int kernel, int shuffle) {
  if (sums.ndim() != 4 || values.ndim() != 4 || kernel < 1 || kernel % 2 == 0 || shuffle < 1) {
    throw std::invalid_argument("sums and values are [N, h, w, C]; a kernel is odd, a shuffle >= 1");
  }
  const std::int64_t r = shuffle, inputs = values.shape(3), outputs = sums.shape(3) * r * r;
  const std::int64_t groups = (outputs + kGroup - 1) / kGroup;
  if (values.shape(0) != sums.shape(0) || values.shape(1) * r != sums.shape(1) ||
      values.shape(2) * r != sums.shape(2) || inputs % 2 != 0 || inputs > kMaxChannels ||
      weights.size() != groups * kGroup * kernel * kernel * inputs) {
    throw std::invalid_argument("sums, values and weights do not fit each other");
  }
  Convolution c{};
  c.inputs[0] = {values.data(), inputs};
  c.input_count = 1;
  c.height = c.out_height = values.shape(1);
  c.width = c.out_width = values.shape(2);
  c.outputs = outputs;
  c.kernel = kernel;
  c.stride = 1;
  c.padding = kernel / 2;
  c.weights = weights.data();
  c.output.sums = sums.mutable_data();
  c.output.shuffle = r;
  const std::int64_t rows = values.shape(0) * c.out_height;
  const py::gil_scoped_release unlocked;
  kernels().convolve(c, 0, rows);
}

}  // namespace
}  // namespace hvae::integer

PYBIND11_MODULE(_integer, module) {
  module.doc() = "Sums of products of integers, without torch.";
  module.attr("GROUP") = hvae::integer::kGroup;
  module.def("simd_level", [] { return hvae::integer::kernels().simd_level; });
  module.def("add_sums", &hvae::integer::add_sums, py::arg("sums").noconvert(),
             py::arg("values").noconvert(), py::arg("weights").noconvert(), py::arg("kernel"),
             py::arg("shuffle"));
}

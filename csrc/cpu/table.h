// Defines one table of kernels; each instruction set's file names it and includes this once.
#pragma once

#include "uniform.h"

namespace hvae::cpu {
namespace {

// One kernel's four instances, called by the tensors' type.
template <typename Kernel, Kernel float32, Kernel float64, Kernel bfloat16, Kernel float16>
struct ByType;

template <typename... Arguments, void (*float32)(Arguments...), void (*float64)(Arguments...),
          void (*bfloat16)(Arguments...), void (*float16)(Arguments...)>
struct ByType<void (*)(Arguments...), float32, float64, bfloat16, float16> {
  static void call(DType dtype, Arguments... arguments) {
    switch (dtype) {
      case DType::kFloat32:
        return float32(arguments...);
      case DType::kFloat64:
        return float64(arguments...);
      case DType::kBFloat16:
        return bfloat16(arguments...);
      case DType::kFloat16:
        return float16(arguments...);
    }
  }
};

template <auto float32, auto float64, auto bfloat16, auto float16>
constexpr auto by_type = ByType<decltype(float32), float32, float64, bfloat16, float16>::call;

template <typename Real>
void combine(const ForwardOutputs& out, std::int64_t rows, std::int64_t pieces) {
  const Real* partials = static_cast<const Real*>(out.partials);
  for (std::int64_t row = 0; row < rows; ++row) {
    double sum = 0.0;
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
      sum += partials[row * pieces + piece];
    }
    static_cast<Real*>(out.rate)[row] = static_cast<Real>(sum);
  }
}

inline void combine_by_type(DType dtype, std::int64_t rows, std::int64_t pieces,
                            const ForwardOutputs& out) {
  return dtype == DType::kFloat64 ? combine<double>(out, rows, pieces)
                                  : combine<float>(out, rows, pieces);
}

constexpr Kernels make_kernels(const char* simd_level) {
  return {simd_level,
          by_type<gaussian_forward<float>, gaussian_forward<double>, gaussian_forward<BFloat16>,
                  gaussian_forward<Float16>>,
          by_type<gaussian_backward<float>, gaussian_backward<double>, gaussian_backward<BFloat16>,
                  gaussian_backward<Float16>>,
          by_type<uniform_forward<float>, uniform_forward<double>, uniform_forward<BFloat16>,
                  uniform_forward<Float16>>,
          by_type<uniform_backward<float>, uniform_backward<double>, uniform_backward<BFloat16>,
                  uniform_backward<Float16>>,
          combine_by_type};
}

}  // namespace
}  // namespace hvae::cpu

// The Python module itself: importing it registers the ops; `build_info` says how it was built.
#include <pybind11/pybind11.h>

#include "cpu/kernels.h"
#include "integer/kernels.h"

#define HVAE_TEXT(x) HVAE_TEXT_OF(x)
#define HVAE_TEXT_OF(x) #x

PYBIND11_MODULE(_C, module) {
  module.doc() = "Compiled ops of hvae_codec.";
  module.def("build_info", [] {
    pybind11::dict info;
#if defined(__clang__)
    info["compiler"] = "clang " __clang_version__;
#else
    info["compiler"] = "gcc " __VERSION__;
#endif
    info["torch"] = HVAE_TEXT(HVAE_TORCH_VERSION);
    info["cuda_toolkit"] = HVAE_TEXT(HVAE_CUDA_VERSION);
    info["cuda_architectures"] = HVAE_TEXT(HVAE_CUDA_ARCHITECTURES);
    info["simd_level"] = hvae::cpu::kernels().simd_level;
    info["integer_simd_level"] = hvae::integer::kernels().simd_level;
#if defined(_OPENMP)  // what at::parallel_for goes by
    info["cpu_threads"] = "torch's";
#else
    info["cpu_threads"] = "one";
#endif
    return info;
  });
}

// What vectors this processor has, for the dispatch of all CPU kernels. No torch here.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace hvae {

enum class Simd { kBaseline, kAvx2, kAvx512, kAvx512Vnni };

inline Simd processor_simd() {
#if defined(HVAE_X86)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    return Simd::kBaseline;
  }
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl")) {
    return Simd::kAvx2;
  }
  return __builtin_cpu_supports("avx512vnni") ? Simd::kAvx512Vnni : Simd::kAvx512;
#else
  return Simd::kBaseline;
#endif
}

// The processor's, lowered by HVAE_SIMD=baseline|avx2|avx512|avx512vnni.
inline Simd simd_level() {
  const Simd own = processor_simd();
  const char* wanted = std::getenv("HVAE_SIMD");
  if (wanted == nullptr) {
    return own;
  }
  const char* names[] = {"baseline", "avx2", "avx512", "avx512vnni"};
  for (int level = 0; level < 4; ++level) {
    if (std::strcmp(wanted, names[level]) == 0) {
      return std::min(own, static_cast<Simd>(level));
    }
  }
  return Simd::kBaseline;
}

}  // namespace hvae

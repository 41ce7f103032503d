#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace hvae::cpu {
namespace {

#if defined(HVAE_X86)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

const Kernels& choose() {
  const char* wanted = std::getenv("HVAE_SIMD");
  const auto allowed = [wanted](const char* level) {
    return wanted == nullptr || std::strcmp(wanted, level) == 0;
  };
  if (has_avx512() && allowed("avx512")) {
    return kAvx512;
  }
  if (has_avx2() && (allowed("avx2") || allowed("avx512"))) {
    return kAvx2;
  }
  return kBaseline;
}
#else
const Kernels& choose() { return kBaseline; }
#endif

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace hvae::cpu

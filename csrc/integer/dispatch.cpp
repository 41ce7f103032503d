#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace hvae::integer {
namespace {

#if defined(HVAE_X86)
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

const Kernels& choose() {
  struct Level {
    const char* name;
    bool available;
    const Kernels& kernels;
  };
  const bool avx512 = has_avx512(), avx2 = __builtin_cpu_supports("avx2");
  const Level levels[] = {{"avx512vnni", avx512 && __builtin_cpu_supports("avx512vnni"), kAvx512Vnni},
                          {"avx512", avx512, kAvx512},
                          {"avx2", avx2, kAvx2}};
  const char* wanted = std::getenv("HVAE_SIMD");
  // A level that is wanted bounds those that are tried; without one all are.
  bool reached = wanted == nullptr;
  for (const Level& level : levels) {
    reached = reached || std::strcmp(wanted, level.name) == 0;
    if (reached && level.available) {
      return level.kernels;
    }
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

}  // namespace hvae::integer

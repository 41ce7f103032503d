#include "../simd.h"
#include "kernels.h"

namespace hvae::integer {
namespace {

const Kernels& choose() {
#if defined(HVAE_X86)
  switch (simd_level()) {
    case Simd::kAvx512Vnni:
      return kAvx512Vnni;
    case Simd::kAvx512:
      return kAvx512;
    case Simd::kAvx2:
      return kAvx2;
    case Simd::kBaseline:
      break;
  }
#endif
  return kBaseline;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace hvae::integer

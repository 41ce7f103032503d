#include "avx512.h"

namespace hvae::integer {
const Kernels kAvx512 = {"avx512", convolve<Avx512>};
}  // namespace hvae::integer

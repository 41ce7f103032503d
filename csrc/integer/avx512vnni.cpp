#include "avx512.h"

namespace hvae::integer {
const Kernels kAvx512Vnni = {"avx512vnni", convolve<Avx512>};
}  // namespace hvae::integer

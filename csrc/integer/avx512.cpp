#include "avx512.h"

namespace hvae::integer {
const Kernels kAvx512 = make_kernels<Avx512Words, Avx512Bytes>("avx512");
}  // namespace hvae::integer

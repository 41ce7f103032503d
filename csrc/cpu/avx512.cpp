#include "table.h"

namespace hvae::cpu {
const Kernels kAvx512 = make_kernels("avx512");
}  // namespace hvae::cpu

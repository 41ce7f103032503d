#include "table.h"

namespace hvae::cpu {
const Kernels kAvx2 = make_kernels("avx2");
}  // namespace hvae::cpu

#include "table.h"

namespace hvae::cpu {
const Kernels kBaseline = make_kernels("baseline");
}  // namespace hvae::cpu

#include "avx512.h"

namespace hvae::integer {
const Kernels kAvx512Vnni = make_kernels<Avx512Words, Avx512Bytes>("avx512vnni");
}  // namespace hvae::integer

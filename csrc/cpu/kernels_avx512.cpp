// Compiled with this instruction set's flags: everything is in a namespace of its own,
// so that the linker cannot put these instructions into code for older processors.
#define MAMBA_MM_ISA avx512
#define MAMBA_MM_HALF_VECTORS
#include "vector_avx512.h"

#include "instantiate.h"

namespace mamba_mm {
extern const Kernels kAvx512Float = avx512::kernels<avx512::Vector<float>>("avx512");
}

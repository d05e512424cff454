// Any processor, and the only set with double precision.
#define MAMBA_MM_ISA generic
#define MAMBA_MM_DOUBLE
#include "vector_generic.h"

#include "instantiate.h"

namespace mamba_mm {
extern const Kernels kGenericFloat = generic::kernels<generic::Vector<float>>("generic");
extern const Kernels kGenericDouble = generic::kernels<generic::Vector<double>>("generic");
}

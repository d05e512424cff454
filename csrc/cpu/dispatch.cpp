// The choice of the instruction set, at run time.
#include <torch/csrc/stable/library.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "kernels.h"

namespace mamba_mm {

const Kernels& float_kernels() {
  const char* wanted = getenv("MAMBA_MM_ISA");
  if (wanted != nullptr && *wanted == '\0') wanted = nullptr;
  const auto takes = [&](const Kernels& set, bool runs) {
    return runs && (wanted == nullptr || strcmp(wanted, set.name) == 0);
  };
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (takes(kAvx512Float, avx512)) return kAvx512Float;
  if (takes(kAvx2Float, avx2)) return kAvx2Float;
#endif
  if (takes(kGenericFloat, true)) return kGenericFloat;
  STD_TORCH_CHECK(false, "MAMBA_MM_ISA is '", wanted,
                  "', which is not an instruction set that this processor runs; "
                  "expected avx512, avx2 or generic, or unset it");
}

std::string cpu_instruction_set() { return float_kernels().name; }

}  // namespace mamba_mm

STABLE_TORCH_LIBRARY_IMPL(mamba_mm, CompositeExplicitAutograd, m) {
  m.impl("cpu_instruction_set", TORCH_BOX(&mamba_mm::cpu_instruction_set));
}

// The ops of the emulation, which tests load: the same schemas under another name.
#ifndef MAMBA_MM_EMULATED
#error "emulated_library.cpp belongs to the emulation alone; see tests/test_ops/cuda_builds.py"
#endif
#include "schemas.h"

STABLE_TORCH_LIBRARY(mamba_mm_emulated, m) { mamba_mm::define_scans(m); }

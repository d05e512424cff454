"""The ops as Triton kernels: for GPUs that the CUDA library does not serve, AMD's among them.

Importing this package needs Triton; nothing else of ``mamba_mm`` does.
"""

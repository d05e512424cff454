"""Tensors in, tensors out: the operators of state-space vision models."""

from .backends import BackendStatus, backend_report, default_backend, use_backend
from .linear_add import linear_add
from .linear_gelu import linear_gelu
from .reference import selective_scan_ref
from .route_scan import route_scan
from .selective_scan import selective_scan

__all__ = [
    "BackendStatus",
    "backend_report",
    "default_backend",
    "linear_add",
    "linear_gelu",
    "route_scan",
    "selective_scan",
    "selective_scan_ref",
    "use_backend",
]

"""ToyMANO: a synthetic hand model of MANO's format, for tests and demos without a licence."""

from .arrays import build_toy_mano
from .released_format import save_released_pickle

__all__ = ["build_toy_mano", "save_released_pickle"]

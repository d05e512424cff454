import pytest
import torch

from mamba_mm.ops.extension import EXTENSION


def runnable_instruction_sets():
    if not EXTENSION.loaded:
        return []
    sets = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("avx512", "avx2", "generic"):
            patch.setenv("MAMBA_MM_ISA", name)
            try:
                torch.ops.mamba_mm.cpu_instruction_set()
            except RuntimeError:
                continue
            sets.append(name)
    return sets


@pytest.fixture(params=runnable_instruction_sets() or [None])
def instruction_set(request, monkeypatch):
    if request.param is None:
        pytest.skip(f"the compiled op is not built: {EXTENSION.detail}")
    monkeypatch.setenv("MAMBA_MM_ISA", request.param)
    return request.param


@pytest.fixture
def instruction_sets(monkeypatch):
    """Choose one instruction set after the other: for tests whose expectation takes long."""
    names = runnable_instruction_sets()
    if not names:
        pytest.skip(f"the compiled op is not built: {EXTENSION.detail}")

    def one_by_one():
        for name in names:
            monkeypatch.setenv("MAMBA_MM_ISA", name)
            yield name

    return one_by_one


@pytest.fixture
def compiled():
    if not EXTENSION.loaded:
        pytest.skip(f"the compiled op is not built: {EXTENSION.detail}")

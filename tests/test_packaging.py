"""The distribution: what a wheel holds, and what happens without torch."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import setuptools
import yaml

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("mamba_mm", "configs", "tools", "csrc")
FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "model-index.yml")


@pytest.fixture
def source(tmp_path):
    """A copy of what is needed to build, so that nothing is written into the checkout."""
    if not (ROOT / "setup.py").is_file():
        pytest.skip("not a checkout")
    folder = tmp_path / "source"
    ignore = shutil.ignore_patterns("*.so", "__pycache__", ".mim")
    for name in SHIPPED:
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    return folder


def build_wheel(source, target, **environment):
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps"]
    result = subprocess.run(
        [*command, "-w", str(target), str(source)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = target.glob("mamba_mm-*.whl")
    return wheel, zipfile.ZipFile(wheel).namelist()


@pytest.fixture
def hasty_compiler(tmp_path):
    """The C++ compiler, without optimising: what is in a wheel does not depend on that."""
    path = tmp_path / "c++"
    path.write_text(f'#!/bin/sh\nexec {os.environ.get("CXX", "c++")} "$@" -O0\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.slow
def test_the_wheel_serves_every_python_and_holds_configs_and_tools(
    source, hasty_compiler, tmp_path
):
    # The CUDA kernels take a minute more, and are compiled where the package is installed.
    settings = dict(MAMBA_MM_BUILD_CUDA="0", CXX=hasty_compiler)
    wheel, names = build_wheel(source, tmp_path / "wheels", **settings)
    assert "mamba_mm/_C_cuda.abi3.so" not in names
    assert "-cp310-abi3-" in wheel.name
    assert "mamba_mm/_C.abi3.so" in names
    for path in (*ROOT.glob("configs/**/*.py"), *ROOT.glob("tools/*.py")):
        assert f"mamba_mm/.mim/{path.relative_to(ROOT).as_posix()}" in names
    index = yaml.safe_load((ROOT / "model-index.yml").read_text())
    for name in ("model-index.yml", *index["Import"]):
        assert f"mamba_mm/.mim/{name}" in names
    assert not [name for name in names if "__pycache__" in name]
    metadata = next(name for name in names if name.endswith("METADATA"))
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    required = [
        line
        for line in text.splitlines()
        if line.startswith("Requires-Dist") and "extra" not in line
    ]
    assert sorted(line.split()[1].split(">")[0] for line in required) == ["numpy", "torch"]


def test_a_pure_wheel_needs_no_compiler(source, tmp_path):
    wheel, names = build_wheel(
        source, tmp_path / "wheels", MAMBA_MM_BUILD_EXT="0", CXX="false", CC="false"
    )
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in names if name.endswith(".so")]


def test_without_torch_the_build_says_what_to_install_first(source, tmp_path):
    venv.create(tmp_path / "bare", with_pip=False)
    packages = tmp_path / "packages"
    packages.mkdir()
    installed = Path(setuptools.__file__).parents[1]
    for name in ("setuptools", "_distutils_hack", "pkg_resources"):
        (packages / name).symlink_to(installed / name)
    result = subprocess.run(
        [str(tmp_path / "bare" / "bin" / "python"), "setup.py", "build_ext"],
        cwd=source,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "pip install 'torch>=2.10'" in result.stderr
    assert "Traceback" not in result.stderr

"""Build the compiled op against the torch that is installed, without importing it.

The library uses LibTorch's stable ABI and Python's limited API, so one file serves
torch 2.10 and later and Python 3.10 and later. Set ``MAMBA_MM_BUILD_EXT=0`` for a
pure-Python wheel, which runs on the slower ``torch`` backend.
"""

import importlib.util
import os
import platform
import re
import shutil
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent.resolve()
MIN_TORCH = (2, 10)
X86 = platform.machine().lower() in ("x86_64", "amd64")

# Kernels are compiled once per instruction set and chosen at run time, so only
# these files may use more than the platform's baseline.
ISA_FLAGS = {
    "kernels_avx2.cpp": ["-mavx2", "-mfma", "-mf16c"],
    "kernels_avx512.cpp": [
        *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq"),
        *("-mavx2", "-mfma", "-mf16c", "-mprefer-vector-width=512"),
    ],
}


def find_torch():
    """Return the folder of the installed torch package.

    Under pip's build isolation the environment's packages are hidden from ``import``
    but still where ``sysconfig`` says.
    """
    spec = importlib.util.find_spec("torch")
    candidates = [Path(spec.origin).parent] if spec and spec.origin else []
    candidates += [Path(sysconfig.get_path(kind)) / "torch" for kind in ("purelib", "platlib")]
    for folder in candidates:
        if (folder / "include" / "torch" / "csrc" / "stable").is_dir():
            return folder
    raise SystemExit(
        "mamba_mm: no installed torch found to build against (torch >= 2.10 is needed).\n"
        "Install torch first, then mamba_mm:\n"
        "    pip install 'torch>=2.10'\n"
        "    pip install .\n"
        "Or set MAMBA_MM_BUILD_EXT=0 for a pure-Python install with the slower torch backend."
    )


def check_torch_version(folder):
    text = (folder / "version.py").read_text()
    version = re.search(r"__version__ = '([^']+)'", text)[1]
    if tuple(int(part) for part in version.split(".")[:2]) < MIN_TORCH:
        raise SystemExit(
            f"mamba_mm: torch {version} is installed, but its stable ABI is complete from "
            "2.10 on. Install torch >= 2.10, or set MAMBA_MM_BUILD_EXT=0."
        )


class BuildExtension(build_ext):
    """Compile each source with its own flags, several at a time."""

    def build_extension(self, ext):
        torch = find_torch()
        check_torch_version(torch)
        includes = [torch / "include", torch / "include" / "torch" / "csrc" / "api" / "include"]
        macros = [("TORCH_TARGET_VERSION", "0x020a000000000000"), ("NDEBUG", None)]
        flags = ["-std=c++17", "-O3", "-fno-math-errno", "-fvisibility=hidden"]
        # Contraction changes nothing that the tests allow for; -ffast-math would fold
        # the rounding tricks of the exponential away.
        flags += ["-ffp-contract=fast", "-Wall", "-Wno-psabi", "-Wno-ignored-attributes"]
        # GCC 12 warns about its own intrinsics headers.
        flags += ["-Wno-maybe-uninitialized", "-Wno-uninitialized"]

        def compile_one(source):
            return self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                macros=macros,
                include_dirs=[str(path) for path in (ROOT / "csrc", *includes)],
                extra_postargs=flags + ISA_FLAGS.get(Path(source).name, []),
                depends=ext.depends,
            )

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = [name for names in pool.map(compile_one, ext.sources) for name in names]
        self.compiler.link_shared_object(
            objects,
            self.get_ext_fullpath(ext.name),
            libraries=["c10", "torch_cpu", "torch"],
            library_dirs=[str(torch / "lib")],
            build_temp=self.build_temp,
            target_lang="c++",
        )

    def get_export_symbols(self, ext):
        return []  # loaded by torch.ops.load_library, so there is no PyInit function


class BuildPy(build_py):
    """Put configs and tools where OpenMMLab's own packages keep them: ``.mim``."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for name in ("configs", "tools"):
                target = Path(self.build_lib) / "mamba_mm" / ".mim" / name
                shutil.rmtree(target, ignore_errors=True)
                ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
                shutil.copytree(ROOT / name, target, ignore=ignored)
            shutil.copy(ROOT / "model-index.yml", target.parent)


class BdistWheel(bdist_wheel):
    def finalize_options(self):
        if self.distribution.ext_modules:
            self.py_limited_api = "cp310"
        super().finalize_options()


def extensions():
    if os.environ.get("MAMBA_MM_BUILD_EXT", "1") == "0":
        return []
    find_torch()
    csrc = ROOT / "csrc"
    sources = [path for path in csrc.rglob("*.cpp") if X86 or path.name not in ISA_FLAGS]
    return [
        Extension(
            "mamba_mm._C",
            sources=sorted(str(path.relative_to(ROOT)) for path in sources),
            depends=sorted(str(path) for path in csrc.rglob("*.h")),
            py_limited_api=True,
        )
    ]


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildExtension, "build_py": BuildPy, "bdist_wheel": BdistWheel},
)

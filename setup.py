"""Build the compiled op against the torch that is installed, without importing it.

The library uses LibTorch's stable ABI and Python's limited API, so one file serves
torch 2.10 and later and Python 3.10 and later. Set ``MAMBA_MM_BUILD_EXT=0`` for a
pure-Python wheel, which runs on the slower ``torch`` backend.

Where ``nvcc`` is found (``CUDA_HOME`` or ``PATH``), the CUDA kernels become a second library,
which also loads where there is no GPU. ``MAMBA_MM_CUDA_ARCHS`` names the compute capabilities to
compile for, such as ``80;90`` (default ``80;90;100``); later GPUs run from the last one's PTX.
No GPU is asked or needed. Set ``MAMBA_MM_BUILD_CUDA=0`` to leave it out.
"""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent.resolve()
MIN_TORCH = (2, 10)
TORCH_LIBRARIES = ["c10", "torch_cpu", "torch"]
REGISTER_REPORTS = ROOT / "build" / "ptxas"
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


def find_nvcc():
    """Return the CUDA compiler, or None where there is none."""
    if os.environ.get("MAMBA_MM_BUILD_CUDA", "1") == "0":
        return None
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = shutil.which("nvcc", path=str(Path(home) / "bin")) if home else None
    return nvcc or shutil.which("nvcc")


def cuda_architectures():
    """Return the compute capabilities that the environment names, such as ``80``."""
    text = os.environ.get("MAMBA_MM_CUDA_ARCHS") or "80;90;100"
    names = [name.replace(".", "") for name in re.split(r"[;, ]+", text.strip("; ,"))]
    for name in names:
        if not re.fullmatch(r"\d{2,3}[af]?", name):
            raise SystemExit(
                f"mamba_mm: MAMBA_MM_CUDA_ARCHS={text!r} names {name!r}, expected compute "
                "capabilities such as 80;90;100 or 8.0;9.0"
            )
    return names


def architecture_flags(names):
    """Return nvcc's flags: machine code for all, and for later GPUs the last one's PTX."""
    flags = [f"-gencode=arch=compute_{name},code=sm_{name}" for name in names]
    return [*flags, f"-gencode=arch=compute_{names[-1]},code=compute_{names[-1]}"]


def flags_of(source):
    """Return what a single C++ file is compiled with beside what all are."""
    name = Path(source).name
    if name == "architectures.cpp":
        return [f'-DMAMBA_MM_CUDA_ARCHS="{";".join(cuda_architectures())}+PTX"']
    return ISA_FLAGS.get(name, [])


def run_nvcc(command, purpose):
    print(" ".join(command), flush=True)
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    said = outcome.stdout + outcome.stderr
    print(said, end="", flush=True)
    if outcome.returncode != 0:
        raise SystemExit(
            f"mamba_mm: nvcc ({command[0]}) could not {purpose}; its messages are above.\n"
            "CUDA 12.8 or later knows the default architectures; for an older one name yours, "
            "as in MAMBA_MM_CUDA_ARCHS='80;90'.\n"
            "Or set MAMBA_MM_BUILD_CUDA=0 to install without the CUDA kernels; on a GPU the "
            "slower Triton or torch backend then serves."
        )
    return said


class BuildExtension(build_ext):
    """Compile each source with its own flags, several at a time."""

    def build_extension(self, ext):
        torch = find_torch()
        check_torch_version(torch)
        nvcc = find_nvcc() if any(name.endswith(".cu") for name in ext.sources) else None
        includes = [torch / "include", torch / "include" / "torch" / "csrc" / "api" / "include"]
        macros = [("TORCH_TARGET_VERSION", "0x020a000000000000"), ("NDEBUG", None)]
        flags = ["-std=c++17", "-O3", "-fno-math-errno", "-fvisibility=hidden"]
        # Contraction changes nothing that the tests allow for; -ffast-math would fold
        # the rounding tricks of the exponential away.
        flags += ["-ffp-contract=fast", "-Wall", "-Wno-psabi", "-Wno-ignored-attributes"]
        # GCC 12 warns about its own intrinsics headers.
        flags += ["-Wno-maybe-uninitialized", "-Wno-uninitialized"]

        def compile_one(source):
            if source.endswith(".cu"):
                return [self.compile_kernels(nvcc, source)]
            return self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                macros=macros,
                include_dirs=[str(path) for path in (ROOT / "csrc", *includes)],
                extra_postargs=flags + flags_of(source),
                depends=ext.depends,
            )

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = [name for names in pool.map(compile_one, ext.sources) for name in names]
        path = self.get_ext_fullpath(ext.name)
        if nvcc:
            self.link_kernels(nvcc, objects, path, torch)
            return
        self.compiler.link_shared_object(
            objects,
            path,
            libraries=TORCH_LIBRARIES,
            library_dirs=[str(torch / "lib")],
            build_temp=self.build_temp,
            target_lang="c++",
        )

    def compile_kernels(self, nvcc, source):
        """Compile one file of kernels for all architectures; torch's headers are not in it."""
        target = Path(self.build_temp) / f"{source}.o"
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [nvcc, "-c", source, "-o", str(target), "-std=c++17", "-O3", "-DNDEBUG"]
        command += ["--expt-relaxed-constexpr", "--threads=2"]
        command += architecture_flags(cuda_architectures())
        command += ["-Xcompiler=-fPIC,-fvisibility=hidden", f"-I{ROOT / 'csrc'}", "-Xptxas=-v"]
        said = run_nvcc(command, f"compile {source}")
        # Registers and spills of every kernel: the tests assert them.
        REGISTER_REPORTS.mkdir(parents=True, exist_ok=True)
        (REGISTER_REPORTS / f"{Path(source).name}.txt").write_text(said)
        return str(target)

    def link_kernels(self, nvcc, objects, path, torch):
        """Link by nvcc, which knows where its runtime is and links it statically.

        PyTorch's own copy may be of another version, or absent.
        """
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        libraries = [f"-l{name}" for name in TORCH_LIBRARIES]
        command = [nvcc, "-shared", "-o", path, *objects, f"-L{torch / 'lib'}", *libraries]
        run_nvcc(command, "link the CUDA kernels")

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


def extension(name, sources):
    return Extension(
        name,
        sources=sorted(str(path.relative_to(ROOT)) for path in sources),
        depends=sorted(str(path) for path in (ROOT / "csrc").rglob("*.h")),
        py_limited_api=True,
    )


def extensions():
    if os.environ.get("MAMBA_MM_BUILD_EXT", "1") == "0":
        return []
    find_torch()
    csrc = ROOT / "csrc"
    of_cpu = [*csrc.glob("*.cpp"), *(csrc / "cpu").glob("*.cpp")]
    of_cpu = [path for path in of_cpu if X86 or path.name not in ISA_FLAGS]
    found = [extension("mamba_mm._C", of_cpu)]
    if find_nvcc():
        of_cuda = [*(csrc / "cuda").glob("*.cpp"), *(csrc / "cuda").glob("*.cu")]
        of_cuda = [path for path in of_cuda if path.name != "emulated_library.cpp"]
        found.append(extension("mamba_mm._C_cuda", of_cuda))
    return found


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildExtension, "build_py": BuildPy, "bdist_wheel": BdistWheel},
)

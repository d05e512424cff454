#!/usr/bin/env bash
# Make, or complete, the Python environment of this project.
#
# Steps that are done are skipped, so an interrupted call can simply be repeated.
# Every version comes from requirements/constraints.txt.
#
#   MAMBA_MM_ENV    where the environment goes      (default: .venv in the checkout)
#   MAMBA_MM_CACHE  where the built mmcv wheel goes (default: ~/.cache/mamba_mm)
#   PYTHON          the interpreter to build it on  (default: python3)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
env=${MAMBA_MM_ENV:-$root/.venv}
cache=${MAMBA_MM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mamba_mm}
python=${PYTHON:-python3}
pins=$root/requirements/constraints.txt
stamps=$env/.mamba_mm

say() { printf '\n[setup] %s\n' "$*"; }
die() { printf '\n[setup] error: %s\n' "$*" >&2; exit 1; }

pin() { # pin NAME -> the pinned version of NAME
  sed -n "s/^$1==//p" "$pins"
}

hash_of() { cat "$@" | sha256sum | cut -c1-16; }

# once NAME KEY COMMAND...: run the command unless it has succeeded with this key before.
once() {
  local name=$1 key=$2
  shift 2
  if [ "$(cat "$stamps/$name" 2>/dev/null || true)" = "$key" ]; then return; fi
  say "$name"
  "$@"
  mkdir -p "$stamps"
  echo "$key" >"$stamps/$name"
}

pip() { "$env/bin/python" -m pip --disable-pip-version-check "$@"; }

check_machine() {
  command -v "$python" >/dev/null || die "$python not found; install Python 3.10, 3.11 or 3.12"
  "$python" - <<'PY' || die "Python 3.10, 3.11 or 3.12 is needed; set PYTHON to such an interpreter"
import sys
sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PY
  "$python" -c 'import ensurepip' 2>/dev/null ||
    die "this Python cannot make environments; on Debian or Ubuntu: apt-get install python3-venv"
  "$python" - <<'PY' || die "Python.h is missing, mmcv cannot be compiled; on Debian or Ubuntu: apt-get install python3-dev"
import pathlib, sys, sysconfig
sys.exit(not (pathlib.Path(sysconfig.get_paths()["include"]) / "Python.h").is_file())
PY
  command -v "${CXX:-c++}" >/dev/null ||
    die "no C++ compiler; on Debian or Ubuntu: apt-get install g++"
}

make_venv() { "$python" -m venv "$env"; }

install_build_tools() {
  pip install -q -c "$pins" -U pip wheel setuptools ninja psutil cython numpy
}

install_torch() { pip install -c "$pins" torch torchvision; }

# mmcv has compiled ops and no wheel for every Python and torch: build it once per
# user. pip's own cache does not know which torch a wheel was built against, so the
# wheel is kept in a folder that does.
install_mmcv() {
  local tag wheels built
  tag=$("$env/bin/python" -c 'import platform, sys; print(f"cp{sys.version_info[0]}{sys.version_info[1]}-{platform.machine()}")')
  wheels=$cache/wheels/torch$(pin torch)-$tag
  built=$wheels/onedl_mmcv-$(pin onedl-mmcv)
  if ! compgen -G "$built-*.whl" >/dev/null; then
    say "building mmcv (78 files, about ten minutes on two cores; only the first time)"
    local tmp
    mkdir -p "$wheels"
    tmp=$(mktemp -d "$wheels/build.XXXXXX")
    # pip is silent while it compiles; -v and the filter show ninja's "[n/78]".
    CFLAGS="-g0 -O1" MAX_JOBS=${MAX_JOBS:-$(nproc)} MMCV_WITH_OPS=1 FORCE_CUDA=0 \
      "$env/bin/python" -m pip wheel -v --no-cache-dir --no-deps --no-build-isolation \
      --no-binary onedl-mmcv -w "$tmp" "onedl-mmcv==$(pin onedl-mmcv)" 2>&1 |
      tee "$tmp/log" | awk 'match($0, /^ *\[[0-9]+\/[0-9]+\]/) { print "  mmcv " substr($0, RSTART, RLENGTH); fflush() }' ||
      { tail -n 30 "$tmp/log" >&2; die "mmcv did not build; the whole log is $tmp/log"; }
    mv "$tmp"/*.whl "$wheels/"
    rm -rf "$tmp"
  fi
  pip install -c "$pins" "$built"-*.whl
}

install_toolboxes() {
  pip install -c "$pins" onedl-mmengine onedl-mmdetection onedl-mmpretrain onedl-mmsegmentation ftfy
}

# MMPose asks for chumpy, which it never imports and which does not build any more:
# hence --no-deps. The published xtcocotools wheel is for NumPy 1: hence the source.
install_mmpose() {
  pip install -c "$pins" --no-build-isolation --no-binary xtcocotools --no-deps xtcocotools
  pip install -c "$pins" json_tricks munkres
  pip install -c "$pins" --no-deps mmpose
}

# The metrics and the file formats of medical segmentation.
install_medical() { pip install -c "$pins" monai h5py; }

# Files of meshes, and points on their surfaces.
install_meshes() { pip install -c "$pins" trimesh; }

# Two distributions share the cv2 folder. The headless one goes in last, because the
# other needs libGL, which a server does not have.
settle_opencv() {
  pip install -q -c "$pins" --force-reinstall --no-deps opencv-python-headless
}

install_test_tools() { pip install -q -c "$pins" pytest pytest-timeout pytest-xdist hypothesis ruff; }

install_project() {
  pip install -q --no-build-isolation --no-deps -e "$root"
}

check_machine
pins_key=$(hash_of "$pins")
once venv "$("$python" -c 'import sys; print(sys.version)')" make_venv
once build-tools "$pins_key" install_build_tools
once torch "$(pin torch) $(pin torchvision)" install_torch
once mmcv "$(pin onedl-mmcv) $(pin torch)" install_mmcv
once toolboxes "$pins_key" install_toolboxes
once mmpose "$pins_key" install_mmpose
once medical "$pins_key" install_medical
once meshes "$pins_key" install_meshes
once opencv "$pins_key" settle_opencv
once test-tools "$pins_key" install_test_tools
compgen -G "$root/mamba_mm/_C*.so" >/dev/null || rm -f "$stamps/project" # removed by hand
once project "$root $(hash_of "$root/setup.py" "$root/pyproject.toml" $(find "$root/csrc" -type f | sort))" install_project
say "the environment is ready: $env"

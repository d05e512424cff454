#!/usr/bin/env bash
# Do whatever set-up is missing, then lint and run the tests.
#
#   bash tools/run_tests.sh                 the fast tests
#   bash tools/run_tests.sh -m slow         the slow ones (minutes each)
#
# Further arguments go to pytest. One process a core runs them, each on one thread:
# MAMBA_MM_TEST_JOBS says how many. MAMBA_MM_ENV and the other variables of
# tools/setup_env.sh are honoured.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
env=${MAMBA_MM_ENV:-$PWD/.venv}

bash tools/setup_env.sh
"$env/bin/ruff" check .
"$env/bin/ruff" format --check .
if [ $# -eq 0 ]; then set -- -m "not slow"; fi
jobs=${MAMBA_MM_TEST_JOBS:-$(nproc)} # asked before the next line, which nproc would obey
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# Compiled tests are kept for the next run, even where the environment says not to: 8 s a process.
export PYTHONDONTWRITEBYTECODE=
# Files go to the processes in the order of tests/conftest.py, the longest first.
# A test that waits for what does not come fails after ten minutes, and says where it waited.
exec "$env/bin/python" -m pytest -n "$jobs" --dist loadfile --no-loadscope-reorder --timeout 600 "$@"

"""Training and testing through the very commands that a user types."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
DATA_DIR = Path(os.environ.get("MAMBA_MM_DATA_DIR", ROOT.parent / "shared" / "data"))

# Threads that wait busily are twenty times slower as soon as another process wants a core.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}


def run_tool(name, *arguments, **environment):
    """Run ``tools/NAME.py`` as a process; return what it printed."""
    command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | WAITING | {key: str(value) for key, value in environment.items()},
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout + run.stderr


def train_and_test(config, folder, *flags, **environment):
    """Train, with further flags, then test the last checkpoint.

    Returns:
        Its metrics, what the test printed, and the pictures.
    """
    run_tool("train", config, "--work-dir", folder / "train", *flags, **environment)
    checkpoint = (folder / "train" / "last_checkpoint").read_text().strip()
    pictures = folder / "pictures"
    printed = run_tool(
        *("test", config, checkpoint, "--work-dir", folder / "test", "--show-dir", pictures),
        **environment,
    )
    (metrics,) = (folder / "test").glob("*/*.json")
    drawn = [path for path in pictures.rglob("*") if path.suffix in (".png", ".jpg")]
    return json.loads(metrics.read_text()), printed, sorted(drawn)

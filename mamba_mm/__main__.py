"""``python -m mamba_mm``: what is installed and usable; ``train`` and ``test`` a config.

usage:
    python -m mamba_mm                        print the report on the environment
    python -m mamba_mm train CONFIG [...]     run the train script of the config's toolbox
    python -m mamba_mm test CONFIG WEIGHTS    run its test script
"""

import sys

from mamba_mm.apis.env_report import environment_report
from mamba_mm.apis.toolbox_scripts import main as run_script


def main(arguments: list[str]) -> int:
    """Run one command; return the exit status."""
    if not arguments or arguments == ["env"]:
        print(environment_report())
        return 0
    command, *rest = arguments
    if command in ("train", "test"):
        return run_script(command, rest)
    if command in ("-h", "--help", "help"):
        print(__doc__.strip())
        return 0
    print(f"error: unknown command {command!r}; expected train, test or nothing", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

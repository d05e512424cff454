"""Run ``tools/train.py`` of the toolbox that a config belongs to.

The toolbox is the config's ``default_scope``; all arguments are passed through.

Example:
    python tools/train.py configs/mmdet/vmamba/rtmdet-ins_vmamba-nano_fpn_shapes.py --resume
"""

import sys

from mamba_mm.apis.toolbox_scripts import main

if __name__ == "__main__":
    sys.exit(main("train", sys.argv[1:]))

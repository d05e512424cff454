# Vim-Ti.
_base_ = "../../_base_/vim/in1k.py"

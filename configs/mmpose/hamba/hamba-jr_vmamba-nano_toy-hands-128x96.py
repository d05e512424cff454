"""The first of two stages on drawn hands: the joints regressor alone, from scratch."""

_base_ = "./hamba_vmamba-nano_toy-hands-128x96.py"

model = dict(head=dict(stage="regressor"))

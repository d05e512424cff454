"""The demo's detector with a small Swin, of the widths and about the parameters of VMamba nano.

Only the backbone differs from the config below: it is what a comparison is about. Widths and
blocks are nano's, one block more in each of the first two stages, so that every stage but the last
has a shifted window; windows of 4 suit maps of 32 positions and fewer. Its layer norms are
what Swin is made of; nano has batch norms here.
"""

_base_ = "../vmamba/rtmdet-ins_vmamba-nano_fpn_shapes.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmdet.SwinTransformer",
        embed_dims=32,
        depths=(2, 2, 2, 1),
        num_heads=(1, 2, 4, 8),
        window_size=4,
        drop_path_rate=0.0,  # as nano
        out_indices=(1, 2, 3),
    ),
)

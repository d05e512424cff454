"""Ready-made comparisons: our models and the toolbox's baselines of about the same cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A config to compare.

    Attributes:
        config: Its path, or ``package::path`` for one that came with an installed package.
        name: What to call it; empty for the name of the file.
    """

    config: str
    name: str = ""


@dataclass(frozen=True)
class ReadySet:
    """Configs of one task, and the sizes that the task is done at.

    Attributes:
        baseline: Name of the entry that ratios are taken against.
        shapes: Images, as ``--shapes`` takes them.
        entries: The configs, ours first.
    """

    baseline: str
    shapes: tuple[str, ...]
    entries: tuple[Entry, ...]


_POSE = "mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_"

SETS: dict[str, ReadySet] = {
    "classification": ReadySet(
        "Swin-T",
        ("224@8", "224", "384", "512", "768"),
        (
            Entry("mamba_mm::mmpretrain/vmamba/vmamba-tiny-s1l8_8xb128_in1k.py", "VMamba-T"),
            Entry("mamba_mm::mmpretrain/vim/vim-small_8xb64_in1k.py", "Vim-S"),
            Entry("mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py", "Swin-T"),
            Entry("mmpretrain::deit/deit-small_4xb256_in1k.py", "DeiT-S"),
            Entry("mmpretrain::convnext/convnext-tiny_32xb128_in1k.py", "ConvNeXt-T"),
            Entry("mmpretrain::resnet/resnet50_8xb32_in1k.py", "ResNet-50"),
        ),
    ),
    "detection": ReadySet(
        "Swin-T",
        ("512", "640", "800x1280"),
        (
            Entry("mamba_mm::mmdet/vmamba/mask-rcnn_vmamba-t_fpn_1x_coco.py", "VMamba-T"),
            Entry("mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py", "Swin-T"),
            Entry(
                "mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py",
                "ConvNeXt-T",
            ),
            Entry("mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py", "ResNet-50"),
        ),
    ),
    "segmentation": ReadySet(
        "Swin-T",
        ("512", "640", "512x1024"),
        (
            Entry(
                "mamba_mm::mmseg/vmamba/vmamba-t-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py",
                "VMamba-T",
            ),
            Entry(
                "mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py",
                "Swin-T",
            ),
            Entry(
                "mmseg::convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py",
                "ConvNeXt-T",
            ),
        ),
    ),
    "pose": ReadySet(
        "Swin-T",
        ("256x192@8", "256x192", "384x288", "512x384"),
        (
            Entry("mamba_mm::mmpose/vmamba/td-hm_vmamba-t_8xb64-210e_coco-256x192.py", "VMamba-T"),
            Entry(f"{_POSE}swin-t-p4-w7_8xb32-210e_coco-256x192.py", "Swin-T"),
            Entry(f"{_POSE}hrnet-w32_8xb64-210e_coco-256x192.py", "HRNet-W32"),
            Entry(f"{_POSE}res50_8xb64-210e_coco-256x192.py", "ResNet-50"),
            Entry(f"{_POSE}ViTPose-small_8xb64-210e_coco-256x192.py", "ViTPose-S"),
        ),
    ),
}
"""By name, as ``--set`` takes them."""

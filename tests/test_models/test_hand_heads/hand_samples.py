"""Small heads, and labels that a hand model makes."""

import torch
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from mmpose.structures import PoseDataSample

from mamba_mm.models.body_models import MANOLayer
from mamba_mm.models.body_models.camera import project_crop
from mamba_mm.models.body_models.rotations import axis_angle_to_matrix
from mamba_mm.registry import MODELS

TOY = dict(mano=dict(mano_path="toy"))
DECODER = dict(type="mamba_mm.MANOLabel", input_size=(192, 256))
SMALL = {
    "MANOHead": {},
    "HaMeRHead": dict(embed_dims=16, depth=2, num_heads=2, head_channels=4, mlp_channels=8),
    "HambaHead": dict(embed_dims=16, jr=dict(depth=1), ssm=dict(mlp_ratio=1.0)),
}
HEADS = tuple(SMALL)
CHANNELS = 12


def build_head(name="HambaHead", small=True, **settings):
    """A head as a config of MMPose builds it."""
    config = dict(type=f"mamba_mm.{name}", in_channels=CHANNELS, output_model=TOY, decoder=DECODER)
    if small:
        config |= SMALL[name]
    with DefaultScope.overwrite_default_scope("mmpose"):
        return MODELS.build(config | settings)


def count(module):
    return sum(p.numel() for p in module.parameters())


def random_map(batch=2, channels=CHANNELS, height=16, width=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, height, width, generator=generator)


def random_samples(number, seed=0):
    """Samples with all labels, those of the synthetic hand in random poses."""
    generator = torch.Generator().manual_seed(seed)
    layer = MANOLayer("toy")
    pose = 0.4 * torch.randn(number, 16, 3, generator=generator)
    pose[:, 1:] += layer.hands_mean.unflatten(0, (15, 3))
    rotations = axis_angle_to_matrix(pose)
    betas = 0.5 * torch.randn(number, 10, generator=generator)
    cam = torch.tensor([8.0, 0.0, 0.0]) + 0.02 * torch.randn(number, 3, generator=generator)
    hand = layer(rotations[:, :1], rotations[:, 1:], betas)
    ones = torch.ones(number, 21)
    labels = dict(
        keypoint_labels=project_crop(hand.joints, cam),
        keypoint_weights=ones,
        keypoints_3d=hand.joints,
        keypoints_3d_weights=ones,
        vertices_3d=hand.vertices,
        vertices_weights=ones[:, 0],
        mano_global_orient=rotations[:, :1],
        mano_hand_pose=rotations[:, 1:],
        mano_betas=betas,
        has_3d=ones[:, 0],
        has_mano=ones[:, 0],
    )
    return [_sample({k: v[i : i + 1].clone() for k, v in labels.items()}) for i in range(number)]


def _sample(labels):
    sample = PoseDataSample(metainfo=dict(input_size=(192, 256)))
    sample.gt_instance_labels = InstanceData(**labels)
    return sample


def randomise(module, scale=0.1):
    """Weights whose every path matters: at the start some branches are nearly 0."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return module

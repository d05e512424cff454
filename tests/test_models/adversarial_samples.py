"""A small estimator with an adversarial prior, and batches for it, fully or partly labelled."""

import torch
from mmengine.registry import DefaultScope
from test_hand_heads.hand_samples import DECODER, TOY, random_samples
from torch import nn

INPUT_SIZE = (96, 128)
PRIOR = dict(poses=dict(type="mamba_mm.ToyMANOPoses", count=50))
LABELS_IN_SPACE = ("keypoints_3d_weights", "vertices_weights", "has_3d", "has_mano")


class Patches(nn.Module):
    """The smallest backbone with a map of stride 16."""

    def __init__(self):
        super().__init__()
        self.projection = nn.Conv2d(3, 12, 16, 16)

    def forward(self, inputs):
        return (self.projection(inputs),)


def build_estimator(prior=PRIOR, seed=0, **head):
    """The estimator, in training mode; the same for every call with the same arguments."""
    from mamba_mm.models.pose_estimators.adversarial_hand_mesh import AdversarialHandMeshEstimator

    torch.manual_seed(seed)
    head = dict(
        type="mamba_mm.HambaHead",
        in_channels=12,
        embed_dims=16,
        input_size=INPUT_SIZE,
        jr=dict(depth=1),
        ssm=dict(mlp_ratio=1.0),
        # Weights of 0.01 would leave hardly a gradient behind them.
        readout_init_gain=1.0,
        output_model=TOY,
        decoder=DECODER | dict(input_size=INPUT_SIZE),
        **head,
    )
    with DefaultScope.overwrite_default_scope("mmpose"):
        return AdversarialHandMeshEstimator(
            data_preprocessor=dict(type="PoseDataPreprocessor", mean=[127.5] * 3, std=[60.0] * 3),
            backbone=dict(type=Patches),
            head=head,
            prior=prior,
        ).train()


def optimisers(model, wrapper=None, **settings):
    """The optimisers as a config asks for them."""
    from mmengine.optim import build_optim_wrapper

    config = dict(
        constructor="mamba_mm.AdversarialOptimWrapperConstructor",
        optimizer=dict(type="AdamW", lr=1e-3, weight_decay=1e-4),
        type=wrapper or "OptimWrapper",
        **settings,
    )
    return build_optim_wrapper(model, config)


def batch(size=4, seed=0, labels_in_space=True):
    """A batch as the data loader collates it."""
    samples = random_samples(size, seed)
    if not labels_in_space:
        for sample in samples:
            for name in LABELS_IN_SPACE:
                sample.gt_instance_labels[name].zero_()
    generator = torch.Generator().manual_seed(seed)
    width, height = INPUT_SIZE
    images = torch.randint(0, 256, (size, 3, height, width), generator=generator).byte()
    return dict(inputs=list(images), data_samples=samples)


def values_of(module):
    """Copies of all parameters, by name."""
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def moved(before, module):
    """Names of the parameters that are not what they were."""
    return {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}

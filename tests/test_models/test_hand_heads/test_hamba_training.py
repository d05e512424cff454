"""Hamba's head learns, alone and in two processes."""

import torch
from hand_samples import DECODER, build_head, random_map, random_samples
from mmpose.evaluation.functional import keypoint_mpjpe
from processes import in_group
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from mamba_mm.models import VMamba

STEP, STEPS = 6e-3, 110


def pa_mpjpe(head, feats, samples):
    """Millimetres between predicted and true joints after a similarity fit."""
    with torch.no_grad():
        instances = head.predict(feats, samples)
    errors = [
        keypoint_mpjpe(
            instance.keypoints_3d,
            sample.gt_instance_labels.keypoints_3d.numpy(),
            torch.ones(1, 21, dtype=torch.bool).numpy(),
            alignment="procrustes",
        )
        for instance, sample in zip(instances, samples, strict=True)
    ]
    return 1000 * sum(errors) / len(errors)


def test_a_dozen_hands_are_learned():
    """On a backbone that stays as it is, from the head's own initialisation."""
    torch.manual_seed(0)
    samples = random_samples(12)
    backbone = VMamba("nano", out_indices=(2,)).eval()
    with torch.no_grad():
        feats = backbone(torch.randn(12, 3, 128, 96))
    size = (96, 128)
    head = build_head(
        in_channels=feats[0].shape[1],
        input_size=size,
        decoder=DECODER | dict(input_size=size),
        embed_dims=32,
    )
    before = pa_mpjpe(head.eval(), feats, samples)
    head.train()
    optimizer = torch.optim.AdamW(head.parameters(), lr=STEP, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, STEP, total_steps=STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        sum(head.loss(feats, samples).values()).backward()
        optimizer.step()
        schedule.step()
    assert before > 15
    assert pa_mpjpe(head.eval(), feats, samples) < 2


# --- two processes -------------------------------------------------------------------------


class _Loss(torch.nn.Module):
    """The loss as the forward pass, which is what a wrapper for distribution calls."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, feats, samples):
        return sum(self.head.loss(feats, samples).values())


def _train_two_steps(rank):
    torch.manual_seed(0)
    model = DistributedDataParallel(_Loss(build_head()))
    samples = random_samples(2, seed=rank)
    if rank:  # nothing of the second process's is labelled in space
        for sample in samples:
            labels = sample.gt_instance_labels
            for key in ("keypoints_3d_weights", "has_mano"):
                labels[key] = torch.zeros_like(labels[key])
    for step in range(2):  # the second step stops if the first left a parameter without gradient
        model((random_map(seed=rank + step),), samples).backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    gathered = [torch.empty_like(gradient) for _ in range(2)]
    distributed.all_gather(gathered, gradient)
    assert gradient.abs().max() > 0
    assert torch.equal(*gathered)


def test_two_processes_agree_on_the_gradient():
    in_group(_train_two_steps)

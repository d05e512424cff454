"""Small synthetic checkpoints in every spelling, for the tests beside this file."""

import torch

from mamba_mm.models import VMamba

S1 = dict(dims=16, depths=(1, 2, 1, 1))
V0 = dict(
    dims=16,
    depths=(1, 1, 2, 1),
    ssm_ratio=2.0,
    d_state=4,
    gate=True,
    conv_bias=True,
    mlp_ratio=0.0,
    patch_embed="v1",
    downsample="v1",
)


def random_backbone(arch, seed=0, **kwargs):
    """A backbone no two parameters of which are alike, so that a mix-up shows."""
    torch.manual_seed(seed)
    model = VMamba(arch, drop_path_rate=0.0, **kwargs).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def body(model):
    """The backbone's weights without its output norms."""
    return {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("outnorm")}


def classifier(model, classes=10):
    """Spelling A: the official classification file of a backbone."""
    width = model.arch_settings.dims[-1]
    generator = torch.Generator().manual_seed(1)
    return body(model) | {
        "classifier.norm.weight": torch.randn(width, generator=generator),
        "classifier.norm.bias": torch.randn(width, generator=generator),
        "classifier.head.weight": torch.randn(classes, width, generator=generator),
        "classifier.head.bias": torch.randn(classes, generator=generator),
    }


def spelling_b(state):
    """The oldest v0 files."""
    names = (
        ("patch_embed.0", "patch_embed.proj"),
        ("patch_embed.2", "patch_embed.norm"),
        ("classifier.", ""),
        (".op.", ".self_attention."),
    )
    renamed = {}
    for key, value in state.items():
        if ".blocks." in key:
            key = key.replace(".norm.", ".ln_1.")
        for new, old in names:
            key = key.replace(new, old)
        renamed[key] = value
    return renamed


def spelling_c(state):
    """The official single file: flattened projections, numbered patch merging."""
    renamed = {}
    for key, value in state.items():
        if key.endswith(("x_proj_weight", "dt_projs_weight")):
            key, value = key.replace("_weight", ".weight"), value.flatten(0, 1)
        key = key.replace("downsample.norm", "downsample.1")
        key = key.replace("downsample.reduction", "downsample.2")
        renamed[key] = value
    return renamed


def spelling_d(state):
    """An OpenMMLab checkpoint, with a neck beside the backbone."""
    neck = {"neck.conv.weight": torch.ones(2, 2), "neck.conv.bias": torch.ones(2)}
    return {f"backbone.{key}": value for key, value in state.items()} | neck


def with_4d_linears(state):
    """Linear weights as channel-first models hold them."""
    linears = ("in_proj.weight", "out_proj.weight", "fc1.weight", "fc2.weight")
    return {k: v[:, :, None, None] if k.endswith(linears) else v for k, v in state.items()}


def snapshot(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def is_unchanged(model, before):
    return all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

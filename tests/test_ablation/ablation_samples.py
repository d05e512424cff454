"""Trainings that nobody did, with figures that can be checked by hand."""

from mamba_mm.ablation.measured import Measured
from mamba_mm.ablation.report import Ablation
from mamba_mm.ablation.variants import METRICS, own_variant, select


def measured(variant, parameters, errors, f_scores):
    """A variant with the same value for both errors and both F-scores, by seed."""
    runs = {
        seed: dict(zip(METRICS, (error, error, f_scores[seed], f_scores[seed]), strict=True))
        for seed, error in errors.items()
    }
    return Measured(variant, parameters, runs)


def ablation(metric="PA-MPJPE", notes=()):
    """Full; without GCN, worse by 1, 2 and 3 mm; a variant of our own with one seed."""
    full, no_gcn, shared = select(["no-gcn", "shared-weights"])
    own = own_variant("deep", ["model.head.gss.ssm_depth=2"])
    return Ablation(
        [
            measured(full, 786794, {0: 10.0, 1: 12.0, 2: 11.0}, {0: 0.50, 1: 0.40, 2: 0.45}),
            measured(no_gcn, 442320, {0: 11.0, 1: 14.0, 2: 14.0}, {0: 0.49, 1: 0.39, 2: 0.44}),
            measured(shared, 459114, {0: 9.0, 1: 11.5}, {0: 0.50, 1: 0.40}),
            measured(own, 900000, {1: 11.0}, {1: 0.41}),
        ],
        "drawn hands",
        metric,
        {"PA-MPJPE": 20.0},
        notes,
    )

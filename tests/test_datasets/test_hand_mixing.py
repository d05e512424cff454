"""Sets with different labels in one batch, and in the shares that the config asks for."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmpose")

from hamer_samples import encoded_image, evaluation_arrays, hamer_label, write_set, write_tar
from hand_mesh_samples import SHARED_DATA, make_hand, write_coco, write_freihand
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpose.apis.inference import dataset_meta_from_config
from mmpose.datasets.samplers import MultiSourceSampler

from mamba_mm.datasets.hand_mesh.hamer_archives import HaMeRTarDataset
from mamba_mm.datasets.hand_mesh.hamer_evaluation import HaMeREvalDataset
from mamba_mm.datasets.hand_mesh.hint import HIntDataset
from mamba_mm.datasets.hand_mesh.onehand10k import OneHand10KMeshDataset
from mamba_mm.datasets.hand_mesh.wholebody import COCOWholeBodyHandMeshDataset

CONFIGS = Path(__file__).parents[2] / "configs" / "mmpose" / "hamba"
MIX = CONFIGS / "hamba_vit-h_2xb28-170k_mix-256x192.py"
HAMER_SHARES = {
    "freihand": 0.25,
    "interhand26m": 0.25,
    "mtc": 0.10,
    "rhd": 0.05,
    "cocow": 0.10,
    "halpe": 0.05,
    "mpiinzsl": 0.05,
    "ho3d": 0.05,
    "h2o3d": 0.05,
    "dex": 0.05,
}
# The last of them is MMPose's own, 2-D, and without the side.
SHARED_SETS = {
    "rhd_mesh": ("mamba_mm.RHDMeshDataset", "rhd/test_rhd.json"),
    "coco_wholebody_hand_mesh": (
        "mamba_mm.COCOWholeBodyHandMeshDataset",
        "coco/test_coco_wholebody.json",
    ),
    "onehand10k_mesh": ("mamba_mm.OneHand10KMeshDataset", "onehand10k/test_onehand10k.json"),
    "freihand": ("FreiHandDataset", "freihand/test_freihand.json"),
}
LABELS = dict(
    keypoint_labels=(21, 2),
    keypoint_weights=(21,),
    keypoints_3d=(21, 3),
    keypoints_3d_weights=(21,),
    mano_betas=(10,),
    has_3d=(),
    has_mano=(),
)


@pytest.fixture
def loader_config(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMBA_MM_HAMER_DATA", str(tmp_path))
    monkeypatch.setenv("MAMBA_MM_MANO", "toy")
    with DefaultScope.overwrite_default_scope("mmpose"):
        loader = Config.fromfile(MIX).train_dataloader
        loader.update(num_workers=0, persistent_workers=False)
        yield loader


@pytest.mark.parametrize(
    "of",
    [
        HaMeRTarDataset,
        HaMeREvalDataset,
        HIntDataset,
        COCOWholeBodyHandMeshDataset,
        OneHand10KMeshDataset,
    ],
    ids=lambda of: of.__name__,
)
def test_mmpose_finds_the_metainfo_without_building_the_data_set(of):
    dataset = dict(type=f"mamba_mm.{of.__name__}", ann_file="nowhere")
    meta = dataset_meta_from_config(Config(dict(train_dataloader=dict(dataset=dataset))))
    assert meta["num_keypoints"] == 21
    assert meta["dataset_name"] == of.METAINFO["dataset_name"]


def batches(loader, number):
    """Batches over as many epochs as it takes."""
    while number > 0:
        for batch in loader:
            yield batch
            number -= 1
            if not number:
                return


def test_the_mix_has_hamers_shares(loader_config, tmp_path):
    for number, name in enumerate(HAMER_SHARES):
        write_set(tmp_path / "dataset_tars" / f"{name}-train", [2 * number, 2 * number + 1])
    loader = Runner.build_dataloader(loader_config, seed=0)
    assert isinstance(loader.sampler, MultiSourceSampler)
    drawn = [index for _ in range(50) for index in loader.sampler]
    sources = [loader.dataset._get_subset_index(index)[0] for index in drawn]
    names = [
        dataset.metainfo["dataset_name"].removeprefix("hamer_").removesuffix("-train")
        for dataset in loader.dataset.datasets
    ]
    assert names == list(HAMER_SHARES)
    counts = np.bincount(sources) / len(sources)
    np.testing.assert_allclose(counts, list(HAMER_SHARES.values()), atol=1e-12)
    assert set(drawn) == set(range(20))


def test_all_kinds_of_sets_in_one_batch(loader_config, tmp_path):
    # Annotated from the wrist, and without parameters.
    joints = hamer_label(3)["keypoints_3d"]
    relative = hamer_label(3, keypoints_3d=joints - np.r_[joints[0, :3], 0], has_betas=np.zeros(()))
    flat = hamer_label(4, left=True, keypoints_3d=np.zeros((21, 4)), has_hand_pose=np.zeros(()))
    write_tar(tmp_path / "tars" / "0.tar", [("a", [hamer_label(0), relative]), ("b", [flat])])
    write_freihand(tmp_path, poses=2, versions=1)
    np.savez(tmp_path / "eval.npz", **evaluation_arrays([0, 1], [1]))
    (tmp_path / "img0000.jpg").write_bytes(encoded_image(90))
    (tmp_path / "img0001.jpg").write_bytes(encoded_image(90))
    write_coco(tmp_path / "any.json", [make_hand(5)], ["left"])
    here = dict(img=f"{tmp_path}/")
    sets = {
        "hamer_tars": dict(type="mamba_mm.HaMeRTarDataset", data_root=f"{tmp_path}/tars"),
        "freihand_mesh": dict(
            type="mamba_mm.FreiHANDMeshDataset",
            serialize_data=False,
            data_root=str(tmp_path),
            versions=["gs"],
            with_vertices=True,
        ),
        "hamer_eval_mesh": dict(
            type="mamba_mm.HaMeREvalDataset",
            serialize_data=False,
            ann_file=f"{tmp_path}/eval.npz",
            data_prefix=here,
        ),
        "hand_mesh": dict(
            type="mamba_mm.HandMeshCocoDataset",
            serialize_data=False,
            ann_file=f"{tmp_path}/any.json",
            data_prefix=here,
        ),
    }
    for name, (kind, file) in SHARED_SETS.items():
        path = SHARED_DATA / file
        if path.is_file():
            sets[name] = dict(
                type=kind,
                serialize_data=False,
                ann_file=str(path),
                data_prefix=dict(img=f"{path.parent}/"),
                # Tight boxes; the padding of the mix is that of HaMeR's, which are not.
                pipeline=[dict(type="GetBBoxCenterScale", padding=1.5)],
            )
    loader_config.dataset.datasets = list(sets.values())
    # Shares that are whole in a block: one of each set but the first, of which there are two.
    loader_config.sampler.source_ratio = [2] + [1] * (len(sets) - 1)
    loader_config.sampler.batch_size = loader_config.batch_size = len(sets) + 1
    loader = Runner.build_dataloader(loader_config, seed=0)
    seen = {}
    for batch in batches(loader, 3):
        samples = batch["data_samples"]
        assert torch.stack(batch["inputs"]).shape == (len(sets) + 1, 3, 256, 192)
        names = [sample.dataset_name for sample in samples]
        assert sorted(names) == sorted([*sets, "hamer_tars"])
        for key, shape in LABELS.items():
            labels = torch.cat([sample.gt_instance_labels[key] for sample in samples])
            assert labels.shape == (len(samples), *shape)
            assert labels.dtype == torch.float32
            assert labels.isfinite().all()
        for name, sample in zip(names, samples, strict=True):
            labels = sample.gt_instance_labels
            flags = (labels.has_3d.item(), labels.has_mano.item())
            seen.setdefault(name, set()).add(flags)
            assert name == "freihand" or sample.gt_instances.is_right.item() == 1
    assert seen["hamer_tars"] == {(1, 1), (1, 0), (0, 0)}
    assert seen["freihand_mesh"] == seen["hand_mesh"] == {(1, 1)}
    assert seen["hamer_eval_mesh"] == {(1, 0)}
    for name in ("coco_wholebody_hand_mesh", "onehand10k_mesh", "freihand"):
        assert seen.get(name, {(0, 0)}) == {(0, 0)}
    assert seen.get("rhd_mesh", {(1, 0)}) == {(1, 0)}

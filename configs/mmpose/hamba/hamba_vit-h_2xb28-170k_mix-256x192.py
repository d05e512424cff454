"""Hamba on HaMeR's mix of ten sets, read from the archives as released: ViT-H from HaMeR's weights.

MAMBA_MM_HAMER_DATA says where the archives are, MAMBA_MM_FREIHAND where FreiHAND is, on whose
evaluation images it is validated.
"""

_base_ = "./hamba_vit-h_2xb28-170k_freihand-256x192.py"

data_root = "{{$MAMBA_MM_HAMER_DATA:data/hamer_training_data}}/dataset_tars/"

# As in HaMeR, hands whose shape is not known are drawn to the mean shape.
model = dict(head=dict(losses=dict(betas=dict(absent_weight=1.0))))

train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type="MultiSourceSampler",
        # HaMeR's weights, times 20. The sampler rounds the share of each set in `batch_size` down,
        # gives the rest to the first, and never returns if a share is zero. Of 20 every share is
        # whole. It need not be the loader's batch size: batches cut the stream of these blocks.
        batch_size=20,
        source_ratio=[5, 5, 2, 1, 2, 1, 1, 1, 1, 1],
    ),
    dataset=dict(
        _delete_=True,
        type="CombinedDataset",
        metainfo=dict(from_file="configs/_base_/datasets/freihand2d.py"),
        pipeline={{_base_.train_pipeline}},
        datasets=[
            dict(type="mamba_mm.HaMeRTarDataset", data_root=data_root + "freihand-train"),
            dict(type="mamba_mm.HaMeRTarDataset", data_root=data_root + "interhand26m-train"),
            dict(type="mamba_mm.HaMeRTarDataset", data_root=data_root + "mtc-train"),
            dict(type="mamba_mm.HaMeRTarDataset", data_root=data_root + "rhd-train"),
            dict(type="mamba_mm.HaMeRTarDataset", data_root=data_root + "cocow-train"),
            dict(type="mamba_mm.HaMeRTarDataset", data_root=data_root + "halpe-train"),
            dict(type="mamba_mm.HaMeRTarDataset", data_root=data_root + "mpiinzsl-train"),
            dict(type="mamba_mm.HaMeRTarDataset", data_root=data_root + "ho3d-train"),
            dict(type="mamba_mm.HaMeRTarDataset", data_root=data_root + "h2o3d-train"),
            dict(type="mamba_mm.HaMeRTarDataset", data_root=data_root + "dex-train"),
        ],
    ),
)

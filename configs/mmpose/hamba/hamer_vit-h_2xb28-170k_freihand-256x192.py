_base_ = "./hamba_vit-h_2xb28-170k_freihand-256x192.py"

model = dict(
    head=dict(
        _delete_=True,
        type="mamba_mm.HaMeRHead",
        in_channels=1280,
        input_size={{_base_.input_size}},
        decoder={{_base_.codec}},
    ),
)

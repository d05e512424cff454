_base_ = "./hamba_vmamba-t_1xb64-100k_freihand-256x192.py"

model = dict(
    head=dict(
        _delete_=True,
        type="mamba_mm.HaMeRHead",
        in_channels=384,
        input_size={{_base_.input_size}},
        decoder={{_base_.codec}},
    ),
)

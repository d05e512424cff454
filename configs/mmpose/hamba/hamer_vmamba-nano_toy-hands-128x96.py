_base_ = "./hamba_vmamba-nano_toy-hands-128x96.py"

model = dict(
    head=dict(
        _delete_=True,
        type="mamba_mm.HaMeRHead",
        in_channels=128,
        embed_dims=128,
        depth=4,
        num_heads=4,
        head_channels=32,
        mlp_channels=512,
        input_size={{_base_.input_size}},
        losses={{_base_.model.head.losses}},
        output_model={{_base_.model.head.output_model}},
        decoder={{_base_.codec}},
    ),
)

"""A small VM-UNet learns to outline drawn lesions, from scratch, in minutes on a CPU."""

_base_ = ["../../_base_/vm_unet/toy_medical.py", "../../_base_/vm_unet/heads.py"]

data_root = "{{$MAMBA_MM_TOY_LESIONS:data/toy_lesions}}/"
metainfo = dict(classes=("background", "lesion"), palette=[(0, 0, 0), (60, 60, 220)])

model = dict(decode_head={{_base_.vm_unet_binary_head}})

train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = val_dataloader

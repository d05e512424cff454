_base_ = "../../_base_/vm_unet/isic.py"

# Write the folders with tools/dataset_converters/isic.py.
data_root = "data/isic17/"

train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader

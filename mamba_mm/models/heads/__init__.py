"""Heads of MMPose that recover hands. Their classes need it, their parts and names do not."""

from mamba_mm.registry import MODELS, register_on_demand

from .channel_reduction import ChannelReduction
from .graph_conv import HandGraphConv
from .gss_block import GSSBlock
from .hand_prediction import HandPrediction, PointPrediction
from .joints_regressor import JointsRegressor
from .keypoint_graph import all_pairs, nearest_neighbours
from .mean_params import MeanParameters, default_mean_parameters, load_mean_parameters
from .object_output_model import ClassPointsOutputModel
from .output_models import DirectOutputModel, MANOOutputModel, OutputModel
from .read_out import ReadOut
from .ssm_settings import SSMSettings
from .token_sampler import TokenSampler

for _name, _module in dict(
    HambaHead="hamba_head", HaMeRHead="hamer_head", MANOHead="mano_head"
).items():
    register_on_demand(MODELS, _name, f"mamba_mm.models.heads.{_module}", "mmpose")

register_on_demand(MODELS, "HambaObjectHead", "mamba_mm.models.heads.hamba_object_head", "mmpose")

__all__ = [
    "ChannelReduction",
    "ClassPointsOutputModel",
    "DirectOutputModel",
    "GSSBlock",
    "HandGraphConv",
    "HandPrediction",
    "JointsRegressor",
    "MANOOutputModel",
    "MeanParameters",
    "OutputModel",
    "PointPrediction",
    "ReadOut",
    "SSMSettings",
    "TokenSampler",
    "all_pairs",
    "default_mean_parameters",
    "load_mean_parameters",
    "nearest_neighbours",
]

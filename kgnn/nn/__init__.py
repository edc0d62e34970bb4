"""What is learned: convolutions, encoders, heads and losses, plain `nn.Module`s and functions."""

from kgnn.nn.conditions import ConditionBatch, TypedGraph
from kgnn.nn.conv import GATConv, GATv2Conv, GCNConv, GINConv, HGTConv, RGCNConv, SAGEConv, SGConv
from kgnn.nn.encoders import GearsEncoder
from kgnn.nn.gears import GEARS
from kgnn.nn.heads import GearsDecoder
from kgnn.nn.hetero import HeteroEncoder
from kgnn.nn.losses import gears_loss
from kgnn.nn.norm import CountedBatchNorm, CountedMLP
from kgnn.nn.token_encoders import make_token_encoder
from kgnn.nn.tokens import GeneTokens, SpecialTokens
from kgnn.nn.typed_conv import CompGCNConv, TypedHGTConv, TypedRGCNConv, TypedSAGEConv

__all__ = [
    "GEARS",
    "CompGCNConv",
    "ConditionBatch",
    "CountedBatchNorm",
    "CountedMLP",
    "GATConv",
    "GATv2Conv",
    "GCNConv",
    "GINConv",
    "GearsDecoder",
    "GearsEncoder",
    "GeneTokens",
    "HGTConv",
    "HeteroEncoder",
    "RGCNConv",
    "SAGEConv",
    "SGConv",
    "SpecialTokens",
    "TypedGraph",
    "TypedHGTConv",
    "TypedRGCNConv",
    "TypedSAGEConv",
    "gears_loss",
    "make_token_encoder",
]

"""Batch normalisation of recursive networks: convolutions are shared by all recursions, statistics are not.

Letters:  B batch   C channels   H, W height and width
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import batch_norm, relu

from enlca.peers.naming import Table

# Published names are PyTorch's.
STATISTICS: Table = [(r"(.+)\.mean", r"\1.running_mean"), (r"(.+)\.variance", r"\1.running_var")]


class Norm(nn.Module):
    """Normalise channels by the mean and variance of a batch, or of the training set in evaluation.

    It is `nn.BatchNorm2d` without its counter of batches, which files of other programs do not have.

    Args:
        channels: of the features.
        eps: added to the variance.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Float[Tensor, "B C H W"], channels: slice = slice(None)) -> Float[Tensor, "B C H W"]:
        """Return normalised features; in training, move the running statistics by a tenth of the way.

        Args:
            x: features.
            channels: which ones they are, if not all.
        """
        mean, variance, weight, bias = (
            tensor[channels] for tensor in (self.mean, self.variance, self.weight, self.bias)
        )
        return batch_norm(x, mean, variance, weight, bias, training=self.training, eps=self.eps)


def activated(norm: nn.Module, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Normalise and rectify `x`, for the convolution that follows (pre-activation, He et al. 2016)."""
    return relu(norm(x), inplace=True)

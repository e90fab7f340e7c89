"""NLRN against its definition and against the law that scores add up to products of longer embeddings."""

from fractions import Fraction

import pytest
import torch
from layouts import assert_written_as_read
from torch.nn.functional import batch_norm, conv2d

from enlca.network.interface import PeakMemory
from enlca.peers import nlrn
from enlca.peers.luma import luma, resize
from enlca.peers.nlrn import NLRN, OVERLAP, PEER, WINDOW, windows
from enlca.peers.norm import Norm

H, W, C, E, STEPS = 5, 7, 11, 3, 4


def model(scale=2, steps=STEPS):
    """A network whose every tensor is drawn, statistics of batch normalisation too."""
    made, generator = NLRN(scale=scale, channels=C, embed_channels=E, recursions=steps), torch.Generator()
    generator.manual_seed(11)
    for name, tensor in made.state_dict().items():
        tensor.copy_(
            torch.rand(tensor.shape, generator=generator) - (0.4 if "variance" not in name else -0.5)
        )
    return made.eval()


def from_file(tensors, y):
    """Compute SR luma from bicubic luma. Attention is from all queries and keys until now, side by side."""
    tensors = {name: tensor.double() for name, tensor in tensors.items()}

    def norm(name, x):
        statistics = [
            tensors.pop(f"{name}.{part}") for part in ("running_mean", "running_var", "weight", "bias")
        ]
        return batch_norm(x, *statistics, eps=1e-3)

    def conv(name, x):
        weight = tensors[f"{name}.weight"]
        return conv2d(x, weight, tensors[f"{name}.bias"], padding=weight.shape[-1] // 2)

    x = start = conv("input", norm("input_norm", 255 * y))
    queries, keys = [], []
    for t in range(STEPS):
        x = norm(f"attention_norms.{t}", x).relu()
        queries.append(conv("query", x).flatten(2))
        keys.append(conv("key", x).flatten(2))
        scores = torch.cat(queries, dim=1).mT @ torch.cat(keys, dim=1)
        weights = (scores - scores.amax(dim=2, keepdim=True)).exp()
        attended = conv("value", x).flatten(2) @ (weights / weights.sum(dim=2, keepdim=True)).mT
        x = x + attended.reshape(x.shape)
        x = conv("first", norm(f"first_norms.{t}", x).relu())
        x = start + conv("second", norm(f"second_norms.{t}", x).relu())
    sr = y + conv("output", norm("output_norm", x).relu()) / 255
    assert not any("norm" in name for name in tensors)
    return sr


def test_it_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = NLRN()
    norms = [layer for layer in network.modules() if isinstance(layer, Norm)]
    of_norms = sum(x.numel() for layer in norms for x in layer.parameters())
    assert of_norms == 9_474
    assert sum(x.numel() for x in network.parameters()) == 330_625 + of_norms


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_file_gives_what_its_definition_says_at_every_scale(scale, monkeypatch):
    monkeypatch.setattr(nlrn, "CHUNK_ELEMENTS", 1009)
    tensors, lr = PEER.write(model()), torch.rand(2, 3, H, W, dtype=torch.float64)
    read = PEER.read(tensors, scale=scale)
    bicubic = resize(luma(lr), Fraction(scale))
    torch.testing.assert_close(luma(read.double()(lr)), from_file(tensors, bicubic))
    assert (read.scale, read.name) == (scale, "NLRN")
    assert_written_as_read(PEER, read, tensors)


def test_gradients_pass_through_scores_that_are_added_in_place():
    made, lr = model().double(), torch.rand(1, 3, H, W, dtype=torch.float64)
    parameters = dict(made.named_parameters())
    renamed = {
        theirs: dict(made.state_dict(keep_vars=True))[ours] for ours, theirs in PEER.published(made).items()
    }
    bicubic = resize(luma(lr), Fraction(2))
    fast = made.upscale_luma(luma(lr), bicubic)
    slow = from_file(renamed, bicubic)
    for a, b in zip(
        *(torch.autograd.grad(y.square().sum(), parameters.values()) for y in (fast, slow)), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("size", [1, WINDOW, WINDOW + 1, 76, 77, 131])
def test_windows_tile_an_axis_far_from_where_they_are_cut(size):
    covered = 0
    spans = list(windows(size))
    for skipped, span in spans:
        assert span.stop - span.start == min(size, WINDOW)
        assert span.start == 0 or skipped >= OVERLAP // 2
        # What the window before made up to here is far from its end, too.
        assert span.start + skipped <= covered
        assert span.start == 0 or covered - (span.start + skipped) >= OVERLAP // 2
        covered = span.stop
    assert covered == size


def test_windows_are_seamless_where_attention_adds_nothing(monkeypatch):
    made = model(steps=1).double()
    for parameter in made.value.parameters():
        torch.nn.init.zeros_(parameter)
    y = torch.rand(1, 1, 53, 79, dtype=torch.float64)
    whole = made.upscale_luma(y, y)
    monkeypatch.setattr(nlrn, "WHOLE", WINDOW**2)
    torch.testing.assert_close(made.upscale_luma(y, y), whole)


@pytest.mark.parametrize(("height", "width", "limit"), [(3, 5, 45**2), (41, 29, 100), (41, 29, 45**2)])
def test_counted_memory_is_no_less_than_measured(height, width, limit, monkeypatch):
    monkeypatch.setattr(nlrn, "WHOLE", limit)
    monkeypatch.setattr(nlrn, "CHUNK_ELEMENTS", 1 << 14)
    made, lr = model(scale=2, steps=2), torch.rand(1, 3, height, width)
    most = max(limit, WINDOW**2)
    monkeypatch.setattr(made, "workspace_elements", most**2 + 3 * (1 << 14) + 8 * most * C)
    with torch.no_grad(), PeakMemory() as memory:
        made(lr)
    counted = made.elements_per_pixel * height * width + made.workspace_elements
    assert 0 < memory.peak / 4 <= counted


def test_a_network_whose_last_convolution_is_zero_returns_bicubic_luma():
    made, lr = model(scale=4), torch.rand(1, 3, H, W)
    for parameter in made.output.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(made(lr), resize(lr, Fraction(4)))

"""Formulas, PyTorch's counter and the paper's Table 4 agree; memory is what can be counted by hand."""

import json
import tomllib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from enlca.analysis.cost import (
    conv_flops,
    count,
    exact_flops,
    linear_flops,
    lsh_flops,
    lsh_flops_as_printed,
    seconds,
    sharp_flops,
    table4,
    window_flops,
)
from enlca.attention.exact import ExactAttend
from enlca.attention.linear import LinearAttend
from enlca.attention.lsh import LSHAttend
from enlca.attention.sharp import SharpAttend
from enlca.network.sr import SRConfig, SRNetwork
from enlca.peers.lapsrn import PEER as lapsrn
from enlca.peers.lapsrn import LapSRN

EXPECTED = tomllib.loads((Path(__file__).parents[2] / "experiments" / "expected.toml").read_text())["table4"]
N, C, E, M = 59, 13, 7, 31  # distinct primes


def qkv(n: int = N) -> list[tuple[int, ...]]:
    return [(1, C, n), (1, C, n), (1, E, n)]


@pytest.mark.parametrize("name", sorted(EXPECTED.keys() - {"Baseline", "NLSA-r4"}))
def test_the_formula_is_the_paper_s_number_to_the_printed_digit(name):
    assert f"{table4()[name].flops / 1e9:.2f}" == f"{EXPECTED[name]['gflops']:.2f}"


@pytest.mark.parametrize("name", sorted(table4()))
def test_the_code_runs_the_operations_of_the_formula_at_the_size_of_table_4(name):
    row = table4()[name]
    assert count(row.build, *row.shapes).flops == row.flops


def test_there_is_a_row_for_each_method_of_the_paper_that_has_attention_or_convolves():
    assert [*table4()] == [name for name in EXPECTED if name != "Baseline"]


@pytest.mark.parametrize("n", [1, N, 4096, 4097])
def test_linear_attention_runs_its_formula(n):
    assert count(lambda: LinearAttend(C, n_features=M), *qkv(n)).flops == linear_flops(n, C, E, n_features=M)


@pytest.mark.parametrize("n", [1, N, 4000, 8011])
def test_sharp_features_run_their_formula(n):
    assert count(lambda: SharpAttend(C, n_features=M), *qkv(n)).flops == sharp_flops(n, C, E, n_features=M)


@pytest.mark.parametrize("n", [1, N, 997])
def test_exact_attention_runs_its_formula(n):
    assert count(ExactAttend, *qkv(n)).flops == exact_flops(n, max(C, E), max(C, E))


# One chunk, smaller than one, two, three, many with and without padding, more than 128 buckets.
@pytest.mark.parametrize(("n", "chunk"), [(N, N), (N, 61), (N, 31), (N, 29), (N, 7), (56, 7), (997, 3)])
def test_sparse_attention_runs_its_formula(n, chunk):
    found = count(lambda: LSHAttend(n_hashes=3, chunk=chunk), *qkv(n)).flops
    assert found == lsh_flops(n, C, E, n_hashes=3, chunk=chunk)


def test_a_convolution_runs_its_formula():
    found = count(lambda: nn.Conv2d(C, E, 5, padding=2), (1, C, 11, 17)).flops
    assert found == conv_flops(11 * 17, C, E, kernel_size=5)


def test_nlsa_s_number_in_the_paper_is_a_count_without_padding_and_of_all_128_directions():
    assert f"{lsh_flops_as_printed(10_000, 64, 64) / 1e9:.2f}" == f"{EXPECTED['NLSA-r4']['gflops']:.2f}"
    # What our code does at that size: 70 chunks of 144, 70 buckets.
    attending, hashing = 2 * 70 * 144 * 432 * 128, 2 * 10_000 * 64 * 35
    assert lsh_flops(10_000, 64, 64) == 4 * (attending + hashing)


class Fused(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v)


def test_fused_attention_on_the_cpu_is_counted_too():
    found = count(Fused, *[(1, 1, N, 16)] * 3)
    assert found.flops == exact_flops(N, 16, 16)


@pytest.mark.parametrize("attention", ["linear", "sharp", "exact", "window", "lsh", "none"])
def test_a_network_is_the_sum_of_its_layers(attention):
    height, width, channels, dim = 11, 13, 8, 3
    config = SRConfig(
        scale=3,
        channels=channels,
        n_blocks=2,
        blocks_per_stage=1,
        embed_channels=dim,
        n_features=M,
        attention="linear" if attention == "sharp" else attention,
        features="sharp" if attention == "sharp" else "positive",
        chunk=29,
    )
    n = height * width
    per_block = {
        "linear": linear_flops(n, dim, channels, n_features=M),
        "sharp": sharp_flops(n, dim, channels, n_features=M),
        "exact": exact_flops(n, channels, channels),
        # At the picture's border one more channel hides what lies outside.
        "window": window_flops(height, width, dim + 1, channels, window=8, halo=4),
        "lsh": lsh_flops(n, dim, channels, chunk=29),
        "none": 0,
    }[attention]
    embed = {"none": 0, "lsh": dim + channels}.get(attention, 2 * dim + channels)
    convolutions = [(3, channels), *[(channels, channels)] * 5, (channels, 9 * channels)]
    expected = sum(conv_flops(n, *pair) for pair in convolutions) + conv_flops(9 * n, channels, 3)
    expected += 3 * (per_block + conv_flops(n, channels, embed, kernel_size=1))
    cost = count(lambda: SRNetwork(config), (1, 3, height, width))
    assert cost.flops == expected
    assert cost.parameters == sum(parameter.numel() for parameter in SRNetwork(config).parameters())


def test_memory_is_input_and_two_maps_of_two_convolutions_with_a_relu_in_place():
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(5, 7, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(7, 11, 1))

    assert count(build, (1, 5, 13, 17)).activation_bytes == 4 * (5 + 7 + 11) * 13 * 17


class Chain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(9):
            x = x.flatten(2).unflatten(-1, x.shape[-2:]) + 1
        return x


def test_views_take_no_memory_and_freed_memory_is_subtracted():
    # The input, which the caller holds, and at each step the old and the new tensor.
    assert count(Chain, (1, 5, 13, 17)).activation_bytes == 4 * 3 * 5 * 13 * 17


def test_memory_of_linear_and_sparse_attention_is_linear_in_the_positions():
    for build in (lambda: LinearAttend(C, n_features=M), LSHAttend):
        small, large = (count(build, *qkv(n)).activation_bytes for n in (20_000, 40_000))
        assert large < 2.2 * small


def test_counting_allocates_nothing():
    # 4 GB of weights and a 4 TB image.
    cost = count(lambda: nn.Conv2d(10_000, 100_000, 1), (1, 10_000, 10_000, 10_000))
    assert cost.parameters == 10**9 + 10**5
    assert cost.flops == 2 * 10**17


def test_seconds_are_those_of_the_module():
    calls = []

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert not self.training
            calls.append(x.shape)
            return x

    assert 0 <= seconds(Counting, (2, 3), runs=4) < 1
    assert calls == [torch.Size([2, 3])] * 5


def test_without_a_model_the_command_shows_table_4(command):
    done = command("cost", "--json", "--size", "20x10")
    body = json.loads(done.out)
    assert done.code == 0
    assert (body["height"], body["width"]) == (20, 10)
    assert {row["name"]: row["flops"] for row in body["table4"]} == {
        n: row.flops for n, row in table4(20, 10).items()
    }
    assert "measured_on" not in body
    shown = command("cost").out
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("ENLCA-m128")] == ["0.66"]
    assert "measured" not in shown


def test_the_command_counts_files_and_named_networks_alike(command, tiny_model, tiny_network):
    done = command("cost", "--size", "7x5", "--model", tiny_model, "edsr", "--json")
    file, edsr = json.loads(done.out)["networks"]
    expected = count(lambda: SRNetwork(tiny_network.config), (1, 3, 7, 5))
    assert file == {"name": str(tiny_model), "scale": 4, **expected._asdict()}
    assert (edsr["name"], edsr["scale"], edsr["parameters"]) == ("edsr", 4, 43_089_923)


def test_the_command_counts_a_network_at_another_scale(command):
    done = command("cost", "--size", "7x5", "--model", "nlsn", "--scale", "2", "--json")
    [row] = json.loads(done.out)["networks"]
    assert (row["scale"], round(row["parameters"] / 1e6, 2)) == (2, 41.80)


def test_the_command_counts_files_of_other_methods(command, tmp_path):
    torch.manual_seed(0)
    network = LapSRN(scale=2, channels=8, depth=2).eval()
    torch.save(lapsrn.write(network), tmp_path / "lap.pt")
    done = command("cost", "--size", "7x5", "--model", tmp_path / "lap.pt", "--json")
    [row] = json.loads(done.out)["networks"]
    expected = count(lambda: LapSRN(scale=2, channels=8, depth=2), (1, 3, 7, 5))
    assert (row["scale"], row["parameters"], row["flops"]) == (2, expected.parameters, expected.flops)
    assert row["activation_bytes"] == pytest.approx(expected.activation_bytes, rel=0.01)


def test_the_command_counts_methods_by_name_on_pictures_that_they_can_take(command):
    done = command("cost", "--size", "7x5", "SRFBN", "rnan", "--json")
    assert done.err == ""
    srfbn, rnan = json.loads(done.out)["networks"]
    assert (srfbn["name"], srfbn["scale"], srfbn["parameters"]) == ("SRFBN", 4, 3_631_478)
    assert (rnan["name"], rnan["parameters"]) == ("rnan", 9_255_003)
    done = command("cost", "--size", "7x5", "dbpn", "--scale", "3")
    assert done.code == 2
    assert done.err.startswith("enlca: dbpn: ")
    assert len(done.err.splitlines()) == 1


def test_measured_time_says_so_and_where(command, tiny_model):
    done = command("cost", "--size", "7x5", "--model", tiny_model, "--time")
    assert f"time: measured here, processor, {torch.get_num_threads()} threads" in done.out
    body = json.loads(command("cost", "--size", "7x5", "--model", tiny_model, "--time", "--json").out)
    assert body["networks"][0]["measured_seconds"] > 0
    assert body["measured_on"]["device"] == "cpu"


@pytest.mark.parametrize("size", ["7", "7x", "0x5", "7x-5", "7X5", "1e3x5"])
def test_a_size_that_is_none_is_wrong_usage(command, size):
    done = command("cost", f"--size={size}")
    assert (done.code, done.out) == (2, "")
    assert "--size must be HEIGHTxWIDTH" in done.err


def test_what_is_neither_a_network_nor_weights_is_wrong_usage_with_all_names(command, tiny_model):
    done = command("cost", "--model", "resnet", "--json")
    assert (done.code, done.out) == (2, "")
    assert "unknown model 'resnet'" in done.err
    assert "nlan, nlsn" in done.err
    done = command("cost", "--model", tiny_model, "--scale", "2")
    assert done.code == 2
    assert "upscales x4, not x2" in done.err


def test_more_pixels_than_can_be_counted_in_a_moment_are_wrong_usage(command):
    done = command("cost", "--size", "999999x999999")
    assert (done.code, done.out) == (2, "")
    assert "--size counts at most 16,777,216 pixels; got 999999x999999" in done.err


def test_what_would_not_fit_into_memory_is_not_timed(command, monkeypatch):
    monkeypatch.setattr("enlca.runtime.device.free_memory", lambda where: 1 << 20)
    done = command("cost", "--time", "--size", "100x100", "enlcn-tiny")
    assert (done.code, done.out) == (1, "")
    assert "enlcn-tiny needs" in done.err
    assert "at this --size, and 1 MiB are free: leave out --time, or take a smaller one" in done.err


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("could not create a primitive")])
def test_memory_that_runs_out_is_one_line_in_any_command(command, monkeypatch, error):
    def full(*arguments):
        raise error

    monkeypatch.setattr("enlca.analysis.cost.count", full)
    done = command("cost")
    assert done == (
        1,
        "",
        "enlca: not enough memory on this machine; close other programs, or ask for less\n",
    )

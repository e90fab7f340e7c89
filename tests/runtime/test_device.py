"""Devices, precisions and memory."""

import pytest
import torch

from enlca.errors import DeviceError, MemoryLimitError, PrecisionError, TooLarge
from enlca.runtime import device
from enlca.runtime.device import (
    as_text,
    choose_device,
    choose_precision,
    free_memory,
    size_in_bytes,
    used_memory,
)

CPU = torch.device("cpu")
MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GiB", 2 << 30),
        ("1.5 gib", 3 << 29),
        ("500MB", 500_000_000),
        ("800m", 800_000_000),
        ("12345", 12345),
    ],
)
def test_sizes_are_read(text, size):
    assert size_in_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "much", "2 GiBs", "-1GiB", "0", "1e9", "0.1", "9" * 310, "9" * 310 + "GiB"]
)
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(MemoryLimitError, match="is no size; write one like 2GiB"):
        size_in_bytes(text)


def test_sizes_are_written():
    assert (as_text(3 << 29), as_text(830 * MIB), as_text(5)) == ("1.5 GiB", "830 MiB", "1 MiB")


def test_memory_is_counted():
    assert 0 < free_memory(CPU) < 1 << 50
    before = used_memory(CPU)
    ballast = torch.ones(64 * MIB, dtype=torch.uint8)
    assert used_memory(CPU) - before > 48 * MIB
    del ballast


def test_a_budget_is_what_is_used_and_half_of_what_is_free_unless_it_is_given(monkeypatch):
    monkeypatch.setattr(device, "used_memory", lambda where: 100)
    monkeypatch.setattr(device, "free_memory", lambda where: 60)
    assert device.memory_budget(CPU) == (100, 130)
    assert device.memory_budget(CPU, 77) == (100, 77)


def test_memory_that_was_freed_is_not_counted_as_used():
    before = used_memory(CPU)
    del_me = torch.ones(256 * MIB, dtype=torch.uint8)
    del del_me
    # Peak resident memory, which some systems report instead, never falls.
    assert used_memory(CPU) - before < 64 * MIB


@pytest.mark.parametrize(
    ("has_amx", "about", "expected"),
    [
        (True, {}, torch.bfloat16),
        (True, {"avx512_bf16": True, "cpu_name": "Intel(R) Xeon(R) Platinum 8481C"}, torch.bfloat16),
        (False, {"avx512_bf16": True, "cpu_name": "Intel(R) Xeon(R) Platinum 8380H"}, None),
        (False, {"avx512_bf16": True, "cpu_name": "AMD EPYC 9B14"}, torch.bfloat16),
        (False, {"avx512_bf16": False, "cpu_name": "AMD EPYC 7B13"}, None),
        (False, {"architecture": "aarch64"}, None),
    ],
)
def test_auto_is_bf16_on_processors_that_multiply_faster_in_it(has_amx, about, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx, raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: about, raising=False)
    assert choose_precision("auto", torch.device("cpu")) == expected


def test_auto_is_float32_where_pytorch_does_not_say_what_the_processor_has(monkeypatch):
    for name in ("_is_amx_tile_supported", "get_capabilities"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert choose_precision("auto", torch.device("cpu")) is None


def test_a_precision_that_is_named_is_taken_and_unknown_ones_are_refused():
    cpu = torch.device("cpu")
    assert choose_precision("bf16", cpu) == torch.bfloat16
    assert choose_precision("fp16", cpu) == torch.float16
    with pytest.raises(PrecisionError, match="unknown precision 'half'; choose from auto, fp32, bf16, fp16"):
        choose_precision("half", cpu)


def test_a_device_that_is_not_there_is_refused_and_says_which_are():
    with pytest.raises(DeviceError, match="unknown device 'gpu'; choose from auto, cpu, cuda, mps"):
        choose_device("gpu")
    assert choose_device("cpu").type == "cpu"
    for kind, present in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if not present:
            with pytest.raises(DeviceError, match=f"device {kind} is not available .*; available: cpu"):
                choose_device(kind)


def test_a_gpu_is_taken_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"


@pytest.mark.parametrize(
    "text", ["could not create a primitive", "std::bad_alloc", "can't allocate memory: x"]
)
def test_texts_of_libraries_that_ran_out_of_memory_are_known(text):
    assert device.is_out_of_memory(RuntimeError(text))
    assert not device.is_out_of_memory(RuntimeError("could not create a folder"))


def test_more_than_is_left_is_refused_with_what_is_in_use(monkeypatch):
    monkeypatch.setattr(device, "used_memory", lambda where: 300 * MIB)
    device.require_memory(100 * MIB, "to rest", max_memory=400 * MIB, hint="sleep")
    with pytest.raises(TooLarge, match=r"needs 401 MiB to rest .*300 MiB of it.* raise --max-memory"):
        device.require_memory(101 * MIB, "to rest", max_memory=400 * MIB, hint="sleep")


def test_files_in_the_cache_of_a_container_are_free_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "CGROUP", tmp_path)
    for name, text in {"max": "1000\n", "current": "900\n", "stat": "anon 100\ninactive_file 700\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert device.free_memory(CPU) == 800
    (tmp_path / "memory.stat").write_text("anon 900\n")
    assert device.free_memory(CPU) == 100
    (tmp_path / "memory.max").write_text("max\n")
    assert device.free_memory(CPU) > 1 << 20

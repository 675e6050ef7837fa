"""Devices, number formats, attention back-ends, and draws that depend on their keys alone."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from quiet_clock import quiet_seconds

from ric import device as ric_device
from ric.device import (
    attention_backends,
    autocast,
    draw_generator,
    machine_name,
    matmul_rate,
    pick_device,
    pick_dtype,
    usable_cores,
)
from ric.errors import RicError

CPU = torch.device("cpu")


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def one_gpu(monkeypatch):
    """Let PyTorch say that it has a GPU; nothing is computed on it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Old GPU")


# --- device and dtype ----------------------------------------------------------------------------


def test_auto_is_the_cpu_where_there_is_no_gpu(no_gpu):
    assert pick_device("auto") == pick_device("cpu") == CPU


def test_auto_is_the_gpu_where_there_is_one(one_gpu):
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
    assert pick_device("cuda:0") == torch.device("cuda", 0)


def test_a_gpu_that_is_not_there_is_an_error(no_gpu):
    with pytest.raises(RicError) as raised:
        pick_device("cuda")
    assert "--device cuda was requested" in raised.value.message
    assert "finds no CUDA GPU" in raised.value.message
    assert "--device cpu" in raised.value.hint


def test_a_gpu_beyond_the_last_one_is_an_error(one_gpu):
    with pytest.raises(RicError) as raised:
        pick_device("cuda:3")
    assert raised.value.message == "There is no GPU cuda:3: PyTorch finds 1."
    assert raised.value.hint == "The last one is cuda:0."


@pytest.mark.parametrize("name", ["gpu", "mps", "cpu:0", "cuda:x", ""])
def test_an_unknown_device_lists_the_known_ones(name):
    with pytest.raises(RicError) as raised:
        pick_device(name)
    assert raised.value.message == f"Unknown device {name!r}."
    assert raised.value.hint == "Choose one of: auto, cpu, cuda, cuda:N."


def test_a_cpu_computes_in_the_dtype_that_was_asked_for():
    assert pick_dtype("bf16", CPU) == torch.bfloat16
    assert pick_dtype("fp32", CPU) == torch.float32


def test_a_gpu_without_bf16_is_named(one_gpu, monkeypatch):
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert pick_dtype("bf16", gpu) == torch.bfloat16
    assert pick_dtype("fp32", gpu) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    with pytest.raises(RicError) as raised:
        pick_dtype("bf16", gpu)
    assert raised.value.message == "Old GPU cannot compute in bf16."
    assert raised.value.hint == "Use --dtype fp32."


def test_auto_is_bf16_where_the_device_has_instructions_for_it(monkeypatch):
    gpu = torch.device("cuda")
    for has in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has, **_: has)
        assert pick_dtype("auto", gpu) == (torch.bfloat16 if has else torch.float32)
        for name in ("amx_bf16", "avx512_bf16", "bf16"):
            found = {"avx2": True, name: has}
            monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
            assert pick_dtype("auto", CPU) == (torch.bfloat16 if has else torch.float32)


def test_auto_agrees_with_the_kernel_about_this_cpu():
    listing = Path("/proc/cpuinfo")
    flags = set(listing.read_text().split()) if listing.exists() else set()
    if "avx2" not in flags:
        pytest.skip("Only Linux lists an x86 processor's instructions in /proc/cpuinfo.")
    has = bool(flags & {"avx512_bf16", "amx_bf16"})
    assert pick_dtype("auto", CPU) == (torch.bfloat16 if has else torch.float32)


def test_an_unknown_dtype_lists_the_known_ones():
    with pytest.raises(RicError) as raised:
        pick_dtype("fp16", CPU)
    assert raised.value.message == "Unknown dtype 'fp16'."
    assert raised.value.hint == "Choose one of: auto, bf16, fp32."


def test_autocast_changes_products_and_float32_changes_nothing():
    a = torch.ones(2, 2)
    with autocast(CPU, torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
    assert isinstance(autocast(CPU, torch.float32), nullcontext)


# --- draws ---------------------------------------------------------------------------------------


def test_the_same_keys_give_the_same_draws():
    first = torch.randn(5, generator=draw_generator(3, "noise", 7, "0041"))
    again = torch.randn(5, generator=draw_generator(3, "noise", 7, "0041"))
    assert torch.equal(first, again)


def test_every_key_the_seed_their_order_and_their_type_matter():
    keys = [(3, "noise", 7), (4, "noise", 7), (3, "step", 7), (3, "noise", 8), (3, 7, "noise")]
    keys += [(3, "noise", "7"), (3, "noise"), (3, "noise7"), (3, "noise", 7, "")]
    draws = {tuple(torch.rand(3, generator=draw_generator(*key)).tolist()) for key in keys}
    assert len(draws) == len(keys)


def test_a_draw_neither_reads_nor_moves_the_global_generator():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = torch.rand(3, generator=draw_generator(0, "x"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(torch.rand(3, generator=draw_generator(0, "x")), first)


def test_the_seed_is_the_documented_hash():
    digest = hashlib.sha256(b"(5, 'noise', 2)").digest()
    reference = torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))
    assert draw_generator(5, "noise", 2).initial_seed() == reference.initial_seed()


def test_another_process_draws_the_same():
    code = (
        "import torch; from ric.device import draw_generator\n"
        "print(torch.randint(10**9, (3,), generator=draw_generator(1, 'noise', 2, 'a')).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = torch.randint(10**9, (3,), generator=draw_generator(1, "noise", 2, "a"))
    assert done.stdout.strip() == str(here.tolist())


def test_the_draws_of_neighbouring_steps_are_not_alike():
    rows = torch.stack([torch.randn(4096, generator=draw_generator(0, s)) for s in range(8)])
    correlation = torch.corrcoef(rows) - torch.eye(8)
    assert correlation.abs().max() < 0.1


# --- attention -----------------------------------------------------------------------------------


def test_the_plain_formula_is_attention_written_out():
    query, key, value = torch.randn(3, 1, 1, 2, 4).unbind(0)
    scores = [
        sum(q * k for q, k in zip(query[0, 0, 1], key[0, 0, j], strict=True)) / 2 for j in (0, 1)
    ]
    weight = torch.exp(torch.stack(scores))
    expected = (weight[0] * value[0, 0, 0] + weight[1] * value[0, 0, 1]) / weight.sum()
    plain = ric_device._plain_attention(query, key, value)
    assert torch.allclose(plain[0, 0, 1], expected, atol=1e-6)


def test_every_back_end_is_tried_and_math_works():
    reports = {report.name: report for report in attention_backends(CPU)}
    assert list(reports) == ["math", "flash", "efficient", "cudnn", "xformers"]
    assert reports["math"].works
    assert "in float32" in reports["math"].detail
    for report in reports.values():
        assert report.detail
        assert "\n" not in report.detail
    assert not reports["cudnn"].works
    assert "no kernel for cpu tensors" in reports["cudnn"].detail


def test_a_missing_xformers_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "xformers.ops", None)
    report = attention_backends(CPU)[-1]
    assert (report.works, report.detail) == (False, "not installed: pip install 'ric[xformers]'")


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_a_back_end_with_wrong_numbers_does_not_work(monkeypatch, factor):
    plain = ric_device._plain_attention
    monkeypatch.setattr(ric_device, "_xformers_attention", lambda q, k, v: factor * plain(q, k, v))
    report = attention_backends(CPU)[-1]
    assert not report.works
    assert report.detail.startswith("wrong numbers: largest error")


def test_pytorchs_reason_is_taken_from_its_warnings():
    said = [
        "Flash attention kernel not used because:",
        "It needs Half. (Triggered internally at x)",
    ]
    error = RuntimeError("No available kernel. Aborting execution.")
    assert ric_device._reason(error, said, CPU) == "It needs Half"
    assert ric_device._reason(RuntimeError("out of memory\nmore"), [], CPU) == "out of memory"
    assert ric_device._reason(RuntimeError(), [], CPU) == "RuntimeError"


@pytest.mark.gpu
def test_the_fused_kernels_work_on_a_gpu():
    works = {report.name: report.works for report in attention_backends()}
    assert works["math"]
    assert works["flash"]
    assert works["efficient"]


# --- the machine ---------------------------------------------------------------------------------


def test_the_machine_is_named_with_its_cores(no_gpu):
    assert machine_name().endswith(f"{usable_cores()} cores")


def test_a_gpu_is_part_of_the_machines_name(one_gpu):
    assert machine_name().endswith("cores; Old GPU")


def test_naming_the_machine_does_not_load_torch():
    code = (
        "import sys; from ric.device import machine_name\n"
        "machine_name(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_matrix_rate_is_a_plausible_number_and_keeps_its_time():
    start = quiet_seconds()
    rate = matmul_rate(torch.float32, seconds=0.1, device=CPU)
    assert 1e8 < rate < 1e14
    assert quiet_seconds() - start < 5

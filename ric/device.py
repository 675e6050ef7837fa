"""The machine under the models: device, number format, attention back-ends, and seeded draws.

torch is imported inside the functions, so that `machine_name` alone does not load it.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import platform
import sys
import time
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    import torch
    from torch import Tensor

# The values of the flags; anything else is refused with this list.
DEVICES = "auto, cpu, cuda, cuda:N"
DTYPES = "auto, bf16, fp32"
BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # torch's names; bf16 is Arm's


def pick_device(name: str = "auto") -> torch.device:
    """Turn `--device` into a device: `auto` is the GPU if there is one.

    Apple's GPU (`mps`) is not used: it lacks operations that training needs.

    Raises:
        RicError: `name` is none of `auto`, `cpu`, `cuda`, `cuda:N`, or there is no such GPU.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
        raise RicError(f"Unknown device {name!r}.", f"Choose one of: {DEVICES}.")
    if kind == "cuda" and not count:
        raise RicError(
            f"--device {name} was requested, but PyTorch {torch.__version__} finds no CUDA GPU.",
            "Use --device cpu, or check the GPU's driver: ric doctor",
        )
    if index and int(index) >= count:
        raise RicError(
            f"There is no GPU {name}: PyTorch finds {count}.", f"The last one is cuda:{count - 1}."
        )
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Turn `--dtype` into the number format of matrix products.

    Weights stay in float32 either way; `bf16` is autocast, on a CPU too. `auto` is bf16 where the
    device has instructions for it, and fp32 elsewhere: a CPU without them computes a convolution in
    bf16 some fifty times more slowly than in fp32.

    Raises:
        RicError: `name` is none of these, or it is `bf16` and the GPU has no bfloat16.
    """
    import torch

    if name not in DTYPES.split(", "):
        raise RicError(f"Unknown dtype {name!r}.", f"Choose one of: {DTYPES}.")
    if resolve_dtype(name, device) == "fp32":
        return torch.float32
    if device.type == "cuda" and not computes_in_bf16(device):
        raise RicError(
            f"{torch.cuda.get_device_name(device)} cannot compute in bf16.", "Use --dtype fp32."
        )
    return torch.bfloat16


def resolve_dtype(name: str, device: torch.device) -> str:
    """Return `bf16` or `fp32`, which `auto` means on a device; another name as it is."""
    if name != "auto":
        return name
    return "bf16" if computes_in_bf16(device) else "fp32"


def computes_in_bf16(device: torch.device) -> bool:
    """Tell whether a device has instructions for bfloat16, so that it does not emulate them."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # torch 2.10 cannot tell
        instructions: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(instructions.get(name, False) for name in BF16_INSTRUCTIONS)
    return True


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Return the context for a forward pass: autocast to `dtype`, or nothing for float32."""
    import torch

    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)


# --- draws ---------------------------------------------------------------------------------------


def draw_generator(seed: int, *keys: int | str) -> torch.Generator:
    """Return the CPU generator of one draw, a function of `seed` and `keys` alone.

    Training uses `draw_generator(seed, "sample", step, k)`, so a draw depends neither on the number
    of processes nor on where a run was resumed; the global generator is not touched. The
    generator's seed comes from a SHA-256 of all arguments. PyTorch's CPU generator uses 32 bits of
    it: among 77,000 draws the chance that two share a stream is about a half, which is as harmless
    as two samples with the same timestep.

    Args:
        seed: The run's seed.
        keys: Identify the draw; 1 and "1" are different keys.
    """
    import torch

    # repr keeps types and boundaries: (1, "1") and ("11",) must differ
    digest = hashlib.sha256(repr((seed, *keys)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))


# --- attention -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class BackendReport:
    """The result of testing one attention back-end on this machine.

    Attributes:
        name: `math`, `flash`, `efficient`, `cudnn` (PyTorch's), or `xformers`.
        works: Whether it ran and agreed with the plain formula.
        detail: One line: its largest error, or why it does not work.
    """

    name: str
    works: bool
    detail: str


def attention_backends(device: torch.device | None = None) -> list[BackendReport]:
    """Run every attention back-end once on a small tensor and compare it with the formula.

    A successful import proves little: a package's kernels may be built for another GPU.

    Args:
        device: Where to run; None: the GPU if there is one.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    device = device or pick_device("auto")

    def restricted_to(backend: Any) -> Callable[..., Tensor]:
        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            with sdpa_kernel(backend):
                return scaled_dot_product_attention(query, key, value)

        return attend

    kernels = {
        "math": restricted_to(SDPBackend.MATH),
        "flash": restricted_to(SDPBackend.FLASH_ATTENTION),
        "efficient": restricted_to(SDPBackend.EFFICIENT_ATTENTION),
        "cudnn": restricted_to(SDPBackend.CUDNN_ATTENTION),
        "xformers": _xformers_attention,
    }
    generator = draw_generator(0, "attention")
    query, key, value = (
        torch.randn(2, 4, 64, 32, generator=generator).to(device) for _ in range(3)
    )
    return [_try_attention(name, kernel, query, key, value) for name, kernel in kernels.items()]


def _try_attention(
    name: str, kernel: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor
) -> BackendReport:
    import torch

    # a GPU's fused kernels support half precision only
    dtype = torch.bfloat16 if query.device.type == "cuda" else torch.float32
    inputs = [tensor.to(dtype) for tensor in (query, key, value)]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            with torch.no_grad():
                result = kernel(*inputs).float()
        except (ImportError, RuntimeError, ValueError, NotImplementedError, OSError) as error:
            return BackendReport(
                name, False, _reason(error, [str(w.message) for w in said], query.device)
            )
    error_found = (result - _plain_attention(*(tensor.float() for tensor in inputs))).abs().max()
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5
    works = bool(error_found <= tolerance)  # False for NaN as well
    format_name = str(dtype).removeprefix("torch.")
    detail = f"largest error {error_found.item():.1e} in {format_name}"
    return BackendReport(name, works, detail if works else f"wrong numbers: {detail}")


def _plain_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    return scores.softmax(dim=-1) @ value


def _xformers_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    # its import warns about extensions built for another torch; only the result counts
    logger = logging.getLogger("xformers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        try:
            from xformers.ops import memory_efficient_attention
        except ImportError as error:
            raise ImportError("not installed: pip install 'ric[xformers]'") from error
        # it expects (batch, tokens, heads, width)
        swapped = (tensor.transpose(1, 2) for tensor in (query, key, value))
        return memory_efficient_attention(*swapped).transpose(1, 2)
    finally:
        logger.setLevel(level)


def _reason(error: Exception, said: list[str], device: torch.device) -> str:
    """Summarise an error in one line; PyTorch puts the cause into its warnings."""
    headings = ("not used because", "runtime disabled")
    causes = [line for line in said if not any(heading in line for heading in headings)]
    text = str(error).strip() or type(error).__name__
    if "No viable backend" in text or "No available kernel" in text:
        text = causes[-1] if causes else f"it has no kernel for {device.type} tensors of this shape"
    return text.splitlines()[0].partition(" (Triggered internally")[0].strip().rstrip(".")


# --- the machine ---------------------------------------------------------------------------------


def machine_name() -> str:
    """Name this machine for a result: `AMD EPYC 9654, 16 cores; NVIDIA H200`.

    GPUs are named only if torch is already loaded: loading it takes seconds.
    """
    cpu = f"{_cpu_model()}, {usable_cores()} cores"
    gpus = gpu_names()
    return f"{cpu}; {', '.join(gpus)}" if gpus else cpu


def usable_cores() -> int:
    """Count the cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpu_names() -> list[str] | None:
    """List the GPUs' names; None if torch is not loaded, since then they are unknown."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda"):
        return None
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


def matmul_rate(
    dtype: torch.dtype, seconds: float = 0.2, device: torch.device | None = None
) -> float:
    """Measure how fast square matrices are multiplied, in FLOP per second (2 n^3 per product).

    Args:
        dtype: Of the matrices; float32 is measured without TF32, torch's default.
        seconds: How long to measure; longer gives a steadier number.
        device: Where to measure; None: the GPU if there is one.
    """
    import torch

    device = device or pick_device("auto")
    on_gpu = device.type == "cuda"
    side = 8192 if on_gpu else 512
    # random, not ones: on ones a GPU draws less power and runs faster than it will on weights
    a = torch.randn(side, side, device=device).to(dtype)
    wait: Callable[[], Any] = torch.cuda.synchronize if on_gpu else lambda: None
    burst = 8 if on_gpu else 1
    a @ a  # the first call chooses and loads its kernel
    wait()
    products = 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or not products:
        for _ in range(burst):
            a @ a
        wait()
        products += burst
    return 2 * side**3 * products / elapsed

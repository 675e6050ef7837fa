"""The surroundings of a command: standard streams, signals, and other libraries' variables.

`main()` calls `settle()` first, before it imports any library that reads them.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

from ric import interrupt
from ric.launcher import SIZES

# The reader is gone: `ric runs ls | head`, or a closed terminal.
READER_GONE = (errno.EPIPE, errno.EIO, errno.ECONNRESET)

# Variables that would make other libraries compute something else, fail, or run foreign code.
# Choices that ric offers have a flag.
DROPPED_PREFIXES = (
    "ACCELERATE_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_",  # accelerate's configuration
    "PMI_", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_", "MPI_LOCAL",     # mpirun's, read by accelerate
    "DIFFUSERS_ATTN_",
)  # fmt: skip
DROPPED = (
    "MATPLOTLIBRC",
    "USE_TORCH", "USE_TF", "USE_FLAX", "USE_JAX", "USE_TORCH_XLA",  # "torch is not installed"
    "USE_SAFETENSORS", "USE_HUB_KERNELS", "XFORMERS_DISABLED",
    "TRUST_REMOTE_CODE", "DIFFUSERS_TRUST_REMOTE_KERNELS", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD",
    "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",     # float32 with fewer bits
    "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE",
)  # fmt: skip
# Kept under a launcher; left over without one, they would make accelerate wait for other processes.
OF_A_LAUNCHER = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
# On a terminal without columns rich prints nothing at all, not even an error.
SIZES_OF_TERMINALS = ("COLUMNS", "LINES")
# A notebook's back-end is not installed with ric, and figures are only written to files.
FIXED = {"MPLBACKEND": "agg"}
# Unless the user sets them: libraries would draw their own bars and warn, and waiting threads would
# spin, which takes the core from those they wait for (benchmarks/threads.py).
DEFAULTS = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "OMP_WAIT_POLICY": "PASSIVE",
    "KMP_BLOCKTIME": "0",
}


def _write_at_once(words: str) -> None:
    """Write a line to stderr from a signal's handler, where Python's own streams may be in use."""
    with suppress(OSError):
        os.write(2, f"\n{words}\n".encode())


def settle() -> None:
    """Make streams safe to write to, handle signals, and clear other libraries' variables."""
    _keep_streams()
    interrupt.announce = _write_at_once
    interrupt.raise_on_stop_signals()
    _set_variables()


def _set_variables() -> None:
    told = os.environ.get("WORLD_SIZE", "")
    # without it the sizes stay: what would be done once for each process is refused
    kept = () if told else SIZES
    for name in list(os.environ):
        of_none = told in ("", "1") and name in OF_A_LAUNCHER
        dropped = name in DROPPED or name.startswith(DROPPED_PREFIXES)
        if of_none or (dropped and name not in kept):
            del os.environ[name]
    for name in SIZES_OF_TERMINALS:
        if name in os.environ and not _is_positive(os.environ[name]):
            del os.environ[name]
    os.environ.update(FIXED)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def _is_positive(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text[:9]) > 0


def take_one_thread() -> None:
    """Run networks as small as the embedded family's on one thread, unless the user sets it.

    A second one gained nothing on a busy machine, and lost a third on a busier one (docs/speed.md).
    Call it before torch is imported.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# --- streams -------------------------------------------------------------------------------------


class _Descriptor(io.FileIO):
    """A descriptor whose writes never fail: what cannot be written is dropped.

    Attributes:
        error: The first failure, to be reported at the end.
    """

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            # None: another program made the pipe non-blocking, and it is full
            while (written := cast("int | None", super().write(data))) is None:
                select.select([], [self.fileno()], [])
            return written
        except OSError as error:
            self.error = self.error or error
            return memoryview(data).nbytes


def _keep_streams() -> None:
    """Make stdout and stderr accept any text, and never fail when nobody reads them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # closed: the next file opened would get its number, and with it the output
            os.open(os.devnull, os.O_RDWR)
    # keep the streams that a test or a notebook has put in place
    if sys.stdout is sys.__stdout__:
        sys.stdout = _stream(1, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _stream(2, sys.stderr)


def _stream(number: int, before: TextIO | None) -> TextIO:
    """Reopen a standard stream; characters that its encoding lacks are escaped."""
    raw = _Descriptor(number, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before else "utf-8",
        errors="backslashreplace",
        line_buffering=number == 2 or raw.isatty() or getattr(before, "write_through", False),
    )


def lost_output() -> OSError | None:
    """Flush stdout; return the error if some of it could not be written."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.error if isinstance(raw, _Descriptor) else None

"""What a command meets before it begins: standard streams, signals, variables of other libraries.

`settle()` is the first thing that `main()` does, before any library is imported that reads them.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import Any, TextIO, cast

from ric.interrupt import raise_on_stop_signals

# The reader has gone: `ric runs ls | head`, or a terminal that was closed.
READER_GONE = (errno.EPIPE, errno.EIO, errno.ECONNRESET)

# Variables by which other libraries would change what is computed, or fail, or run code of others.
# What ric lets a user choose has a flag.
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
# They stay where a launcher has started others; left over alone, they would have accelerate wait.
OF_A_LAUNCHER = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
# A notebook's back-end is not installed beside ric, and figures are only ever files.
FIXED = {"MPLBACKEND": "agg"}
# Where the user has set nothing: libraries draw bars and warn on their own otherwise, and threads
# that wait for others spin, which takes the core from those they wait for (benchmarks/threads.py).
DEFAULTS = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "OMP_WAIT_POLICY": "PASSIVE",
    "KMP_BLOCKTIME": "0",
}


def settle() -> None:
    """Make streams safe to write to, hear signals, and keep other libraries' variables away."""
    _keep_streams()
    raise_on_stop_signals()
    _set_variables()


def _set_variables() -> None:
    alone = os.environ.get("WORLD_SIZE", "") in ("", "1")
    for name in list(os.environ):
        of_none = alone and name in OF_A_LAUNCHER
        if of_none or name in DROPPED or name.startswith(DROPPED_PREFIXES):
            del os.environ[name]
    os.environ.update(FIXED)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def take_one_thread() -> None:
    """Let networks as small as the embedded family's run on one thread, unless the user says else.

    A second one gained nothing on a busy machine, and lost a third on a busier one (docs/speed.md).
    Called before torch is imported.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# --- streams -------------------------------------------------------------------------------------


class _Descriptor(io.FileIO):
    """A descriptor whose writes never fail: what cannot be written is dropped.

    Attributes:
        error: The first failure, for whoever must tell.
    """

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            # None: another program has made the pipe non-blocking, and it is full
            while (written := cast("int | None", super().write(data))) is None:
                select.select([], [self.fileno()], [])
            return written
        except OSError as error:
            self.error = self.error or error
            return memoryview(data).nbytes


def _keep_streams() -> None:
    """Let stdout and stderr take any text, and lose no work when nobody reads them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # closed: the next file that is opened would get its number, and what is printed
            os.open(os.devnull, os.O_RDWR)
    # a test or a notebook that has put its own in place keeps it
    if sys.stdout is sys.__stdout__:
        sys.stdout = _stream(1, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _stream(2, sys.stderr)


def _stream(number: int, before: TextIO | None) -> TextIO:
    """Open a standard stream again: what its encoding lacks is written as an escape."""
    raw = _Descriptor(number, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before else "utf-8",
        errors="backslashreplace",
        line_buffering=number == 2 or raw.isatty() or getattr(before, "write_through", False),
    )


def lost_output() -> OSError | None:
    """Write out what is left of stdout, and give the reason why some of it could not be written."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.error if isinstance(raw, _Descriptor) else None

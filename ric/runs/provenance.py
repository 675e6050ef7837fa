"""Provenance for run.json and `ric doctor`: versions, the source's commit, the machine.

Cheap enough for every run: versions are read from the packages' metadata, without importing them.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ric.device import gpu_names, machine_name, usable_cores

PACKAGES = (
    "ric", "torch", "torchvision", "diffusers", "transformers", "accelerate", "datasets",
    "safetensors", "tokenizers", "huggingface_hub", "numpy", "scipy", "pillow", "torchmetrics",
    "clean-fid", "lpips", "torch-fidelity", "xformers",
)  # fmt: skip
GIT_SECONDS = 2.0  # a checkout on a sleeping network drive must not delay a run


def environment_report(folder: str | Path = ".") -> dict[str, Any]:
    """Describe the software and the machine, as JSON-ready values.

    Args:
        folder: Where results will be written; the free space is that of its disk.

    Returns:
        `python`, `versions` (name to version, None if not installed), `git` (`commit` and `dirty`,
        None if `ric` is not a checkout), `platform`, `machine`, `cpus`, `memory_bytes`, `gpus`
        (names; None if torch is not loaded yet) and `disk_free_bytes`.
    """
    return {
        "python": platform.python_version(),
        "versions": {name: _version_of(name) for name in PACKAGES},
        "git": git_state(Path(__file__).resolve().parents[2]),
        "platform": platform.platform(),
        "machine": machine_name(),
        "cpus": usable_cores(),
        "memory_bytes": _memory_bytes(),
        "gpus": gpu_names(),
        "disk_free_bytes": _disk_free(Path(folder)),
    }


def git_state(checkout: Path) -> dict[str, Any] | None:
    """Return a checkout's commit and whether tracked files differ from it; None if unknown.

    Args:
        checkout: A folder; one that is not the root of a checkout gives None, so that an installed
            `ric` does not report the commit of a project around its environment.
    """
    if not (checkout / ".git").exists():
        return None
    # one call for both; without locks, so a commit in progress is not disturbed
    command = (
        "git", "--no-optional-locks", "-C", str(checkout),
        "status", "--porcelain=v2", "--branch", "--untracked-files=no",
    )  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.splitlines()
    commit = next(
        (line.split()[-1] for line in lines if line.startswith("# branch.oid ")), "(initial)"
    )
    if done.returncode != 0 or commit == "(initial)":
        return None
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _disk_free(folder: Path) -> int | None:
    """Return the free bytes on the disk of a folder, which need not exist yet."""
    for existing in (folder.absolute(), *folder.absolute().parents):
        if existing.exists():
            return shutil.disk_usage(existing).free
    return None

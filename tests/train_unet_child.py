"""`ric train-unet` in a process that can be killed, forked off one that has imported everything."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

READY = ["diffusers", "ric.recipes.train_unet", "ric_cli.main", "ric_cli.train_unet"]
FORKS = get_context("forkserver")


class Child:
    """A training on `data` in the folder `run`, on the CPU, as `--preset tiny` sets it.

    Attributes:
        process: It.
    """

    def __init__(self, data: Path, run: Path, asked: Path, **settings: Any) -> None:
        """Start it; the file `asked` gets a byte each time that a UNet is asked."""
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
        words = [str(data), "--preset=tiny", "--device=cpu", f"--run={run}", *flags]
        self._asked, self._said = asked, asked.with_suffix(".log")
        asked.touch()
        FORKS.set_forkserver_preload(READY)
        self.process = FORKS.Process(target=_train, args=(words, self._said, asked))
        self.process.start()

    @property
    def asked(self) -> int:
        """How often a UNet was asked."""
        return self._asked.stat().st_size

    def wait_until(self, what: Callable[[], bool]) -> None:
        """Look again and again, at most ten minutes, whether something is so."""
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline and self.process.is_alive():
            if what():
                return
            time.sleep(0.001)
        self.process.kill()
        raise AssertionError(f"waited in vain: {self.end()[1]}")

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and what it said."""
        self.process.join(600)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        return self.process.exitcode, self._said.read_text() if self._said.is_file() else ""


def _train(words: list[str], said: Path, asked: Path) -> None:
    from diffusers import UNet2DConditionModel
    from torch.nn.modules.module import register_module_forward_pre_hook

    from ric_cli.main import main

    output, count = (
        os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for file in (said, asked)
    )
    os.dup2(output, 1)
    os.dup2(output, 2)

    def tell(module: Any, arguments: Any) -> None:
        if isinstance(module, UNet2DConditionModel):
            os.write(count, b".")

    register_module_forward_pre_hook(tell)
    sys.argv = ["ric", "train-unet", *words]
    main()

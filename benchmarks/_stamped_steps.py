"""Run a trainer and write the processor time at which each of its steps had ended.

    python _stamped_steps.py STAMPS.json -m MODULE ARGUMENT...
    python _stamped_steps.py STAMPS.json SCRIPT ARGUMENT...

A step ends where the average of the weights is updated, in `ric` and in diffusers' scripts.
"""

from __future__ import annotations

import json
import runpy
import sys
import time
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from diffusers.training_utils import EMAModel

from ric.training import loop

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Run what the command line names."""
    _, written, *words = sys.argv
    stamps: list[float] = []

    def stamped(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*given: Any, **named: Any) -> Any:
            result = function(*given, **named)
            stamps.append(time.process_time())
            return result

        return run

    with ExitStack() as stack:
        stack.callback(lambda: Path(written).write_text(json.dumps(stamps)))
        for owner, name in ((loop, "update_ema"), (EMAModel, "step")):
            stack.enter_context(patch.object(owner, name, stamped(getattr(owner, name))))
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main()

"""Do two versions of ric compute the same? Run this before a refactoring lands.

    python tests/same_results.py REVISION

Runs the six commands as a seeded chain on drawn scenes, once as they are at REVISION and once as
they are here, and compares all that the runs hold: logged figures, weights, pictures, texts and
scores. Times, paths, versions and process ids may differ, nothing else. Both use the embedded
family of this checkout, or that of RIC_TINY_FAMILY.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATA = "scenes:160@64#9"
FEW = ("--preset", "tiny", "--limit", "12", "--device", "cpu")
CHAIN = (
    ("describe", DATA, *FEW, "--split", "train", "--describer", "chat",
     "--max-new-tokens", "256"),
    ("fit-clip", DATA, *FEW, "--fusion-epochs", "1", "--joint-epochs", "1", "--batch-size", "4"),
    ("fit-blip", DATA, *FEW, "--epochs", "1", "--batch-size", "4", "--descriptions", "@describe"),
    ("train-unet", DATA, *FEW, "--steps", "4", "--descriptions", "@describe",
     "--region-clip", "@fit-clip", "--scene-blip", "@fit-blip"),
    ("edit", DATA, *FEW, "--unet", "@train-unet", "--steps", "4"),
    ("eval", "Ours=@edit", "--data", DATA, *FEW),
)  # fmt: skip

# What the clock, the machine or the place decides.
CLOCK = {
    "images_per_second", "samples_per_second", "seconds", "started", "finished", "time", "times",
    "ended", "pid", "host", "argv", "versions", "git", "environment", "elapsed",
    "_name_or_path",
}  # fmt: skip
PASSED_OVER = {"claims", "curves.png"}  # the curves show the rate


def follow_chain(checkout: Path, runs: Path) -> None:
    """Run the six commands of a checkout; each run gets the command's name."""
    environment = {
        "RIC_TINY_FAMILY": str(ROOT / "ric" / "assets" / "tiny"),
        **os.environ,
        "PYTHONPATH": str(checkout),
        "RIC_RUNS_DIR": str(runs),
        "HF_HUB_OFFLINE": "1",
        "RIC_CACHE_DIR": str(runs.parent / f"{runs.name}-cache"),
    }
    for words in CHAIN:
        line = [sys.executable, "-m", "ric_cli", *words, "--quiet", "--run", str(runs / words[0])]
        done = subprocess.run(
            line, cwd=checkout, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode not in (0, 3):
            sys.exit(f"{checkout}: ric {' '.join(words)}\n{done.stdout}{done.stderr}")


def contents(runs: Path) -> dict[str, Any]:
    """Read every file of the runs, without what may differ."""
    found: dict[str, Any] = {}
    for file in sorted(runs.rglob("*")):
        inside = file.relative_to(runs)
        if file.is_dir() or PASSED_OVER & set(inside.parts):
            continue
        # a writer's own rows carry its name until they are merged
        name = re.sub(r"-[\w.]+\.jsonl$", ".jsonl", str(inside))
        if file.suffix == ".json":
            found[name] = cleaned(json.loads(file.read_text()), runs)
        elif file.suffix == ".jsonl":
            rows = [cleaned(json.loads(line), runs) for line in file.read_text().splitlines()]
            found.setdefault(name, []).extend(rows)
        elif file.suffix in (".md", ".tex", ".txt"):
            found[name] = file.read_text().replace(str(runs), "RUNS")
        else:
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def cleaned(value: Any, runs: Path) -> Any:
    """Leave out of JSON what may differ, and name the folder of the runs alike."""
    if isinstance(value, dict):
        return {key: cleaned(inner, runs) for key, inner in value.items() if key not in CLOCK}
    if isinstance(value, list):
        return [cleaned(inner, runs) for inner in value]
    return value.replace(str(runs), "RUNS") if isinstance(value, str) else value


def differences(before: Any, after: Any, place: str = "") -> list[str]:
    """List where two contents differ, a line each."""
    if isinstance(before, dict) and isinstance(after, dict):
        found = [f"{place}/{key}: only before" for key in sorted(before.keys() - after.keys())]
        found += [f"{place}/{key}: only after" for key in sorted(after.keys() - before.keys())]
        for key in sorted(before.keys() & after.keys()):
            found += differences(before[key], after[key], f"{place}/{key}")
        return found
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            line
            for number, pair in enumerate(zip(before, after, strict=True))
            for line in differences(*pair, f"{place}[{number}]")
        ]
    return [] if before == after else [f"{place}: {before!r} became {after!r}"]


def main() -> None:
    """Compare this checkout with REVISION."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        old, runs = Path(folder) / "checkout", Path(folder) / "runs"
        git = ["git", "-C", str(ROOT)]
        subprocess.run(
            [*git, "worktree", "add", "--detach", "--quiet", str(old), sys.argv[1]], check=True
        )
        try:
            sides = []
            for name, checkout in (("before", old), ("after", ROOT)):
                follow_chain(checkout, runs / name)
                sides.append(contents(runs / name))
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(old)], check=True)
    found = differences(*sides)
    print("\n".join(found) or f"{len(sides[0])} files hold the same.")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()

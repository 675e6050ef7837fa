"""What stays in memory of the files that a training starts from."""

from __future__ import annotations

import shutil
from pathlib import Path

from ric.config import TrainUnetConfig
from ric.progress import Silent
from ric.recipes.train_unet import train_unet


class Maps(Silent):
    """A progress that lists the files which are mapped into memory while steps are taken."""

    def __init__(self) -> None:
        self.text = ""

    def advance(self, count: int = 1, **values: float) -> None:
        self.text = Path("/proc/self/maps").read_text()


def test_the_file_a_unet_comes_from_does_not_stay_in_memory_beside_it(
    tiny, edits, follow, tiny_family, tmp_path
):
    # a copy of its own: other tests of this process may still hold the family's files
    base = shutil.copytree(tiny_family / "pipeline", tmp_path / "base")
    config = tiny(TrainUnetConfig, edits, steps=1, batch_size=2, base=str(base))
    maps = Maps()
    follow(train_unet, config, tmp_path / "run", maps)
    # those of the other networks stay: none of them is copied
    assert str(base / "vae") in maps.text
    assert str(base / "unet") not in maps.text

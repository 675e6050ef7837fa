from __future__ import annotations

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
    config = tiny(TrainUnetConfig, edits, steps=1, batch_size=2)
    maps = Maps()
    follow(train_unet, config, tmp_path / "run", maps)
    # those of the other networks stay: none of them is copied
    assert str(tiny_family / "pipeline" / "vae") in maps.text
    assert str(tiny_family / "pipeline" / "unet") not in maps.text

"""Features of the pictures of `--fid-set`, which belong to no sample, for FID and KID."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ric.data.images import ImageError, open_image
from ric.errors import RicError, SampleError
from ric.interrupt import stop_between_steps
from ric.scoring.matching import decoded_ahead
from ric.scoring.outputs import pictures_in
from ric.scoring.set_distances import FidSet

if TYPE_CHECKING:
    from torch import Tensor

    from ric.config import EvalConfig
    from ric.metrics.networks import SetEncoder
    from ric.work import Work


def read_fid_set(
    folder: str, network: SetEncoder, config: EvalConfig, work: Work, *, threads: int
) -> FidSet:
    """Run FID's network on a folder's pictures; one that cannot be read is a failure of the run.

    Raises:
        RicError: there is no such folder, or fewer than two of its pictures can be read.
        Interrupted: a stop was requested.
    """
    files = pictures_in(Path(folder))
    features = []
    prepare = partial(_prepare, network=network, config=config)
    with (
        stop_between_steps() as stop,
        work.progress.stage("pictures of --fid-set", total=len(files), unit="pictures") as stage,
        closing(decoded_ahead(files, prepare, threads)) as prepared,
    ):
        while some := list(islice(prepared, config.batch_size)):
            for failed in (one for one in some if isinstance(one, SampleError)):
                work.run.fail(failed)
            if read := [one for one in some if not isinstance(one, SampleError)]:
                features.append(network.features_of(read).features.numpy())
            stage.advance(len(some))
            stop.raise_if_set()
    if sum(map(len, features)) < 2:
        raise RicError(
            f"FID needs 2 pictures or more; fewer can be read in {folder}.",
            "See failures.jsonl in the run, or omit --fid-set.",
        )
    return FidSet(folder, np.concatenate(features))


def _prepare(file: Path, *, network: SetEncoder, config: EvalConfig) -> Tensor | SampleError:
    try:
        picture = open_image(file, max_pixels=config.max_pixels, decode=config.decode)
        return network.prepare(picture)
    except ImageError as error:
        return SampleError(file.name, "fid-set", error.message)

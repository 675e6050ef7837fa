"""Features of the pictures of `--fid-set`, which belong to no sample, for distances of sets."""

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
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from ric.config import EvalConfig
    from ric.metrics.networks import SetEncoder
    from ric.work import Work


def read_fid_set(
    folder: str,
    networks: Mapping[str, SetEncoder],
    config: EvalConfig,
    work: Work,
    *,
    threads: int,
) -> FidSet:
    """Run networks on a folder's pictures; one that cannot be read is a failure of the run.

    Args:
        folder: Holds the pictures.
        networks: By the keys of `FidSet.features`; each picture is read once for all.
        config: How pictures are read, and how many at once.
        work: Where failures go.
        threads: How many prepare pictures.

    Raises:
        RicError: there is no such folder, or fewer than two of its pictures can be read.
        Interrupted: a stop was requested.
    """
    files = pictures_in(Path(folder))
    features: dict[str, list[NDArray[np.float32]]] = {key: [] for key in networks}
    prepare = partial(_prepare, networks=networks, config=config)
    with (
        stop_between_steps() as stop,
        work.progress.stage("pictures of --fid-set", total=len(files), unit="pictures") as stage,
        closing(decoded_ahead(files, prepare, threads)) as prepared,
    ):
        while some := list(islice(prepared, config.batch_size)):
            for failed in (one for one in some if isinstance(one, SampleError)):
                work.run.fail(failed)
            if read := [one for one in some if not isinstance(one, SampleError)]:
                for key, network in networks.items():
                    batch = [prepared_by[key] for prepared_by in read]
                    features[key].append(network.features_of(batch).features.numpy())
            stage.advance(len(some))
            stop.raise_if_set()
    if any(sum(map(len, batches)) < 2 for batches in features.values()):
        raise RicError(
            f"A distance of sets needs 2 pictures or more; fewer can be read in {folder}.",
            "See failures.jsonl in the run, or omit --fid-set.",
        )
    whole = {key: np.concatenate(batches) for key, batches in features.items()}
    return FidSet(folder, whole)


def _prepare(
    file: Path, *, networks: Mapping[str, SetEncoder], config: EvalConfig
) -> dict[str, Tensor] | SampleError:
    try:
        picture = open_image(file, max_pixels=config.max_pixels, decode=config.decode)
        return {key: network.prepare(picture) for key, network in networks.items()}
    except ImageError as error:
        return SampleError(file.name, "fid-set", error.message)

"""Loading what transformers knows from a folder: nothing random, no code of its own, one line.

The folder's files decide what the network is, and nothing about how it is run: which attention
kernel, which quantisation and whose code are `ric`'s to choose.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.errors import RicError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase


@contextmanager
def told_in_one_line(what: str, hint: str | None = None) -> Iterator[None]:
    """Turn whatever a library raises over a folder's files into one line, and its warnings off.

    Files of any shape reach deep into transformers, diffusers and their Rust parts, which fail in
    any class, and warn in a line for each weight.

    Args:
        what: What was done: `Cannot load the pipeline in …`.
        hint: The next step.

    Raises:
        RicError: anything was raised.
    """
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    loggers = (of_diffusers, of_transformers)
    before = [logger.get_verbosity() for logger in loggers]
    for logger in loggers:
        logger.set_verbosity(logger.CRITICAL)
        logger.disable_progress_bar()  # it draws over the command's own bars
    try:
        yield
    except RicError:
        raise
    except Exception as error:
        raise RicError(f"{what}: {first_line(error)}", hint) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust, and no Exception
            raise
        raise RicError(f"{what}: {first_line(error)}", hint) from error
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.set_verbosity(level)


def load_network(
    kind: Any,
    folder: Path,
    *,
    dtype: torch.dtype,
    unused: tuple[str, ...] = (),
    hint: str | None = None,
    **options: Any,
) -> Any:
    """Load a transformers network from a folder that `require_whole` has looked at.

    Args:
        kind: Such as `CLIPModel`.
        folder: Holds its config.json and safetensors.
        dtype: What its weights are held in; left open, fp16 files would be loaded as fp16.
        unused: Name parts of parameters that may be missing: they are not used.
        hint: The next step where it cannot be loaded.
        options: Passed on to the class.

    Raises:
        RicError: it cannot be loaded, or its weights are not those of its config: transformers
            would make up those that are missing, and leave out what it does not know.
    """
    from transformers import AutoConfig

    of_kind = getattr(kind, "config_class", None) or AutoConfig
    with told_in_one_line(f"Cannot load the {kind.__name__} in {folder}", hint):
        config = of_kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        config._attn_implementation = None  # transformers chooses, not the file
        network, report = kind.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    named = f"{kind.__name__} in {folder}"
    missing = [key for key in report["missing_keys"] if not any(part in key for part in unused)]
    refuse_other_weights(named, missing, report["unexpected_keys"])
    return network.eval()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder that `require_whole` has looked at.

    Raises:
        RicError: it cannot be read, or is not a fast one.
    """
    from transformers import AutoTokenizer

    with told_in_one_line(f"Cannot load the tokenizer in {folder}"):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    if not tokenizer.is_fast:
        raise RicError(f"The tokenizer in {folder} is not a fast one (no tokenizer.json).")
    return tokenizer


def refuse_other_weights(named: str, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    """Stop where weights are missing, or hold layers that the config does not know.

    Heads that are not used, and tables that were once saved, are no numbered layers.

    Args:
        named: The network and its folder, for the message.
        missing: Names that the network has and the files have not.
        unexpected: Names that the files have and the network has not.

    Raises:
        RicError: the weights are another network's, or not all there.
    """
    missing = sorted(missing)
    if missing:
        raise RicError(
            f"The {named} lacks {len(missing)} of its weights, such as {missing[0]}.",
            "Left random, they would answer at random: copy or download the folder again.",
        )
    layers = sorted(name for name in unexpected if re.search(r"\.\d+\.", name))
    if layers:
        raise RicError(
            f"The {named} has {len(layers)} tensors that its config.json knows nothing of, such as"
            f" {layers[0]}.",
            "The config is another network's: copy or download the folder again.",
        )


def refuse_foreign_words(folder: Path, tokenizer: PreTrainedTokenizerBase, words: int) -> None:
    """Stop where a tokenizer is not the one whose words a text network has learned.

    Args:
        folder: The tokenizer's, for the message.
        tokenizer: Whose length is compared.
        words: How many the network knows; a few more than the tokenizer where rows are padded.

    Raises:
        RicError: the tokenizer has more, or far fewer.
    """
    if not 0.9 * words <= len(tokenizer) <= words:
        raise RicError(
            f"The tokenizer in {folder} knows {len(tokenizer)} words, its text encoder {words}.",
            "Put back the tokenizer that belongs to it.",
        )


def refuse_not_finite(network: nn.Module, folder: Path) -> None:
    """Stop where weights hold NaN or infinity: all that the network says would be NaN.

    Raises:
        RicError: they do; names the first.
    """
    bad = [name for name, tensor in network.named_parameters() if not tensor.isfinite().all()]
    if bad:
        raise RicError(
            f"{len(bad)} weights in {folder} hold numbers that are not finite, such as {bad[0]}.",
            "Its training has failed: take an earlier checkpoint, or get the folder again.",
        )

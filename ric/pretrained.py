"""Loading transformers' networks and tokenizers from a folder, complete or with a one-line error.

The folder's files decide what the network is, but not how it runs: `ric` chooses the attention
kernel, allows no quantisation and runs no code from the folder.
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
def errors_in_one_line(what: str, hint: str | None = None) -> Iterator[None]:
    """Turn whatever a library raises over a folder's files into one line; silence its warnings.

    Malformed files reach deep into transformers, diffusers and their Rust parts, which may raise
    any class, and warn in a line for each weight.

    Args:
        what: What failed: `Cannot load the pipeline in …`.
        hint: The next step.

    Raises:
        RicError: the block raised an Exception, or Rust panicked.
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
        if type(error).__name__ != "PanicException":  # Rust's, which is not an Exception
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
    """Load a transformers network from a folder that `require_whole` has checked.

    Args:
        kind: Such as `CLIPModel`.
        folder: Holds its config.json and safetensors.
        dtype: The weights' type; without it, fp16 files would be loaded as fp16.
        unused: Parts of the names of parameters that are not used and may be missing.
        hint: The next step if it cannot be loaded.
        options: Passed on to the class.

    Returns:
        The network in evaluation mode, on the CPU.

    Raises:
        RicError: it cannot be loaded, or its weights do not match its config: transformers would
            make up missing ones and leave out unknown ones.
    """
    from transformers import AutoConfig

    of_kind = getattr(kind, "config_class", None) or AutoConfig
    with errors_in_one_line(f"Cannot load the {kind.__name__} in {folder}", hint):
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
    """Load the tokenizer of a folder that `require_whole` has checked.

    Raises:
        RicError: it cannot be read, or is not a fast one.
    """
    from transformers import AutoTokenizer

    with errors_in_one_line(f"Cannot load the tokenizer in {folder}"):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    if not tokenizer.is_fast:
        raise RicError(f"The tokenizer in {folder} is not a fast one (no tokenizer.json).")
    return tokenizer


def load_processor(kind: Any, folder: Path) -> Any:
    """Load what turns pictures, or pictures and texts, into tensors.

    Args:
        kind: Such as `AutoImageProcessor` or `SamProcessor`.
        folder: One that `require_whole` has checked.

    Raises:
        RicError: it cannot be read.
    """
    with errors_in_one_line(f"Cannot load the {kind.__name__} in {folder}"):
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def refuse_other_weights(named: str, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    """Refuse weights that are incomplete, or have layers that the config lacks.

    Unexpected tensors outside numbered layers, such as unused heads and old tables, are allowed.

    Args:
        named: The network and its folder, for the message.
        missing: Names that the network has and the files do not.
        unexpected: Names that the files have and the network does not.

    Raises:
        RicError: the weights are another network's, or incomplete.
    """
    missing = sorted(missing)
    if missing:
        raise RicError(
            f"The {named} lacks {len(missing)} of its weights, such as {missing[0]}.",
            "They would stay random: copy or download the folder again.",
        )
    layers = sorted(name for name in unexpected if re.search(r"\.\d+\.", name))
    if layers:
        raise RicError(
            f"The {named} has {len(layers)} tensors that its config.json does not account for, such"
            f" as {layers[0]}.",
            "The config is another network's: copy or download the folder again.",
        )


def refuse_foreign_words(folder: Path, tokenizer: PreTrainedTokenizerBase, words: int) -> None:
    """Refuse a tokenizer whose vocabulary is not the one that a text network has learned.

    Args:
        folder: The tokenizer's, for the message.
        tokenizer: Its length is compared.
        words: The network's vocabulary; padding may make it a little larger than the tokenizer's.

    Raises:
        RicError: the tokenizer has more tokens, or fewer than 90 % of them.
    """
    if not 0.9 * words <= len(tokenizer) <= words:
        raise RicError(
            f"The tokenizer in {folder} has {len(tokenizer)} tokens, its text encoder {words}.",
            "Restore the tokenizer that belongs to it.",
        )


def refuse_not_finite(network: nn.Module, folder: Path) -> None:
    """Refuse weights with NaN or infinity: the network's output would be NaN.

    Raises:
        RicError: there are some; names the first.
    """
    bad = [name for name, tensor in network.named_parameters() if not tensor.isfinite().all()]
    if bad:
        raise RicError(
            f"{len(bad)} weights in {folder} hold numbers that are not finite, such as {bad[0]}.",
            "Its training has failed: use an earlier checkpoint, or get the folder again.",
        )

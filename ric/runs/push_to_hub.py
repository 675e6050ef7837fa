"""`--push-to-hub ID`: a finished pipeline, put on the hub under the user's own login.

The login is the hub's own: HF_TOKEN, or what `hf auth login` has stored. Whether there is one is
looked at before anything is trained; a pipeline that cannot be uploaded stays whole in its run.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from ric.errors import RicError, first_line
from ric.model_files import PICKLE_SUFFIXES
from ric.weights.connection import offline_variable

if TYPE_CHECKING:
    from pathlib import Path

REFUSED = (401, 403)  # HTTP


def refuse_without_token(repo_id: str) -> None:
    """Stop where nothing could be pushed: no login, no network wanted, no such id. Asks nobody.

    Raises:
        RicError: any of the three.
    """
    from huggingface_hub import get_token
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise RicError(
            f"--push-to-hub {repo_id!r} is not a repository id: {first_line(error)}",
            "Give one such as your-name/my-editor.",
        ) from None
    if variable := offline_variable():
        raise RicError(
            f"--push-to-hub needs the network, and {variable} is set.",
            f"Unset it, or leave --push-to-hub out and upload the run's pipeline (or lora) later:"
            f" hf upload {repo_id} RUN/pipeline",
        )
    if not get_token():
        raise RicError(
            "--push-to-hub needs a login to the hub, and there is none.",
            "Set HF_TOKEN to a token that may write, or log in: hf auth login",
        )


def push_to_hub(folder: Path, repo_id: str, *, endpoint: str | None = None) -> str:
    """Upload a folder as a model, making the repository if it is not there.

    Args:
        folder: A pipeline as `train-unet` writes it; a pickle in it would stay here.
        repo_id: `name/model`; one that is there gets another commit.
        endpoint: The hub's address; None for HF_ENDPOINT's, or the hub itself.

    Returns:
        The address of the commit.

    Raises:
        RicError: there is no login, or the hub refused or could not be reached; the folder is
            untouched, and the command that uploads it later is told.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    refuse_without_token(repo_id)
    api = HfApi(endpoint=endpoint)
    try:
        # one without a name before it is completed by the login's
        repo_id = api.create_repo(repo_id, exist_ok=True).repo_id
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message="Upload what ric has trained",
            ignore_patterns=[f"*{suffix}" for suffix in PICKLE_SUFFIXES],
        )
    except HfHubHTTPError as error:
        refused = error.response.status_code in REFUSED
        why = "this login may not write there" if refused else first_line(error).rstrip(".")
        raise _not_uploaded(folder, repo_id, why) from None
    except Exception as error:
        # the HTTP client and the hub's storage fail in classes of their own
        raise _not_uploaded(folder, repo_id, first_line(error).rstrip(".")) from None
    return str(commit.commit_url)


def _not_uploaded(folder: Path, repo_id: str, why: str) -> RicError:
    return RicError(
        f"What was trained is whole in {folder}, but was not uploaded to {repo_id}: {why}.",
        f"Upload it later: hf upload {repo_id} {shlex.quote(str(folder))}",
    )

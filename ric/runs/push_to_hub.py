"""`--push-to-hub ID`: a finished pipeline, uploaded to the hub under the user's own login.

The login is the hub's own: HF_TOKEN, or the token that `hf auth login` has stored. It is checked
for before anything is trained; a pipeline that cannot be uploaded stays complete in its run.
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
    """Refuse early what could not be uploaded later, without a request to the hub.

    Raises:
        RicError: there is no login, offline mode is on, or `repo_id` is not valid.
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
            f"--push-to-hub needs a connection, but {variable} is set.",
            f"Unset it, or omit --push-to-hub and upload the run's pipeline (or lora) later:"
            f" hf upload {repo_id} RUN/pipeline",
        )
    if not get_token():
        raise RicError(
            "--push-to-hub needs a login to the hub, and there is none.",
            "Set HF_TOKEN to a token with write access, or log in: hf auth login",
        )


def push_to_hub(folder: Path, repo_id: str, *, endpoint: str | None = None) -> str:
    """Upload a folder as a model, creating the repository if needed.

    Args:
        folder: A pipeline as `train-unet` writes it; pickles in it are not uploaded.
        repo_id: `name/model`; an existing one gets another commit.
        endpoint: The hub's address; None for HF_ENDPOINT's, or the hub itself.

    Returns:
        The address of the commit.

    Raises:
        RicError: as `refuse_without_token`, or the hub refused or could not be reached; the folder
            is untouched, and the hint has the command that uploads it later.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    refuse_without_token(repo_id)
    api = HfApi(endpoint=endpoint)
    try:
        # the hub puts the login's name before an id without one
        repo_id = api.create_repo(repo_id, exist_ok=True).repo_id
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message="Upload what ric has trained",
            ignore_patterns=[f"*{suffix}" for suffix in PICKLE_SUFFIXES],
        )
    except HfHubHTTPError as error:
        refused = error.response.status_code in REFUSED
        why = "this login has no write access" if refused else first_line(error).rstrip(".")
        raise _not_uploaded(folder, repo_id, why) from None
    except Exception as error:
        # the HTTP client and the hub's storage raise their own classes
        raise _not_uploaded(folder, repo_id, first_line(error).rstrip(".")) from None
    return str(commit.commit_url)


def _not_uploaded(folder: Path, repo_id: str, why: str) -> RicError:
    return RicError(
        f"The result is complete in {folder}, but was not uploaded to {repo_id}: {why}.",
        f"Upload it later: hf upload {repo_id} {shlex.quote(str(folder))}",
    )

"""Names and folders that are refused, and what is said of them."""

from __future__ import annotations

import shutil

import pytest

from ric.weights import resolve_weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CLIP = "openai/clip-vit-base-patch16"


def test_a_folder_of_pickles_is_refused_with_the_command_that_converts_it(tmp_path, refusal):
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(b"x")
    error = refusal(resolve_weights, str(folder))
    assert "holds its weights as a pickle (pytorch_model.bin)" in error.message
    assert "could run any code" in error.message
    assert error.hint == (
        f"Write only its tensors to a new folder: ric weights convert {folder} NEW_FOLDER"
    )


def test_a_cached_repository_of_pickles_is_refused_when_ric_does_not_know_it(
    hub, snapshot, refusal
):
    folder = snapshot(hub, "someone/model", COMMIT)
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert "ric weights convert" in refusal(resolve_weights, "someone/model").hint


@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ".pt", ".pth"])
def test_a_pickle_file_is_refused_whether_it_exists_or_not(tmp_path, suffix, refusal):
    file = tmp_path / f"model{suffix}"
    error = refusal(resolve_weights, str(file))
    assert "does not exist, and a pickle would not be loaded" in error.message
    assert "ric weights convert FILE OUT" in error.hint
    file.write_bytes(b"x")
    error = refusal(resolve_weights, str(file))
    assert "could run any code" in error.message
    assert f"ric weights convert {file} NEW_FILE.safetensors" in error.hint


def test_a_folder_without_weights_is_called_incomplete(tmp_path, pipeline_folder, refusal):
    pipeline_folder(tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "unet")
    error = refusal(resolve_weights, str(tmp_path / "half"))
    assert f"{tmp_path / 'half' / 'unet'} is incomplete: it holds no complete" in error.message


def test_a_path_that_does_not_exist_is_not_looked_up_on_the_hub(refusal):
    error = refusal(resolve_weights, "./runs/00004-train-unet/pipeline")
    assert "There is no folder ./runs/00004-train-unet/pipeline" in error.message
    assert "a hub id such as" in error.hint


def test_a_missing_weights_folder_is_named(tmp_path, refusal):
    error = refusal(resolve_weights, CLIP, weights_dir=tmp_path / "nowhere")
    assert f"The weights folder {tmp_path / 'nowhere'} does not exist." in error.message
    assert "org--name" in error.hint


def test_the_embedded_family_is_no_folder_of_weights(refusal):
    error = refusal(resolve_weights, "tiny")
    assert "'tiny' is the embedded family" in error.message
    assert "--preset tiny" in error.hint

"""What looks like weights and is none is named for what it is."""

from __future__ import annotations

import pytest

from ric.errors import RicError
from ric.weights.check import check_weights
from ric.weights.loadable import accept

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    "size 3438167540\n"
)


def files(folder, *names, content=""):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize("name", ["unet/model.safetensors", "pytorch_model.bin"])
def test_a_git_lfs_pointer_among_the_weights_is_told_as_one(tmp_path, name):
    folder = files(tmp_path / "model", "model_index.json", content="{}")
    files(folder, name, content=POINTER)
    with pytest.raises(RicError) as caught:
        accept(folder)
    assert caught.value.message == (
        f"{folder / name} is a git-lfs pointer and not the file itself: get it with `git lfs pull`."
    )
    with pytest.raises(RicError, match="is a git-lfs pointer"):
        accept(folder / name)


def test_ric_weights_check_names_a_git_lfs_pointer(tmp_path):
    files(tmp_path, "model.safetensors", content=POINTER)
    (problem,) = check_weights(tmp_path)
    assert problem.startswith(f"{tmp_path / 'model.safetensors'}: is a git-lfs pointer")


def test_another_trainers_checkpoint_of_a_unet_says_what_a_pipeline_of_it_lacks(tmp_path):
    """As diffusers' own InstructPix2Pix script leaves it."""
    folder = files(
        tmp_path / "checkpoint-500",
        "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "unet_ema/config.json",
        "optimizer.bin", "scheduler.bin", "random_states_0.pkl",
    )  # fmt: skip
    with pytest.raises(RicError) as caught:
        accept(folder)
    assert caught.value.message == (
        f"{folder} is the checkpoint of another trainer (optimizer.bin, random_states_0.pkl,"
        " scheduler.bin) and not a pipeline: it lacks model_index.json, vae, text_encoder,"
        " tokenizer, scheduler."
    )
    assert "put this folder's unet in place of its own" in str(caught.value.hint)


def test_another_trainers_checkpoint_without_a_config_is_no_model(tmp_path):
    """As accelerate's save_state leaves it."""
    folder = files(tmp_path / "step_10", "model.safetensors", "optimizer.bin", "scaler.pt")
    with pytest.raises(RicError, match="is the checkpoint of another trainer") as caught:
        accept(folder)
    assert caught.value.message.endswith("and not a model: it lacks config.json.")
    assert "save_pretrained" in str(caught.value.hint)


def test_a_model_beside_what_its_trainer_left_is_a_model(tmp_path):
    """As transformers' Trainer leaves it: it can be loaded as it is."""
    names = ("config.json", "model.safetensors", "optimizer.pt", "trainer_state.json")
    folder = files(tmp_path / "checkpoint-500", *names)
    assert accept(folder) == folder

"""Checkpoints are whole or absent, and training goes on from one as if it had never stopped."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from noting import Noting
from safetensors.torch import load_file

import ric.runs.checkpoints
from ric.errors import RicError
from ric.runs.checkpoints import (
    clear_unfinished,
    complete_checkpoints,
    damage_of,
    last_checkpoint,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    restore_tensors,
    save_checkpoint,
    write_tensors,
)
from ric.runs.open_run import open_run
from ric.weights import check_weights

GROUPS = {
    "model": {"weight": torch.arange(6.0).reshape(2, 3)},
    "average": {"weight": torch.ones(2)},
}


def save(folder: Path, step: int, keep: int = 9) -> Path:
    return save_checkpoint(folder, step, GROUPS, {"note": "x"}, keep=keep)


def names(folder: Path) -> list[str]:
    return [path.name for path in complete_checkpoints(folder)]


def test_what_was_saved_is_loaded(tmp_path):
    path = save(tmp_path, 500)
    assert path == tmp_path / "step-000500"
    groups, state = load_checkpoint(path)
    assert groups.keys() == GROUPS.keys()
    assert torch.equal(groups["model"]["weight"], GROUPS["model"]["weight"])
    assert (state["step"], state["note"]) == (500, "x")
    assert state["threads"] == torch.get_num_threads()


def test_too_little_disk_for_the_next_checkpoint_is_told_before_anything_is_written(
    tmp_path, monkeypatch
):
    save(tmp_path, 1)
    size = sum(tensor.nbytes for group in GROUPS.values() for tensor in group.values())
    usage = shutil.disk_usage(tmp_path)
    for free, fits in ((size - 1, False), (size, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        if fits:
            save(tmp_path, 2)
        else:
            with pytest.raises(RicError, match=r"step 2 takes 32 bytes, .* has 31 bytes left"):
                save(tmp_path, 2)
            assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    assert names(tmp_path) == ["step-000001", "step-000002"]


def test_any_memory_format_and_type_is_read_by_the_library_as_it_was(tmp_path):
    draw = torch.Generator().manual_seed(0)
    conv = torch.randn(4, 3, 2, 2, generator=draw).to(memory_format=torch.channels_last)
    given = {
        "counts": torch.arange(5, dtype=torch.uint8),
        "conv": conv,
        "half": torch.randn(3, generator=draw).bfloat16(),
        "part": torch.randn(6, 4, generator=draw)[::2, 1:],
        "step": torch.tensor(7.0),
        "empty": torch.zeros(0, 2),
        "wide": torch.tensor([2**40]),
        "weight": torch.nn.Parameter(torch.randn(2, 2, generator=draw)),
    }
    write_tensors(given, tmp_path / "ours.safetensors")
    read = load_file(tmp_path / "ours.safetensors")
    assert read.keys() == given.keys()
    for name, tensor in given.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    assert check_weights(tmp_path / "ours.safetensors") == []


def test_saving_holds_a_copy_of_one_tensor_at_a_time(tmp_path):
    many = {
        str(number): torch.zeros(512, 512, 2, 2).to(memory_format=torch.channels_last)
        for number in range(24)
    }  # 4 MiB each
    Path("/proc/self/clear_refs").write_text("5")  # begin to measure the peak anew
    before = resident("VmRSS")
    save_checkpoint(tmp_path, 1, {"moments": many}, {}, keep=1)
    assert resident("VmHWM") - before < 48 << 20  # of 96


def resident(line: str) -> int:
    return 1024 * int(re.findall(rf"{line}:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def every_file(path: Path) -> list[Path]:
    return sorted(path.iterdir())


def test_a_changed_byte_anywhere_in_a_checkpoint_is_found_and_its_file_is_named(tmp_path):
    path = save(tmp_path, 1)
    assert damage_of(path) is None
    for file in every_file(path):
        whole = file.read_bytes()
        for place in range(0, len(whole), 7):
            harmed = bytearray(whole)
            harmed[place] ^= 1
            file.write_bytes(harmed)
            # white space between JSON's parts says nothing
            meant = file.name == "state.json" and chr(whole[place]).isspace()
            assert damage_of(path) == file.name or meant, (file.name, place)
        file.write_bytes(whole)
    assert damage_of(path) is None


def test_a_checkpoint_that_hands_on_another_s_state_is_whole(tmp_path):
    _, state = load_checkpoint(save(tmp_path, 1))
    second = save_checkpoint(tmp_path, 2, GROUPS, state, keep=9)
    assert damage_of(second) is None
    _, state = load_checkpoint(second)
    assert damage_of(save_checkpoint(tmp_path, 3, GROUPS, state, keep=9)) is None


def test_a_checkpoint_of_before_digests_is_taken_by_its_sizes(tmp_path):
    path = save(tmp_path, 1)
    state = json.loads((path / "state.json").read_text())
    for key in ("sha256", "sha256_of_this"):
        del state[key]
    (path / "state.json").write_text(json.dumps(state))
    assert damage_of(path) is None


def test_of_damaged_checkpoints_the_newest_whole_one_is_taken_and_each_is_named(tmp_path):
    noting = Noting()
    with open_run("train-unet", {}, runs_dir=tmp_path, run=tmp_path / "run") as run:
        folder = run.path / "checkpoints"
        first, second, third = (save(folder, step) for step in (1, 2, 3))
        assert last_checkpoint(run, noting) == third
        for path, name in ((third, "average"), (second, "model")):
            file = path / f"{name}.safetensors"
            file.write_bytes(file.read_bytes()[:-1] + b"!")
        assert last_checkpoint(run, noting) == first
        assert [line.split(" is damaged")[0] for line in noting.lines] == [
            str(third / "average.safetensors"), str(second / "model.safetensors"),
        ]  # fmt: skip
        (first / "state.json").write_text((first / "state.json").read_text().replace("x", "y"))
        with pytest.raises(RicError, match=r"Every checkpoint in .* is damaged"):
            last_checkpoint(run, noting)


@pytest.mark.parametrize("name", ["state.json", "model.safetensors"])
@pytest.mark.parametrize("left", [None, b"", b"{", b"[" * 100_000, b'{"step": 1e999, "files": {}}'])
def test_a_checkpoint_with_a_file_that_is_cut_off_or_gone_is_named_as_damaged_too(
    tmp_path, name, left
):
    noting = Noting()
    with open_run("train-unet", {}, runs_dir=tmp_path, run=tmp_path / "run") as run:
        first, second = (save(run.path / "checkpoints", step) for step in (1, 2))
        for path, taken in ((second, first), (first, None)):
            if left is None:
                (path / name).unlink()
            else:
                (path / name).write_bytes(left)
            if taken:
                assert last_checkpoint(run, noting) == taken
                assert [line.split(" is damaged")[0] for line in noting.lines] == [str(path / name)]
        with pytest.raises(RicError, match=r"Every checkpoint in .* is damaged"):
            last_checkpoint(run, noting)


def test_what_is_left_of_an_old_checkpoint_amid_its_deletion_is_not_called_damaged(tmp_path):
    noting = Noting()
    with open_run("train-unet", {}, runs_dir=tmp_path, run=tmp_path / "run") as run:
        first, second = (save(run.path / "checkpoints", step) for step in (1, 2))
        (first / "state.json").unlink()
        assert last_checkpoint(run, noting) == second
    assert not noting.lines


def test_a_checkpoint_without_its_state_is_never_found(tmp_path):
    save(tmp_path, 1)
    (save(tmp_path, 2) / "state.json").unlink()
    assert names(tmp_path) == ["step-000001"]


def test_a_checkpoint_with_a_shorter_or_missing_file_is_never_found(tmp_path):
    save(tmp_path, 1)
    for step, name in ((2, "model"), (3, "average")):
        file = save(tmp_path, step) / f"{name}.safetensors"
        file.write_bytes(file.read_bytes()[:-1])
    (save(tmp_path, 4) / "model.safetensors").unlink()
    assert names(tmp_path) == ["step-000001"]


@pytest.mark.parametrize("text", ['{"step": 2, "fi', "[]", '{"step": 2}', '{"files": {}}'])
def test_a_checkpoint_whose_state_is_torn_is_never_found(tmp_path, text):
    save(tmp_path, 1)
    (save(tmp_path, 2) / "state.json").write_text(text)
    assert names(tmp_path) == ["step-000001"]


def test_a_checkpoint_that_was_not_renamed_yet_is_never_found_and_is_cleared(tmp_path):
    whole = save(tmp_path, 1)
    shutil.copytree(whole, tmp_path / ".step-000002.99")
    assert names(tmp_path) == ["step-000001"]
    clear_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


def test_the_latest_is_the_one_with_most_steps_whatever_its_name(tmp_path):
    for step in (999_999, 1_000_000, 5):
        save(tmp_path, step)
    save(tmp_path, 7).rename(tmp_path / "a-copy")
    assert names(tmp_path) == ["step-000005", "a-copy", "step-999999", "step-1000000"]


def test_rotation_keeps_the_last_complete_ones(tmp_path):
    for step in (10, 20, 30):
        save(tmp_path, step, keep=2)
    assert names(tmp_path) == ["step-000020", "step-000030"]
    (tmp_path / "step-000030" / "state.json").unlink()
    # the broken one does not count: two whole ones stay
    save(tmp_path, 40, keep=2)
    assert names(tmp_path) == ["step-000020", "step-000040"]


def test_a_step_that_is_saved_again_replaces_the_former(tmp_path):
    save(tmp_path, 1)
    save_checkpoint(tmp_path, 1, {"model": {"weight": torch.zeros(1)}}, {}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    assert load_checkpoint(tmp_path / "step-000001")[0].keys() == {"model"}


def test_a_full_disk_leaves_the_last_checkpoint_whole_and_nothing_half_written(
    tmp_path, monkeypatch
):
    save(tmp_path, 1, keep=1)
    written = ric.runs.checkpoints.write_tensors

    def fill(tensors: dict, path: Path) -> None:
        if path.name == "average.safetensors":
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        written(tensors, path)

    monkeypatch.setattr(ric.runs.checkpoints, "write_tensors", fill)
    with pytest.raises(RicError) as raised:
        save(tmp_path, 2, keep=1)
    assert raised.value.message == (
        f"Cannot write the checkpoint of step 2 in {tmp_path}: the disk is full."
    )
    assert raised.value.hint == (
        "The last complete checkpoint is untouched; free some space and repeat the command."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    assert names(tmp_path) == ["step-000001"]


def test_a_disk_that_really_fills_up_meanwhile_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(ric.runs.checkpoints, "_refuse_small_disk", lambda *given: None)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a small tmpfs cannot be mounted here")
    try:
        save(disk, 1)
        with pytest.raises(RicError, match="the disk is full"):
            save_checkpoint(disk, 2, {"model": {"w": torch.zeros(1 << 20)}}, {}, keep=1)
        assert [path.name for path in disk.iterdir()] == ["step-000001"]
        assert names(disk) == ["step-000001"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- going on --------------------------------------------------------------------------------


def network() -> tuple[torch.nn.Module, torch.optim.AdamW]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3))
    model.register_parameter("scale", torch.nn.Parameter(torch.tensor(0.5)))
    model.to(memory_format=torch.channels_last)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)


def train(model: torch.nn.Module, optimizer: torch.optim.AdamW, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        picture = torch.randn(2, 3, 8, 8, generator=generator)
        loss = (model(picture) * model.scale).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def uninterrupted() -> dict[str, torch.Tensor]:
    model, optimizer = network()
    train(model, optimizer, range(7))
    return model.state_dict()


def stopped_after_four(folder: Path) -> Path:
    model, optimizer = network()
    train(model, optimizer, range(4))
    named = dict(model.named_parameters())
    groups = {"model": named, "moments": optimizer_tensors(named.items(), optimizer)}
    return save_checkpoint(folder, 4, groups, {}, keep=1)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_training_goes_on_to_the_bit_with_channels_last_and_fused_adamw(tmp_path):
    path = stopped_after_four(tmp_path)
    model, optimizer = network()
    named = dict(model.named_parameters())
    groups, state = load_checkpoint(path)
    restore_tensors(named, groups["model"])
    restore_optimizer(named.items(), optimizer, groups["moments"])
    weight = named["0.weight"]
    moments = optimizer.state[weight]
    assert not weight.is_contiguous()
    assert moments["exp_avg"].is_contiguous(memory_format=torch.channels_last)
    assert moments["exp_avg"].stride() == weight.stride()
    assert optimizer.state[named["scale"]]["step"].item() == 4
    train(model, optimizer, range(state["step"], 7))
    assert same(model.state_dict(), uninterrupted())


def test_moments_of_another_memory_format_would_go_unnoticed_and_train_wrongly(tmp_path):
    path = stopped_after_four(tmp_path)
    model, optimizer = network()
    named = dict(model.named_parameters())
    groups, state = load_checkpoint(path)
    restore_tensors(named, groups["model"])
    restore_optimizer(named.items(), optimizer, groups["moments"])
    for moments in optimizer.state.values():
        for name, value in moments.items():
            moments[name] = value.contiguous()
    train(model, optimizer, range(state["step"], 7))
    assert not same(model.state_dict(), uninterrupted())


def test_a_step_count_stays_exact_beside_a_parameter_of_low_precision():
    scale = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.bfloat16))
    optimizer = torch.optim.AdamW([scale])
    moments = {"scale:step": torch.tensor(257.0), "scale:exp_avg": torch.tensor(0.25)}
    restore_optimizer([("scale", scale)], optimizer, moments)
    # bfloat16 knows 256 and 258
    assert optimizer.state[scale]["step"].item() == 257
    assert optimizer.state[scale]["exp_avg"].dtype == torch.bfloat16


@pytest.mark.parametrize("saved", [{"other": torch.ones(3)}, {"weight": torch.ones(1)}, {}])
def test_a_checkpoint_of_another_model_is_refused(saved):
    weight = torch.zeros(3)
    with pytest.raises(RicError, match="belongs to a model with other parameters"):
        restore_tensors({"weight": weight}, saved)
    assert weight.eq(0).all()


def test_the_state_lists_every_file_with_its_size(tmp_path):
    path = save(tmp_path, 1)
    listed = json.loads((path / "state.json").read_text())["files"]
    assert listed == {file.name: file.stat().st_size for file in path.glob("*.safetensors")}

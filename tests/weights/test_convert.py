"""Pickles become safetensors, and nothing that is in them runs."""

from __future__ import annotations

import builtins
import collections
import contextlib
import io
import json
import os
import pickle
import pickletools
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ric.errors import RicError
from ric.weights.convert import convert_folder, convert_to_safetensors

# --- files that would do harm --------------------------------------------------------------------


class Call:
    """Pickles as a call of `function(*arguments)`, made when the pickle is loaded."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class CallThenBuild(Call):
    """The same, and a state is then set on what the call returned."""

    def __reduce__(self):
        return (*self.call, {"weight": 1, "hook": Call(os.system, "false")})


class Stranger:
    """A class whose own methods would run on loading."""

    loaded: Path

    def __init__(self, path: Path) -> None:
        self.path = path

    def __setstate__(self, state) -> None:
        state["path"].touch()


def harmful(mark: Path) -> dict[str, object]:
    touch = f"touch {mark}"
    code = f"open({str(mark)!r}, 'w')"
    return {
        "os.system": Call(os.system, touch),
        "builtins.exec": Call(exec, code),
        "builtins.eval": Call(eval, code),
        "__import__ in an eval": Call(eval, f"__import__('os').system({touch!r})"),
        "getattr of an import": Call(getattr, Call(builtins.__import__, "os"), Call(exec, code)),
        "a call nested in arguments": Call(dict, [("a", Call(os.system, touch))]),
        "a state set on what a call returned": CallThenBuild(os.system, touch),
        "a class with __setstate__": Stranger(mark),
        "open": Call(open, str(mark), "w"),
    }


@pytest.mark.parametrize("name", harmful(Path("unused")))
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_what_a_pickle_would_run_does_not_run_and_its_tensors_are_kept(
    tmp_path, name, zipped, inside
):
    mark = tmp_path / "mark"
    weights = {"w": torch.arange(6.0).reshape(2, 3)}
    bad = harmful(mark)[name]
    content = {"state_dict": {**weights, "bad": bad}} if inside else {**weights, "bad": bad}
    file = tmp_path / "model.ckpt"
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    report = convert_to_safetensors(file, tmp_path / "model.safetensors")
    assert not mark.exists()
    kept = load_file(tmp_path / "model.safetensors")
    assert list(kept) == ["w"]
    assert torch.equal(kept["w"], weights["w"])
    assert report.dropped_globals


def test_the_files_of_these_tests_would_do_harm_if_torch_loaded_them(tmp_path):
    mark = tmp_path / "mark"
    for name, bad in harmful(mark).items():
        torch.save({"bad": bad}, tmp_path / "model.ckpt")
        # some fail after their harm is done
        with contextlib.suppress(AttributeError, TypeError):
            torch.load(tmp_path / "model.ckpt", weights_only=False)
        assert mark.exists(), name
        mark.unlink()


def zip_of(file: Path, program: bytes, **records: bytes) -> Path:
    """Write torch's zip format by hand around any pickle program."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", program)
        for name, content in records.items():
            archive.writestr(f"archive/data/{name.removeprefix('_')}", content)
    return file


def assemble(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


# A tensor of two floats over storage 0, in the opcodes torch.save writes.
STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x02tQ"
TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n("
    + STORAGE
    + b"K\x00(K\x02t(K\x01t\x89ccollections\nOrderedDict\n)RtR"
)

ATTACKS = {
    "call what an unknown name stands for, then its result": lambda command: (
        b"cos\nsystem\n(" + text(command) + b"tR(" + text(command) + b"tR0"
    ),
    "the old INST opcode": lambda command: b"(" + text(command) + b"ios\nsystem\n0",
    "the old OBJ opcode": lambda command: b"(cos\nsystem\n" + text(command) + b"o0",
    "names inside names": lambda command: (
        b"\x8c\x02os\x8c\x06system\x93" + text(command) + b"\x85R0"
    ),
    "a new object with a state": lambda command: (
        b"csubprocess\nPopen\n(" + text(command) + b"t\x81}bcsubprocess\nPopen\n)R}b00"
    ),
    "a state set on an unknown class": lambda command: (
        b"cos\nsystem\n}" + text("__call__") + b"cos\npopen\nsb0"
    ),
    "a state set on an allowed function": lambda command: (
        b"ctorch._utils\n_rebuild_tensor_v2\n}" + text("_function") + b"cos\nsystem\nsb0"
    ),
    "items put into a placeholder": lambda command: (
        b"cos\nenviron\n)R" + text("PATH") + text(command) + b"s0"
    ),
    "items appended to a placeholder": lambda command: b"csys\npath\n)R" + text(command) + b"a0",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_opcodes_that_attack_the_placeholders_themselves_do_nothing(tmp_path, attack):
    mark = tmp_path / "mark"
    code = ATTACKS[attack](f"touch {mark}")
    program = assemble(code, b"}", text("w"), TENSOR, b"s")
    pickletools.dis(program, out=io.StringIO())  # it is a well-formed pickle
    file = zip_of(tmp_path / "model.ckpt", program, _0=struct.pack("<2f", 1.5, -2))
    convert_to_safetensors(file, tmp_path / "model.safetensors")
    assert not mark.exists()
    assert load_file(tmp_path / "model.safetensors")["w"].tolist() == [1.5, -2]


# --- what is kept --------------------------------------------------------------------------------


def round_trip(tmp_path, content, **kwargs):
    torch.save(content, tmp_path / "in.ckpt", **kwargs)
    report = convert_to_safetensors(tmp_path / "in.ckpt", tmp_path / "out.safetensors")
    return load_file(tmp_path / "out.safetensors"), report


@pytest.mark.parametrize("zipped", [True, False])
def test_a_models_state_dict_comes_out_as_torch_loads_it(tmp_path, zipped):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(5, 2).bfloat16()
    )
    kept, report = round_trip(tmp_path, model.state_dict(), _use_new_zipfile_serialization=zipped)
    reference = torch.load(tmp_path / "in.ckpt", weights_only=True)
    assert kept.keys() == reference.keys()
    assert all(torch.equal(kept[name], reference[name]) for name in kept)
    assert all(kept[name].dtype == reference[name].dtype for name in kept)
    assert report.tensors == len(reference)
    assert report.bytes == sum(t.numel() * t.element_size() for t in reference.values())
    assert report.dropped_globals == report.dropped_values == ()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16),
        *(torch.int8, torch.uint8, torch.bool, torch.complex64),
    ],
)
def test_every_dtype_survives_in_both_formats(tmp_path, dtype, zipped):
    value = torch.tensor([0, 1, 5, 7]).to(dtype)
    kept, _ = round_trip(tmp_path, {"w": value}, _use_new_zipfile_serialization=zipped)
    assert kept["w"].dtype == dtype
    assert torch.equal(kept["w"], value)


def test_dtypes_without_a_storage_class_survive(tmp_path):
    value = torch.tensor([0, 1, 300]).to(torch.uint16)
    eighth = torch.tensor([0.5, -2.0]).to(torch.float8_e4m3fn)
    kept, _ = round_trip(tmp_path, {"w": value, "e": eighth})
    assert kept["w"].tolist() == [0, 1, 300]
    assert kept["e"].float().tolist() == [0.5, -2.0]


@pytest.mark.parametrize("zipped", [True, False])
def test_views_shared_and_transposed_tensors_get_memory_of_their_own(tmp_path, zipped):
    base = torch.arange(12.0).reshape(3, 4)
    content = {
        "whole": base,
        "again": base,
        "row": base[1],
        "column": base[:, 2],
        "turned": base.t(),
        "spread": torch.tensor([3.0]).expand(4),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
        "image": torch.randn(1, 3, 4, 4).to(memory_format=torch.channels_last),
    }
    kept, _ = round_trip(tmp_path, content, _use_new_zipfile_serialization=zipped)
    assert kept.keys() == content.keys()
    for name, tensor in content.items():
        assert torch.equal(kept[name], tensor), name


def test_parameters_keep_their_values_and_lose_their_gradients(tmp_path):
    parameter = torch.nn.Parameter(torch.ones(2))
    kept, _ = round_trip(tmp_path, {"w": parameter})
    assert torch.equal(kept["w"], torch.ones(2))


def test_a_tensor_with_attributes_of_its_own_is_kept_without_them(tmp_path):
    tensor = torch.ones(2)
    tensor.label = "mine"
    assert torch.equal(round_trip(tmp_path, {"w": tensor})[0]["w"], torch.ones(2))


def test_nested_dicts_and_lists_are_joined_with_dots(tmp_path):
    one = torch.ones(1)
    kept, _ = round_trip(tmp_path, {"a": {"b": {"c": one}}, "l": [one, (one,)], 3: one})
    assert sorted(kept) == ["3", "a.b.c", "l.0", "l.1.0"]


def test_of_a_training_checkpoint_its_state_dict_alone_is_kept(tmp_path):
    content = {
        "epoch": 4,
        "state_dict": {"model.w": torch.ones(2)},
        "optimizer_states": [{"m": torch.ones(2)}],
    }
    kept, report = round_trip(tmp_path, content)
    assert list(kept) == ["model.w"]
    assert report.dropped_values == ()


def test_the_report_names_what_was_left_out(tmp_path):
    content = {
        "w": torch.ones(2),
        "epoch": 3,
        "z": torch.ones(2, dtype=torch.complex128),
        "path": Path("x"),
        "counts": collections.Counter("a"),
    }
    kept, report = round_trip(tmp_path, content)
    assert list(kept) == ["w"]
    assert report.dropped_values == ("epoch", "z", "path", "counts")
    assert report.dropped_globals == ("collections.Counter", "pathlib.PosixPath")
    assert (report.tensors, report.bytes) == (1, 8)


def test_a_dict_that_holds_itself_comes_to_an_end(tmp_path):
    content = {"w": torch.ones(2)}
    content["self"] = content
    kept, _ = round_trip(tmp_path, content)
    assert torch.equal(kept["w"], torch.ones(2))


def test_the_file_says_that_it_holds_pytorch_tensors_as_transformers_asks(tmp_path):
    round_trip(tmp_path, {"w": torch.ones(2)})
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


# --- what is refused -----------------------------------------------------------------------------


def refusal(file: Path, out: Path | None = None) -> RicError:
    with pytest.raises(RicError) as raised:
        convert_to_safetensors(file, out or file.with_name("out.safetensors"))
    return raised.value


def saved(tmp_path, content) -> Path:
    torch.save(content, tmp_path / "in.ckpt")
    return tmp_path / "in.ckpt"


def test_an_existing_file_is_kept_unless_it_would_be_the_same(tmp_path):
    file = saved(tmp_path, {"w": torch.ones(2)})
    out = tmp_path / "out.safetensors"
    convert_to_safetensors(file, out)
    convert_to_safetensors(file, out)
    out.write_bytes(b"mine")
    error = refusal(file)
    assert error.message == f"{out} exists and holds something else."
    assert "delete it first" in error.hint
    assert out.read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.ckpt", "out.safetensors"]


def test_the_output_must_be_called_safetensors(tmp_path):
    error = refusal(saved(tmp_path, {"w": torch.ones(2)}), tmp_path / "out.bin")
    assert "does not end in .safetensors" in error.message


def test_a_missing_file_is_named(tmp_path):
    error = refusal(tmp_path / "gone.ckpt")
    assert error.message == f"Cannot read {tmp_path / 'gone.ckpt'}: No such file or directory."


def test_a_whole_pickled_model_asks_for_its_state_dict(tmp_path):
    error = refusal(saved(tmp_path, torch.nn.Linear(2, 2)))
    assert "holds no tensor that could be kept" in error.message
    assert "save its state_dict" in error.hint


def test_a_torchscript_program_is_refused(tmp_path):
    file = zip_of(tmp_path / "model.pt", pickle.dumps({}))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("archive/constants.pkl", b"")
    error = refusal(file)
    assert "is a TorchScript program" in error.message


def test_other_files_are_told_from_checkpoints(tmp_path):
    file = tmp_path / "in.bin"
    file.write_bytes(b"hello")
    assert "is not a pickle checkpoint of torch" in refusal(file).message
    file.write_bytes(pickle.dumps({"w": 1}, protocol=2))
    assert "is a pickle, but not one written by torch.save" in refusal(file).message
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("photo.png", b"")
    assert "is a zip archive, but not one written by torch.save" in refusal(file).message
    file.write_bytes(b"")
    assert "is not a pickle checkpoint of torch" in refusal(file).message


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_checkpoint_is_an_error_and_leaves_nothing(tmp_path, zipped):
    file = tmp_path / "in.ckpt"
    torch.save({"w": torch.ones(1000)}, file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    for keep in (len(whole) - 100, len(whole) // 2, 60):
        file.write_bytes(whole[:keep])
        assert str(file) in refusal(file).message
    assert list(tmp_path.iterdir()) == [file]


def test_a_big_endian_checkpoint_is_refused(tmp_path):
    file = zip_of(tmp_path / "in.pt", assemble(b"}"))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("archive/byteorder", b"big")
    assert "big-endian machine" in refusal(file).message


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (b"K\x00(K\x03t(K\x01t", "reaches beyond its storage"),
        (b"K\x01(K\x02t(K\x01t", "reaches beyond its storage"),
        (b"J\xff\xff\xff\xff(K\x02t(K\x01t", "cannot be read as a checkpoint"),
        (b"K\x00(K\x02K\x02t(K\x01t", "cannot be read as a checkpoint"),
        (b"K\x00(J\xff\xff\xff\x7fK\x7ft(K\x00K\x00t", "would make 1.09e+03 GB of tensors"),
    ],
)
def test_a_tensor_that_lies_about_its_storage_is_refused(tmp_path, plan, words):
    lying = TENSOR.replace(b"K\x00(K\x02t(K\x01t", plan)
    assert lying != TENSOR
    program = assemble(b"}", text("w"), lying, b"s")
    file = zip_of(tmp_path / "in.ckpt", program, _0=struct.pack("<2f", 1, 2))
    assert words in refusal(file).message


def plan(size: int) -> bytes:
    """A tensor of `size` floats, all of them the first one of storage 0."""
    return TENSOR.replace(
        b"K\x00(K\x02t(K\x01t", b"K\x00(J" + struct.pack("<i", size) + b"t(K\x00t"
    )


def test_tensors_that_are_each_small_enough_are_refused_for_their_sum(tmp_path):
    many = b"".join(text(f"w{number}") + plan(1 << 27) + b"s" for number in range(4))
    file = zip_of(tmp_path / "in.ckpt", assemble(b"}", many), _0=struct.pack("<2f", 1, 2))
    assert "would make 2.15 GB of tensors" in refusal(file).message


def test_storages_that_lie_in_one_another_are_refused(tmp_path):
    shared = TENSOR.replace(text("0"), text("1"))
    program = assemble(b"}", text("a"), TENSOR, b"s", text("b"), shared, b"s")
    file = zip_of(tmp_path / "in.ckpt", program, _0=bytes(2000), _1=b"")
    # the second record's entry points at the first one's bytes
    data = file.read_bytes()
    entry = data.rindex(b"PK\x01\x02", 0, data.index(b"archive/data/1", data.index(b"PK\x01\x02")))
    first = data.rindex(b"PK\x01\x02", 0, entry)
    told = data[first + 16 : first + 28], data[first + 42 : first + 46]
    changed = bytearray(data)
    changed[entry + 16 : entry + 28], changed[entry + 42 : entry + 46] = told
    file.write_bytes(bytes(changed))
    assert "its storages overlap" in refusal(file).message


# A pair of twice the pair before, sixty times: more leaves than anybody can count.
DOUBLED = b"]\x940" + b"".join(b"h%ch%c\x86\x940" % (n, n) for n in range(60)) + b"h\x3c"


def test_a_small_file_of_endless_lists_comes_to_an_end(tmp_path):
    program = assemble(b"}", text("a"), DOUBLED, b"s")
    assert "more values than it has bytes" in refusal(zip_of(tmp_path / "in.pt", program)).message


def test_a_pickle_that_takes_for_ever_within_one_step_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("ric.weights.convert.READ_SECONDS", 1)
    key = DOUBLED.replace(b"]", b")", 1)  # of tuples, whose hash is computed anew each time
    program = assemble(b"}", key, b"K\x01s")
    message = refusal(zip_of(tmp_path / "in.pt", program)).message
    assert "needs more than 1 s or 4 GiB to be read" in message


def test_a_pickle_that_takes_all_memory_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("ric.weights.convert.READ_BYTES", 1 << 29)
    filled = b"](" + b"N" * 50_000 + b"e\x94"
    sizes = b"](" + b"ctorch\nSize\nh\x00\x85R" * 5_000 + b"e"
    program = assemble(b"}", text("a"), filled, b"0", text("b"), sizes, b"s")
    assert "read: it is not a checkpoint" in refusal(zip_of(tmp_path / "a.pt", program)).message


def test_a_git_lfs_pointer_is_told_from_a_checkpoint(tmp_path):
    (tmp_path / "in.bin").write_text("version https://git-lfs.github.com/spec/v1\nsize 1\n")
    error = refusal(tmp_path / "in.bin")
    assert "is a git-lfs pointer, not the checkpoint" in error.message
    assert error.hint == "Run: git lfs pull"


def test_a_damaged_storage_is_found(tmp_path):
    file = saved(tmp_path, {"w": torch.ones(1000)})
    data = file.read_bytes()
    file.write_bytes(data.replace(struct.pack("<f", 1.0), struct.pack("<f", 2.0), 1))
    assert "a storage is damaged" in refusal(file).message


def test_a_persistent_id_other_than_a_storage_is_refused(tmp_path):
    program = assemble(b"}" + text("w") + b"(" + text("module") + b"tQs")
    assert "unknown kind of persistent id" in refusal(zip_of(tmp_path / "in.pt", program)).message


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "blocked").write_bytes(b"")
    error = refusal(saved(tmp_path, {"w": torch.ones(2)}), tmp_path / "blocked" / "o.safetensors")
    assert error.message.startswith(f"Cannot write {tmp_path / 'blocked' / 'o.safetensors'}: ")


def test_a_folder_is_converted_whole_or_not_at_all(tmp_path):
    source = tmp_path / "source"
    (source / "unet").mkdir(parents=True)
    (source / "picture.png").write_bytes(b"")
    torch.save({"w": torch.ones(2)}, source / "unet" / "net.bin")
    index = {"unet": ["diffusers", "UNet2DConditionModel"]}
    (source / "model_index.json").write_text(json.dumps(index))
    convert_folder(source, tmp_path / "target", {"id": "a/b"})
    files = sorted(
        str(f.relative_to(tmp_path / "target"))
        for f in (tmp_path / "target").rglob("*")
        if f.is_file()
    )
    assert files == ["converted.json", "model_index.json", "unet/net.safetensors"]
    (source / "unet" / "net.bin").write_bytes(b"broken")
    with pytest.raises(RicError):
        convert_folder(source, tmp_path / "other", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]

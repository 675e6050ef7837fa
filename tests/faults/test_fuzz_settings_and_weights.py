"""Damaged config files, JSON of models and safetensors headers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fuzzing import FEWER, Bounds, altered, fuzzed, mutated
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from ric.config import EditConfig, EvalConfig, FitClipConfig, TrainUnetConfig, as_dict
from ric.config_file import load_config_file
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.model_files import read_header, require_whole, unusable
from ric.models.pipeline import load_pipeline
from ric.settings import resolve_config

KINDS = (EditConfig, EvalConfig, FitClipConfig, TrainUnetConfig)
SETTINGS = {kind: as_dict(kind(data="scenes:9@64#1", preset="tiny")) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_damaged_config_file_gives_settings_or_is_refused(
    kind: Any, tmp_path: Path, bounds: Bounds
):
    chosen = {key: value for key, value in SETTINGS[kind].items() if value is not None}
    odd = altered(chosen).map(lambda one: json.dumps(one).encode())
    whole = yaml.safe_dump(chosen).encode()
    alias = b"a: &a [1, 2]\nb: &b [*a, *a]\nc: [*b, *b]\n"

    @fuzzed
    @given(content=st.one_of(odd, odd, mutated([whole, alias + whole])))
    def read(content: bytes) -> None:
        (tmp_path / "config.yaml").write_bytes(content)
        with bounds.held():
            config = resolve_config(kind, {}, from_file=load_config_file(tmp_path / "config.yaml"))
            assert isinstance(config, kind)
            json.dumps(as_dict(config))

    read()


WEIGHTS = save({"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(4).half()})
HEADER = json.loads(WEIGHTS[8 : 8 + int.from_bytes(WEIGHTS[:8], "little")])


def with_header(header: Any) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + WEIGHTS[-(6 * 4 + 4 * 2) :]


@fuzzed
@given(content=st.one_of(mutated([WEIGHTS]), altered(HEADER).map(with_header)))
def test_a_damaged_safetensors_header_is_read_or_says_why_it_cannot_be(
    content: bytes, tmp_path: Path, bounds: Bounds
):
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with bounds.held():
        reason = unusable(file)
        assert reason is None or len(reason.splitlines()) == 1
        bounds.refused += reason is not None
        if reason is None:
            assert all({"dtype", "shape", "data_offsets"} <= one.keys() for one in
                       read_header(file).values())  # fmt: skip


LOADERS = {
    "region_encoder": RegionEncoder.from_pretrained,
    "scene_encoder": SceneEncoder.from_pretrained,
    "pipeline": lambda folder: load_pipeline(folder, torch.device("cpu")),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_a_model_with_a_damaged_json_is_refused_or_loaded(
    kind: str, tiny_family: Path, tmp_path: Path, bounds: Bounds
):
    folder = Path(shutil.copytree(tiny_family / kind, tmp_path / kind))
    whole = {file: file.read_bytes() for file in sorted(folder.rglob("*.json"))}
    small = {file: data for file, data in whole.items() if len(data) < 20_000}
    damaged = st.sampled_from(sorted(small)).flatmap(
        lambda file: st.tuples(
            st.just(file),
            st.one_of(
                altered(json.loads(small[file])).map(lambda one: json.dumps(one).encode()),
                mutated([small[file]]),
            ),
        )
    )

    @settings(fuzzed, max_examples=FEWER)
    @given(one=damaged)
    def load(one: tuple[Path, bytes]) -> None:
        file, content = one
        file.write_bytes(content)
        try:
            with bounds.held():
                require_whole(folder, kind)
                LOADERS[kind](folder)
        finally:
            file.write_bytes(whole[file])

    load()

"""Whether a launcher has started others, and whether what it tells is whole."""

from __future__ import annotations

import pytest

from ric.errors import RicError
from ric.launcher import SIZES, launched_processes

TORCHRUN = {
    "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500",
}  # fmt: skip


@pytest.fixture
def told(monkeypatch):
    def tell(**variables: str) -> None:
        for name in (*TORCHRUN, *SIZES):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return tell


def test_without_a_launcher_a_process_is_alone(told):
    told()
    assert launched_processes() == 1
    told(WORLD_SIZE="1", RANK="0")
    assert launched_processes() == 1


def test_torchrun_s_processes_are_counted(told):
    told(**TORCHRUN)
    assert launched_processes() == 2


@pytest.mark.parametrize("name", SIZES)
def test_processes_of_mpirun_or_srun_are_refused_unless_each_is_to_work_alone(told, name):
    told(**{name: "2"})
    with pytest.raises(RicError, match=f"{name} is 2: each of the 2 processes") as error:
        launched_processes()
    assert "torchrun --nproc-per-node 2" in error.value.hint
    told(**{name: "1"})
    assert launched_processes() == 1
    told(**{name: "2", "WORLD_SIZE": "1"})
    assert launched_processes() == 1
    told(**{**TORCHRUN, name: "2"})
    assert launched_processes() == 2


@pytest.mark.parametrize("missing", ["RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_a_variable_that_is_missing_is_named(told, missing):
    told(**{name: value for name, value in TORCHRUN.items() if name != missing})
    with pytest.raises(RicError, match=rf"WORLD_SIZE is 2, .*, but {missing} is not set") as error:
        launched_processes()
    assert "unset WORLD_SIZE to use one process" in error.value.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [("WORLD_SIZE", "two"), ("WORLD_SIZE", "0"), ("WORLD_SIZE", "-1"), ("RANK", "first"),
     ("RANK", "2"), ("LOCAL_WORLD_SIZE", "0"), ("MASTER_PORT", "http")],
)  # fmt: skip
def test_a_variable_that_cannot_be_is_named_with_its_value(told, name, value):
    told(**TORCHRUN | {name: value})
    with pytest.raises(RicError, match=rf"{name} is '?{value}"):
        launched_processes()

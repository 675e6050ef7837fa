"""A model is not asked to edit, and not scored on, what it was trained on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import ric.recipes.edit as edit_recipe
import ric.recipes.evaluate as evaluate_recipe
from ric.config import EditConfig, EvalConfig
from ric.data.sample import load_samples
from ric.errors import RicError
from ric.recipes.edit import edit
from ric.recipes.evaluate import evaluate
from ric.runs.trained_on import groups_of, refuse_overlap, trained_groups


def groups(data: Path) -> list[str]:
    return [sample.group() for sample in load_samples(data)]


def edit_config(tiny: Callable[..., Any], data: Path, model: Path, **changes: Any) -> EditConfig:
    small = {"split": "all", "steps": 1, "image_size": 32}
    return tiny(EditConfig, data, unet=str(model), **small, **changes)


def eval_config(tiny: Callable[..., Any], data: Path, *edits: str, **changes: Any) -> EvalConfig:
    return tiny(EvalConfig, data, edits=edits, split="all", **changes)


def no_networks(*given: object, **named: object) -> None:
    pytest.fail("networks were loaded before the refusal")


# --- edit ----------------------------------------------------------------------------------------


def test_edit_refuses_samples_its_model_was_trained_on_before_it_is_loaded(
    make_edits, trained_on, tiny, follow, monkeypatch, tmp_path
):
    data = make_edits(4)
    model = trained_on(groups(data)[1:3])
    monkeypatch.setattr(edit_recipe, "load_editor", no_networks)
    with pytest.raises(RicError) as caught:
        follow(edit, edit_config(tiny, data, model), tmp_path / "run")
    assert caught.value.message == "2 of 4 samples were in the training data of this model."
    assert "--split test" in caught.value.hint
    assert "--allow-overlap" in caught.value.hint


def test_edit_goes_on_when_it_is_allowed_to(make_edits, trained_on, tiny, follow, tmp_path):
    data = make_edits(1)
    config = edit_config(tiny, data, trained_on(groups(data)), allow_overlap=True)
    run = follow(edit, config, tmp_path / "run")
    assert [file.name for file in (run / "images").iterdir()] == ["00.png"]


def test_edit_goes_on_when_nothing_was_trained_on(
    make_edits, trained_on, tiny, follow, record_of, tmp_path
):
    run = follow(edit, edit_config(tiny, make_edits(1), trained_on(["another"])), tmp_path / "run")
    assert (run / "images/00.png").is_file()
    # relative to the run, so that a folder of runs can be moved
    assert record_of(run)["parents"] == ["../trained"]


def test_only_the_samples_asked_for_count(make_edits, trained_on, tiny, follow, tmp_path):
    data = make_edits(3, {2: {"split": "test"}})
    model = trained_on(groups(data)[:2])
    config = edit_config(tiny, data, model)
    run = follow(edit, type(config)(**{**vars(config), "split": "test"}), tmp_path / "run")
    assert [file.name for file in (run / "images").iterdir()] == ["02.png"]


def test_two_edits_of_one_photo_overlap_whatever_their_ids(make_edits):
    photo = {"group_id": "_photo"}
    data = make_edits(3, {0: photo, 1: photo})
    with pytest.raises(RicError, match="2 of 3 samples"):
        refuse_overlap({"_photo"}, lambda: groups_of(load_samples(data)), "this model")


def test_a_source_that_cannot_be_read_is_left_to_the_recipe(
    make_edits, trained_on, tiny, follow, tmp_path
):
    data = make_edits(2)
    model = trained_on(groups(data)[:1])
    (data / "source/00.png").write_bytes(b"")
    run = follow(edit, edit_config(tiny, data, model), tmp_path / "run")
    (failure,) = map(json.loads, (run / "failures.jsonl").read_text().splitlines())
    assert (failure["id"], failure["stage"]) == ("00", "source")


def test_groups_are_not_even_asked_for_when_nothing_was_trained_on():
    def asked() -> Iterable[str]:
        pytest.fail("every source would be decoded for nothing")

    refuse_overlap(set(), asked, "this model")


# --- lineage -------------------------------------------------------------------------------------


def test_groups_come_from_every_ancestor_that_trains(trained_on):
    judge = trained_on(["a", "b"], command="fit-clip", name="judge")
    described = trained_on(["no training"], judge, command="describe", name="described")
    base = trained_on(["c"], described, name="base")
    tuned = trained_on(["d"], base, name="tuned")
    assert trained_groups(tuned) == {"a", "b", "c", "d"}
    assert trained_groups(described) == {"a", "b"}


def test_a_family_that_goes_in_circles_or_lost_a_member_ends(trained_on, tmp_path):
    lost = trained_on(["gone"], name="lost")
    tuned = trained_on(["a"], lost, tmp_path / "tuned", name="tuned")
    shutil.rmtree(lost)
    assert trained_groups(tuned) == {"a"}


# --- eval ----------------------------------------------------------------------------------------


@pytest.fixture
def edited_by_a_descendant(
    make_edits: Callable[..., Path], trained_on: Callable[..., Path], tiny: Any, follow: Any,
    tmp_path: Path,
) -> tuple[Path, Path]:  # fmt: skip
    """Data, and an edit run of a model whose base was trained on one of its samples."""
    data = make_edits(3)
    base = trained_on(groups(data)[:1], name="base")
    tuned = trained_on(["another"], base, name="tuned")
    config = edit_config(tiny, data, tuned, allow_overlap=True)
    return data, follow(edit, config, tmp_path / "edited")


def test_eval_refuses_edits_whose_models_base_was_trained_on_them_before_any_network(
    edited_by_a_descendant, tiny, follow, monkeypatch, tmp_path
):
    data, run = edited_by_a_descendant
    monkeypatch.setattr(evaluate_recipe, "load_metric_networks", no_networks)
    for place in (run, run / "images"):
        with pytest.raises(RicError) as caught:
            follow(
                evaluate, eval_config(tiny, data, f"Mine={place}"), tmp_path / f"of-{place.name}"
            )
        assert caught.value.message == (
            "1 of 3 samples were in the training data of the model that made 'Mine'."
        )
        assert "--allow-overlap" in caught.value.hint


def test_eval_goes_on_when_it_is_allowed_to(edited_by_a_descendant, tiny, follow, tmp_path):
    data, run = edited_by_a_descendant
    config = eval_config(tiny, data, f"Mine={run}", allow_overlap=True)
    assert (follow(evaluate, config, tmp_path / "scored") / "scores.json").is_file()

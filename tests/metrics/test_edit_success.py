"""Edit success, read by the shipped classifier on scenes of the test split, and crafted cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ric.data.drawn_scenes import SceneStream, edit_of_sample
from ric.metrics.edit_success import EditChecker, allowed_places, crop_of_thing, overlap
from ric.metrics.scene_net import SceneNet
from ric.scenes.edit import Edit
from ric.scenes.layout import outline
from ric.scenes.relations import might
from ric.scenes.render import Pair, render
from ric.weights.tiny_family import SHIPPED

COUNT = 400  # about 40 of test
Drawn = tuple[Edit, Pair]


@pytest.fixture(scope="module")
def checker() -> EditChecker:
    return EditChecker(SceneNet(SHIPPED / "scene_classifier"))


@pytest.fixture(scope="module")
def drawn() -> list[Drawn]:
    stream = SceneStream(count=COUNT, seed=11)
    return [stream.draw(int(sample.id[-6:])) for sample in stream.of_split("test")]


def image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels)


def granted(checker: EditChecker, drawn: list[Drawn], edited) -> Iterator[bool]:
    for edit, pair in drawn:
        source, target = image(pair.source), image(pair.target)
        yield checker.succeeded(edit, edited(edit, pair), source, target)


def share(answers: Iterator[bool]) -> float:
    found = list(answers)
    return sum(found) / len(found)


def test_the_exact_target_succeeds(checker, drawn):
    assert share(granted(checker, drawn, lambda edit, pair: image(pair.target))) >= 0.93


def test_doing_nothing_does_not_succeed(checker, drawn):
    assert share(granted(checker, drawn, lambda edit, pair: image(pair.source))) <= 0.04


def test_a_repaint_of_everything_does_not_succeed_where_something_must_be_seen(checker, drawn):
    kept = [(edit, pair) for edit, pair in drawn if edit.after]
    grey = image(np.full((64, 64, 3), 128, np.uint8))
    assert share(granted(checker, kept, lambda edit, pair: grey)) <= 0.05


def test_a_sticker_succeeds_for_success_asks_only_of_the_region(checker, drawn):
    def sticker(edit: Edit, pair: Pair) -> Image.Image:
        pasted = pair.source.copy()
        pasted[pair.mask] = pair.target[pair.mask]
        return image(pasted)

    assert share(granted(checker, drawn, sticker)) >= 0.9


def test_another_edit_of_the_same_scene_does_not_succeed(checker):
    stream = SceneStream(count=2000, seed=11)
    ids = [sample.id for sample in stream.of_split("test")]
    asked = [int(name[-6:]) for name in ids if edit_of_sample(name).manner == "colour"]
    recoloured = [stream.draw(index) for index in asked]
    assert len(recoloured) >= 6

    def wrong(edit: Edit, pair: Pair) -> Image.Image:
        thing = edit.target.things[0]
        others = ("red", "green", "blue", "yellow")
        colour = next(c for c in others if c not in (thing.colour, edit.source.things[0].colour))
        other = edit.target.having((replace(thing, colour=colour), *edit.target.things[1:]))
        return image(render(other, 64))

    assert share(granted(checker, recoloured, wrong)) <= 0.1


def test_a_thing_that_was_to_act_and_took_another_colour_does_not_succeed(checker):
    stream = SceneStream(count=1200, seed=11)
    ids = [sample.id for sample in stream.of_split("test")]
    asked = [int(name[-6:]) for name in ids if edit_of_sample(name).type == "Action"]
    acted = [stream.draw(index) for index in asked]
    assert len(acted) >= 6

    def wrong(edit: Edit, pair: Pair) -> Image.Image:
        things = list(edit.target.things)
        for number in edit.after:
            colour = "red" if things[number].colour != "red" else "blue"
            things[number] = replace(things[number], colour=colour)
        return image(render(edit.target.having(tuple(things)), 64))

    assert share(granted(checker, acted, wrong)) <= 0.1


def test_an_added_thing_may_stand_wherever_the_instruction_allows(checker, drawn):
    added = [(edit, pair) for edit, pair in drawn if edit.type == "Add" and edit.anchor is not None]
    assert len(added) >= 3
    right = []
    for edit, pair in added:
        thing = edit.target.things[edit.after[0]]
        far = max(
            allowed_places(edit, thing), key=lambda p: (p.x - thing.x) ** 2 + (p.z - thing.z) ** 2
        )
        moved = edit.target.having((*edit.target.things[:-1], far))
        answer = image(render(moved, 64))
        right.append(checker.succeeded(edit, answer, image(pair.source), image(pair.target)))
    # the farthest place may be hidden behind another thing
    assert sum(right) / len(right) >= 0.6


def test_of_a_group_that_becomes_smaller_any_may_go_but_no_more_and_no_fewer(checker):
    stream = SceneStream(count=1500, seed=11)
    edits = {one.id: edit_of_sample(one.id) for one in stream.of_split("test")}
    fewer = [name for name, edit in edits.items() if edit.type == "Counting" and edit.before]
    assert len(fewer) >= 8
    answers: dict[str, list[bool]] = {"others": [], "all": [], "none": []}
    for name in fewer:
        edit, pair = stream.draw(int(name[-6:]))
        things, gone = edit.source.things, len(edit.before)
        look = things[edit.before[0]].look
        group = [number for number, thing in enumerate(things) if thing.look == look]
        # the first ones, where the generator takes the last
        for kind, taken in (("others", group[:gone]), ("all", group), ("none", [])):
            left = tuple(thing for number, thing in enumerate(things) if number not in taken)
            answer = image(render(edit.source.having(left), 64))
            answers[kind].append(
                checker.succeeded(edit, answer, image(pair.source), image(pair.target))
            )
    # the classifier cannot read every small thing, and only the generator's choice is well seen
    assert sum(answers["others"]) >= 0.6 * len(fewer)
    assert sum(answers["all"] + answers["none"]) <= 0.15 * 2 * len(fewer)


def test_allowed_places_keep_to_the_relation_and_the_frame(drawn):
    for edit, _ in drawn:
        if edit.type in ("Add", "Relation") and edit.anchor is not None:
            thing, anchor = edit.target.things[edit.after[0]], edit.source.things[edit.anchor]
            places = allowed_places(edit, thing)
            assert places
            for place in places:
                assert might(edit.relation, place, anchor, edit.source.light)
                assert place.look == thing.look


def test_an_outline_holds_the_pixels_of_its_thing(drawn):
    for edit, pair in drawn:
        if edit.type == "Add":
            left, top, right, bottom = outline(edit.target.things[edit.after[0]])
            rows, columns = np.nonzero(pair.mask)
            assert left * 64 - 4 <= columns.min()
            assert columns.max() + 1 <= right * 64 + 4
            assert top * 64 - 4 <= rows.min()
            assert rows.max() + 1 <= bottom * 64 + 4


def test_a_crop_is_square_about_its_box_with_a_margin():
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[40:60, 90:110] = 255
    crop = np.asarray(crop_of_thing(image(pixels), (0.45, 0.4, 0.55, 0.6)))
    assert crop.shape == (64, 64, 3)
    white = crop[..., 0] > 128
    # 20 of 24.8 pixels are the thing: 51.6 of 64
    assert white.any(0).sum() == pytest.approx(51.6, abs=1.5)
    assert white.any(1).sum() == pytest.approx(51.6, abs=1.5)


def test_overlap_is_the_share_of_the_first_box():
    assert overlap((0, 0, 1, 1), (0.5, 0, 1, 1)) == 0.5
    assert overlap((0.5, 0, 1, 1), (0, 0, 1, 1)) == 1.0
    assert overlap((0, 0, 1, 1), (2, 2, 3, 3)) == 0.0

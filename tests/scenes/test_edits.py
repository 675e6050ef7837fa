"""The edits: their types, splits and held-out pairs, and what is said about them."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from ric.scenes.edit import Edit
from ric.scenes.edits import TYPES, edit_of, scene_of
from ric.scenes.held_out import HELD_OUT_COUNTS, HELD_OUT_LOOKS, sample_id
from ric.scenes.layout import screen_x
from ric.scenes.relations import PHRASES, holds
from ric.scenes.settings import SETTINGS
from ric.scenes.things import COLOURS, KINDS
from ric.scenes.words import texts_of
from ric.splits import split_of

SEED, COUNT = 21, 700
EDITS = [edit_of(SEED, index) for index in range(COUNT)]
TEXTS = [texts_of(edit, SEED, index) for index, edit in enumerate(EDITS)]
PLAIN = [texts_of(edit, SEED, index, shadows=False) for index, edit in enumerate(EDITS)]
BOTH = list(zip(EDITS, TEXTS, strict=True))


def edited(edit: Edit):
    numbers, picture = (edit.after, edit.target) if edit.after else (edit.before, edit.source)
    return picture.things[numbers[0]]


# --- splits --------------------------------------------------------------------------------------


def test_splits_follow_the_id_in_their_shares():
    shares = Counter(edit.split for edit in EDITS)
    assert 0.80 < shares["train"] / COUNT < 0.90
    assert 0.02 < shares["val"] / COUNT < 0.08
    assert 0.06 < shares["test"] / COUNT < 0.14
    for index, edit in enumerate(EDITS):
        assert edit.split == split_of(sample_id(SEED, index))


def test_held_out_pairs_are_disjoint_between_splits():
    assert not HELD_OUT_LOOKS["val"] & HELD_OUT_LOOKS["test"]
    assert not HELD_OUT_COUNTS["val"] & HELD_OUT_COUNTS["test"]
    assert not HELD_OUT_LOOKS["train"] | HELD_OUT_COUNTS["train"]


def test_no_split_shows_a_look_or_speaks_of_a_count_held_out_for_another():
    for edit in EDITS:
        looks = {thing.look for thing in (*edit.source.things, *edit.target.things)}
        for split in ("val", "test"):
            if split != edit.split:
                assert not looks & HELD_OUT_LOOKS[split]
                assert not edit.relation_counts & HELD_OUT_COUNTS[split]


def test_no_text_of_train_names_a_held_out_pair():
    for edit, texts in BOTH:
        if edit.split != "train":
            continue
        words = " ".join(vars(texts).values())
        for split in ("val", "test"):
            for colour, kind in HELD_OUT_LOOKS[split]:
                assert f"{colour} {kind}" not in words
            for relation, count in HELD_OUT_COUNTS[split]:
                said = re.search(rf"(\w+|water|sand) {PHRASES[relation]} the \w+ \w+", words)
                assert not said or len(edit.source.things) != count, (relation, words)


def test_test_samples_do_show_what_was_held_out():
    test = [edit for edit in EDITS if edit.split == "test"]
    rare = [edit for edit in test if edited(edit).look in HELD_OUT_LOOKS["test"]]
    assert len(rare) > 0.25 * len(test)
    assert any(edit.relation_counts & HELD_OUT_COUNTS["test"] for edit in test)


# --- the edits -----------------------------------------------------------------------------------


def test_all_types_and_manners_appear_about_equally_often():
    types = Counter(edit.type for edit in EDITS)
    assert set(types) == set(TYPES)
    assert min(types.values()) > 0.6 * COUNT / 6
    manners = {edit.manner for edit in EDITS}
    assert manners == {
        "turn", "tilt", "straighten", "open", "close", "add", "remove", "move", "kind", "colour",
        "material", "+1", "+2", "-1", "-2",
    }  # fmt: skip


def test_scenes_hold_one_to_five_things_where_they_may_stand():
    counts = Counter(len(edit.source.things) for edit in EDITS)
    assert set(counts) == {1, 2, 3, 4, 5}
    assert min(counts.values()) > 0.03 * COUNT
    for edit in EDITS:
        for picture in (edit.source, edit.target):
            assert len(picture.things) <= 5
            for thing in picture.things:
                assert thing.kind in picture.setting.kinds
                assert thing.colour not in picture.setting.poor
    assert "boat" in SETTINGS["lake"].kinds
    assert not any("boat" in SETTINGS[p].kinds for p in SETTINGS if not SETTINGS[p].is_water)


def test_place_light_and_all_other_things_stay():
    for edit in EDITS:
        assert edit.target == edit.source.having(edit.target.things)
        kept = [t for n, t in enumerate(edit.source.things) if n not in edit.before]
        assert kept == [t for n, t in enumerate(edit.target.things) if n not in edit.after]


def test_wanted_says_what_the_target_holds():
    for edit in EDITS:
        wanted, things = edit.wanted, edit.target.things
        alike = [t for t in things if t.look == (wanted.colour, wanted.kind)]
        assert wanted.count == len(alike)
        assert (wanted.attribute == "absence") == (edit.type == "Remove")
        left, top, right, bottom = wanted.box
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        if edit.after and edit.type != "Counting":
            thing = things[edit.after[0]]
            assert (wanted.material, wanted.state, wanted.size) == (
                thing.material, thing.state, thing.size,
            )  # fmt: skip
        if edit.relation:
            anchor = things[edit.anchor]
            assert wanted.anchor == (anchor.kind, anchor.colour)
            assert holds(edit.relation, things[edit.after[0]], anchor, edit.target.light)


def test_one_attribute_changes_in_a_replacement_and_only_the_state_in_an_action():
    for edit in EDITS:
        if edit.type not in ("Action", "Replace"):
            continue
        before, after = edit.source.things[0], edit.target.things[0]
        assert (before.x, before.z, before.size) == (after.x, after.z, after.size)
        differ = {
            name for name in ("kind", "colour", "material", "state")
            if getattr(before, name) != getattr(after, name)
        }  # fmt: skip
        asked = "state" if edit.type == "Action" else edit.manner
        assert asked in differ
        assert differ - {asked} <= ({"state"} if asked == "kind" else set())


# --- phrases -------------------------------------------------------------------------------------


def read(phrase: str, scene) -> list[int]:
    """Find out from the words alone which things a phrase may mean; relations by their rule."""
    found = re.fullmatch(
        r"the (?:(left|right|front|back) one of two |(leftmost|rightmost|nearest|farthest) of"
        r" (?:three|four|five) |(small|large|matte|glossy) )?(\w+) (\w+?)s?"
        r"(?: (to the left of|to the right of|behind|in front of|beside|in the shadow of)"
        r" the (\w+) (\w+))?",
        phrase,
    )
    assert found, phrase
    of_two, of_more, trait, colour, kind, relation, *anchor = found.groups()
    fits = [n for n, t in enumerate(scene.things) if t.look == (colour, kind)]
    if trait:
        fits = [n for n in fits if trait in (scene.things[n].size, scene.things[n].material)]
    if of_two or of_more:
        side = of_two or {"leftmost": "left", "rightmost": "right", "nearest": "front",
                          "farthest": "back"}[of_more]  # fmt: skip
        keys = {
            "left": screen_x, "right": lambda t: -screen_x(t),
            "front": lambda t: t.z, "back": lambda t: -t.z,
        }  # fmt: skip
        return [min(fits, key=lambda n: keys[side](scene.things[n]))]
    if relation:
        name = {words: name for name, words in PHRASES.items()}[relation]
        others = [t for t in scene.things if t.look == tuple(anchor)]
        assert len(others) == 1, "the anchor is one thing"
        return [n for n in fits if holds(name, scene.things[n], others[0], scene.light)]
    return fits


def test_every_phrase_points_to_exactly_one_thing():
    kinds = Counter()
    for edit in EDITS:
        for phrases, picture, numbers in (
            (edit.phrase, edit.source, edit.before),
            (edit.seen, edit.target, edit.after),
        ):
            for phrase in phrases or ():
                assert phrase.points_to(picture) == [numbers[0]]
                assert read(phrase.words, picture) == [numbers[0]], phrase.words
                kinds[phrase.rank or phrase.relation] += 1
    assert {"left", "right", "front", "back", "left of", "behind", "in front of", "beside",
            "in the shadow of"} <= set(kinds)  # fmt: skip


def test_moves_ask_for_what_is_not_so_yet():
    for edit in EDITS:
        if edit.type == "Relation":
            thing, anchor = edit.source.things[0], edit.source.things[edit.anchor]
            assert not holds(edit.relation, thing, anchor, edit.source.light)


# --- words ---------------------------------------------------------------------------------------


def test_instructions_name_kind_and_colour():
    for edit, texts in BOTH:
        one = edit.source.things[edit.before[0]] if edit.before else edited(edit)
        assert one.kind in texts.instruction
        assert one.colour in texts.instruction
        assert texts.instruction.endswith(".")


def test_region_texts_name_what_is_seen_or_what_is_empty():
    for edit, texts in BOTH:
        one = edited(edit)
        if edit.after:
            assert f"{one.colour} {one.kind}" in texts.region_text
        else:
            assert texts.region_text.startswith(f"empty {edit.target.setting.ground} ")
            assert "remov" not in texts.region_text
            if edit.type == "Remove" and edit.wanted.count == 0:
                assert f"{one.colour} {one.kind}" not in texts.region_text


def test_region_texts_use_relations_ranks_and_counts():
    words = " | ".join(texts.region_text for texts in TEXTS)
    for said in ("the left one of two", "in the shadow of the", "beside the", "behind the",
                 "to the left of the", "one of three", "two of"):  # fmt: skip
        assert said in words


def test_paragraphs_name_the_setting_the_light_and_every_thing():
    for edit, texts in BOTH:
        for picture, paragraph in (
            (edit.source, texts.source_text), (edit.target, texts.scene_text)
        ):  # fmt: skip
            assert picture.setting.words in paragraph
            assert f"from the {picture.light.side} {picture.light.depth}" in paragraph
            for thing in picture.things:
                whole = f"{thing.size} {thing.material} {thing.colour} {thing.kind}"
                assert whole in paragraph.lower()
            assert ("shadow" in paragraph) == bool(picture.things)
            mirrored = bool(picture.setting.mirror and picture.things)
            assert ("mirror image" in paragraph) == mirrored
            assert "\n" not in paragraph
            assert "  " not in paragraph
            # no other look is named than those in the picture
            named = set(re.findall(rf"({'|'.join(COLOURS)}) ({'|'.join(KINDS)})", paragraph))
            shown = {thing.look for thing in picture.things}
            assert named <= shown
        assert texts.region_text in texts.scene_text


def test_paragraphs_tell_of_the_things_from_left_to_right():
    size_first = rf"(?:small|large) (?:glossy|matte) ({'|'.join(COLOURS)}) ({'|'.join(KINDS)})"
    for edit, texts in BOTH:
        things = sorted(edit.target.things, key=screen_x)
        told = re.findall(size_first, texts.scene_text.split(" The eye is")[0].lower())
        assert told == [thing.look for thing in things]


def test_without_shadows_no_text_speaks_of_them_and_the_rest_is_the_same():
    for edit, texts, plain in zip(EDITS, TEXTS, PLAIN, strict=True):
        words = " ".join(vars(plain).values())
        assert "shadow" not in words
        assert "mirror" not in words
        if not (edit.phrase and edit.phrase[0] != edit.phrase[1]):
            assert plain.instruction == texts.instruction
        assert plain.target_text == texts.target_text


def test_short_captions_fit_what_clip_reads():
    assert max(len(texts.target_text.split()) for texts in TEXTS) < 45
    assert max(len(texts.region_text.split()) for texts in TEXTS) < 25
    assert max(len(texts.scene_text.split()) for texts in TEXTS) < 260


def test_turning_is_never_worded_so_that_it_could_be_turned_to_a_side_of_something():
    for texts in TEXTS:
        assert not re.match(r"Turn .* to the (left|right) of", texts.instruction)


@pytest.mark.parametrize("index", [0, 3])
def test_a_scene_is_the_source_of_its_edit(index):
    assert scene_of(SEED, index) == EDITS[index].source

"""What the pictures show: light, shadow, mirror image, depth, and no thing in the air."""

from __future__ import annotations

import numpy as np
import pytest

from ric.scenes.camera import EYE, HORIZON, SPREAD, Window
from ric.scenes.edits import edit_of
from ric.scenes.layout import screen_x
from ric.scenes.photos import PHOTOS
from ric.scenes.render import _draw, render, render_pair
from ric.scenes.scene import Light, Scene
from ric.scenes.settings import PLACES, SETTINGS
from ric.scenes.things import COLOURS, KINDS, STATES, Thing

HIGH, LOW = Light("left", "front", "high"), Light("left", "front", "low")


def thing(kind="ball", colour="red", x=0.0, z=6.0, size="small", state=None, material="matte"):
    state = STATES.get(kind, ("",))[0] if state is None else state
    return Thing(kind, colour, material, size, x, z, 0, state)


def scene(*things, place="snow field", light=LOW):
    return Scene(place, 0, light, things)


def cover(one, size=128):
    """bool (H, W): where a thing is seen alone."""
    _, owners = _draw(scene(one), Window.whole(size), shadows=False)
    return (owners == 0).any(axis=(0, 1))


def shadow_of(one, light, place="snow field", size=128):
    """(H, W) levels by which a thing's shadow darkens the ground around it."""
    lit = render(scene(one, place=place, light=light), size, shadows=False).astype(int).sum(-1)
    dark = render(scene(one, place=place, light=light), size).astype(int).sum(-1)
    return np.where(cover(one, size), 0, lit - dark)


def centre_of(weights):
    rows, columns = np.indices(weights.shape)
    return (rows * weights).sum() / weights.sum(), (columns * weights).sum() / weights.sum()


@pytest.mark.parametrize("kind", ["ball", "tree", "cube", "house", "cylinder"])
@pytest.mark.parametrize("height", ["low", "high"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_shadow_falls_away_from_the_light(kind, height, side):
    one = thing(kind)
    shadow = shadow_of(one, Light(side, "front", height))
    assert shadow.min() >= 0
    middle = (screen_x(one) + 1) * 64
    away = centre_of(shadow)[1] - middle
    assert away > 2 if side == "left" else away < -2


def test_light_from_behind_throws_the_shadow_to_the_front():
    front = shadow_of(thing("tree"), Light("left", "back", "low"))
    back = shadow_of(thing("tree"), Light("left", "front", "low"))
    assert centre_of(front)[0] > centre_of(back)[0] + 4


def test_a_low_light_gives_longer_and_softer_shadows():
    long, short = shadow_of(thing("cylinder"), LOW), shadow_of(thing("cylinder"), HIGH)
    assert (long > 8).sum() > 1.4 * (short > 8).sum()

    def half_dark(shadow):
        full = shadow.max()
        return ((shadow > 0.15 * full) & (shadow < 0.85 * full)).sum() / (shadow > 8).sum()

    assert half_dark(long) > 1.5 * half_dark(short)


def test_a_shadow_falls_over_what_stands_in_it():
    front, back = thing("cube", "blue", -0.9, 5.6, "large"), thing("ball", "white", 0.75, 6.4)
    alone = render(scene(back, light=LOW), 128)
    shaded = render(scene(front, back, light=LOW), 128)
    # the front cube covers nothing of the ball: it is only darker
    seen = cover(back) & ~cover(front)
    assert (shaded[seen].astype(int) < alone[seen].astype(int) - 20).any()


@pytest.mark.parametrize("place", PLACES)
def test_mirror_images_are_on_water_and_polished_floor_only_and_below(place):
    one = thing("cylinder", "red", 0.0, 6.0)
    back = Light("left", "front", "high")  # the shadow falls to the back, away from the image
    plain = render(scene(one, place=place, light=back), 128, shadows=False).astype(int)
    full = render(scene(one, place=place, light=back), 128).astype(int)
    bottom = np.nonzero(cover(one).any(1))[0].max()
    changed = (full != plain).any(-1)[bottom + 1 :]
    if not SETTINGS[place].mirror:
        assert not changed.any()
        return
    rows, columns = np.nonzero(changed)
    assert abs(np.median(columns) - 63.5) < 3
    assert changed[:6, 60:68].all(), "it hangs together with its thing"
    image = full[bottom + 1 :][rows, columns] - plain[bottom + 1 :][rows, columns]
    assert (image[:, 0] - image[:, 1]).mean() > 12, "it is red too"


@pytest.mark.parametrize("kind", KINDS)
def test_no_thing_floats_or_sinks(kind):
    for state in STATES.get(kind, ("",)):
        one = thing(kind, z=6.0, state=state)
        lowest = (np.nonzero(cover(one, 256).any(1))[0].max() + 1) / 128 - 1
        # its foot is on the ground between its front and its back edge
        front = HORIZON + EYE / (SPREAD * (one.z - 1.1 * one.half_width))
        back = HORIZON + EYE / (SPREAD * (one.z + 0.1))
        assert back <= lowest <= front, state


def test_what_is_nearer_hides_what_is_behind():
    near, far = thing("cube", "blue", 0, 5.4, "large"), thing("ball", "red", 0, 7.6)
    both = cover(near) & cover(far)
    assert both.sum() > 50
    for order in ((near, far), (far, near)):
        _, owners = _draw(scene(*order), Window.whole(128), shadows=False)
        in_front = owners == order.index(near)
        assert in_front.all(axis=(0, 1))[both & ~edge(near)].all()


def edge(one):
    _, owners = _draw(scene(one), Window.whole(128), shadows=False)
    return (owners == 0).any(axis=(0, 1)) & ~(owners == 0).all(axis=(0, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_colours_stay_apart_on_every_kind_in_every_light(kind):
    for light in (LOW, HIGH, Light("right", "back", "low"), Light("right", "back", "high")):
        means = {}
        for colour in COLOURS:
            one = thing(kind, colour)
            means[colour] = render(scene(one, light=light), 64)[cover(one, 64)].mean(0)
        for colour, mean in means.items():
            others = [np.abs(mean - means[other]).max() for other in COLOURS if other != colour]
            assert min(others) > 14, (colour, light)


def test_a_window_has_the_bits_of_the_whole():
    for index in range(40):
        edit = edit_of(11, index)
        pair = render_pair(edit.source, edit.target, 64)
        assert (pair.source == render(edit.source, 64)).all()
        assert (pair.target == render(edit.target, 64)).all(), index


@pytest.mark.parametrize("shadows", [True, False])
def test_nothing_differs_outside_the_two_masks_and_every_edit_shows(shadows):
    for index in range(60):
        edit = edit_of(12, index)
        pair = render_pair(edit.source, edit.target, 64, shadows=shadows)
        differs = (pair.source != pair.target).any(-1)
        assert not (differs & ~pair.mask & ~pair.context_mask).any()
        assert not (pair.mask & pair.context_mask).any()
        assert (differs & pair.mask).sum() >= 20, (index, edit.type, edit.manner)


def test_shadow_and_mirror_image_are_context_and_no_part_of_the_mask():
    one = thing("cylinder", "red")
    source, target = scene(one, place="lake"), scene(place="lake")
    pair = render_pair(source, target, 128)
    assert (pair.mask == cover(one)).all()
    assert pair.context_mask.sum() > 0.5 * pair.mask.sum()
    assert not render_pair(source, target, 128, shadows=False).context_mask.any()


def test_edited_things_are_large_enough_whole_and_well_seen():
    for index in range(80):
        edit = edit_of(13, index)
        for picture, numbers in ((edit.source, edit.before), (edit.target, edit.after)):
            _, owners = _draw(picture, Window.whole(64), shadows=False)
            for number in numbers:
                seen = (owners == number).mean()
                _, alone = _draw(picture.having((picture.things[number],)), Window.whole(64),
                                 shadows=False)  # fmt: skip
                mine = picture.things[number]
                assert seen >= 0.4 * (alone == 0).mean(), (index, mine)
                assert seen >= (0.012 if mine.kind == "lamp" else 0.024), (index, mine, seen)
                found = (alone == 0).any(axis=(0, 1))
                frame = found[0].any() | found[-1].any() | found[:, 0].any() | found[:, -1].any()
                assert not frame, (index, mine)


def test_64_and_512_pixels_show_the_same():
    for index in (0, 3, 7, 16):
        picture = edit_of(14, index).source
        small, large = render(picture, 64).astype(float), render(picture, 512).astype(float)
        shrunk = large.reshape(64, 8, 64, 8, 3).mean((1, 3))
        assert np.abs(small - shrunk).mean() < 2.0, index


@pytest.mark.parametrize("photo", PHOTOS)
def test_a_photograph_hangs_behind_and_leaves_the_ground_alone(photo):
    drawn = render(scene(thing()), 64)
    hung = render(Scene("snow field", 0, LOW, (thing(),), photo), 64)
    assert (drawn[24:] == hung[24:]).all()
    assert hung[:16].std() > 15

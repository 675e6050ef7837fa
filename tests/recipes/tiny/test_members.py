"""Each training of the embedded family: it runs, learns, and writes what the next command reads."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import load_file
from transformers import BlipForConditionalGeneration, CLIPModel

from ric.config import (
    TinyCaptionerConfig,
    TinyClassifierConfig,
    TinyClipConfig,
    TinyPriorConfig,
    TinyVaeConfig,
)
from ric.data.drawn_scenes import SceneStream, edit_of_sample
from ric.errors import RicError
from ric.interrupt import Interrupted
from ric.metrics.scene_labels import GROUPS, LABELS, NOTHING, group_ranges
from ric.models.pipeline import forget_source_channels, load_pipeline
from ric.progress import Silent
from ric.recipes.tiny.captioner import miscoloured, names_edited, seen_of, train_captioner
from ric.recipes.tiny.classifier import labelled, train_classifier
from ric.recipes.tiny.clip import train_clip
from ric.recipes.tiny.encoded import EncodedSamples
from ric.recipes.tiny.pictures import DrawnSample
from ric.recipes.tiny.prior import PartErrors, lean_to_noise, train_prior, weighted_error
from ric.recipes.tiny.retrieval import retrieval_among
from ric.recipes.tiny.vae import reconstruction_psnr, scaling_factor, train_vae
from ric.runs.trained_on import trained_groups
from ric.scenes.held_out import HELD_OUT_LOOKS


def losses(rows) -> list[float]:
    return [row["loss"] for row in rows if "loss" in row]


# --- autoencoder ---------------------------------------------------------------------------------


def test_the_autoencoder_learns_and_its_latents_get_a_deviation_of_1(
    settings, train, metrics_of, tmp_path
):
    config = settings(TinyVaeConfig, steps=20, batch_size=8, lr=3e-3)
    run = train(train_vae, config, tmp_path / "run")
    rows = metrics_of(run)
    assert rows[-1]["val_psnr"] > rows[0]["val_psnr"] + 2
    vae = AutoencoderKL.from_pretrained(run / "vae").eval()
    pictures = torch.stack([drawn(number).target for number in range(8)])
    with torch.no_grad():
        latents = vae.encode(pictures.float() / 127.5 - 1).latent_dist.mode()
    assert float(latents.std()) * vae.config.scaling_factor == pytest.approx(1, rel=0.2)
    assert scaling_factor(vae, pictures) == pytest.approx(1 / float(latents.std()), rel=1e-3)


def test_a_decoder_learns_alone_and_the_latents_stay_to_the_bit(
    settings, train, metrics_of, tmp_path, tiny_family
):
    base = tiny_family / "pipeline" / "vae"
    config = settings(TinyVaeConfig, steps=2, base=str(base), decoder_only=True)
    run = train(train_vae, config, tmp_path / "run")
    before, after = (AutoencoderKL.from_pretrained(path) for path in (base, run / "vae"))
    kept, learnt = after.state_dict(), before.state_dict()
    moved = {name for name, value in learnt.items() if not torch.equal(value, kept[name])}
    assert moved
    assert all(name.startswith(("decoder.", "post_quant_conv.")) for name in moved)
    assert after.config.scaling_factor == before.config.scaling_factor


def test_psnr_is_the_formula_on_8_bit_levels(tiny_family):
    vae = AutoencoderKL.from_pretrained(tiny_family / "pipeline" / "vae").eval()
    picture = drawn(0).target[None]
    with torch.no_grad():
        out = vae.decode(vae.encode(picture.float() / 127.5 - 1).latent_dist.mode()).sample
    levels = ((out.clamp(-1, 1) + 1) * 127.5).round().numpy()
    error = np.square(levels - picture.numpy().astype(float)).mean()
    assert reconstruction_psnr(vae, picture) == pytest.approx(10 * math.log10(255**2 / error))


# --- CLIP ----------------------------------------------------------------------------------------


def test_clip_learns_pictures_and_captions_and_is_an_ordinary_clip(
    settings, train, metrics_of, tmp_path
):
    config = settings(TinyClipConfig, steps=20, batch_size=8)
    run = train(train_clip, config, tmp_path / "run")
    found = losses(metrics_of(run))
    assert np.mean(found[-5:]) < np.mean(found[:5])
    assert CLIPModel.from_pretrained(run / "clip").config.projection_dim == 64
    assert (run / "clip" / "preprocessor_config.json").is_file()


def test_recall_is_among_so_many_at_a_time():
    # 8 pictures of 4 looks: among all, a text has a twin; among the first and last 4, it has not
    vectors = torch.eye(4).repeat(2, 1)
    texts = [f"text {number}" for number in range(8)]

    def embed(items):
        rows = vectors[list(items)]
        return rows, rows

    among_4 = retrieval_among(range(8), embed, lambda item: texts[item], among=4)
    among_8 = retrieval_among(range(8), embed, lambda item: texts[item], among=8)
    assert among_4["i2t_recall_at_1"] == 1.0
    # a wrong answer that scores as well stands before the right one
    assert among_8["i2t_recall_at_1"] == 0.0


# --- captioner -----------------------------------------------------------------------------------


def test_the_captioner_learns_paragraphs(settings, train, metrics_of, tmp_path):
    run = train(train_captioner, settings(TinyCaptionerConfig, steps=8), tmp_path / "run")
    found = losses(metrics_of(run))
    assert found[-1] < found[0]
    assert (run / "captioner" / "preprocessor_config.json").is_file() or (
        run / "captioner" / "processor_config.json"
    ).is_file()


def test_the_captioner_may_start_with_the_eyes_of_the_scene_judge(
    settings, train, tiny_family, tmp_path
):
    config = settings(TinyCaptionerConfig, steps=1, lr=1e-12, vision="tiny", ema_decay=0.0)
    run = train(train_captioner, config, tmp_path / "run")
    ours = load_file(run / "captioner" / "model.safetensors")
    theirs = load_file(tiny_family / "scene_encoder" / "blip" / "model.safetensors")
    names = [name for name in theirs if name.startswith("vision_model.")]
    assert names
    for name in names:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=0)


def test_a_share_of_the_colours_that_are_read_are_others_and_nothing_else_is():
    colours = torch.arange(10, 18)
    ids = torch.randint(5, 40, (64, 100), generator=torch.Generator().manual_seed(1))
    noisy = miscoloured(ids, colours, 0.5, torch.Generator().manual_seed(2))
    is_colour = torch.isin(ids, colours)
    assert torch.equal(noisy[~is_colour], ids[~is_colour])
    assert torch.isin(noisy[is_colour], colours).all()
    # half are drawn, and one in eight of the drawn is the same again
    changed = (noisy != ids)[is_colour].float().mean().item()
    assert changed == pytest.approx(0.5 * 7 / 8, abs=0.05)
    again = miscoloured(ids, colours, 0.0, torch.Generator().manual_seed(2))
    assert torch.equal(again, ids)


def test_what_the_captioner_must_say_keeps_its_colours(settings, train, tmp_path, monkeypatch):
    forward, seen = BlipForConditionalGeneration.forward, []

    def watched(self, **named):
        seen.append((named["input_ids"], named["labels"]))
        return forward(self, **named)

    monkeypatch.setattr(BlipForConditionalGeneration, "forward", watched)
    config = settings(TinyCaptionerConfig, steps=1)
    for share in (0.0, 1.0):
        train(train_captioner, replace(config, colour_noise=share), tmp_path / f"{share}")
    (read, said), (noisy, still_said) = (pair for pair in seen if pair[1] is not None)
    assert torch.equal(said, still_said)
    assert torch.equal(read[said != -100], said[said != -100])
    assert 5 < (noisy != read).sum() < 0.2 * read.numel()


def test_what_only_an_editor_knows_is_left_out_of_what_is_seen():
    sample = drawn(0)
    assert "The eye is drawn" in sample.scene_text
    assert "The eye is drawn" not in seen_of(sample.scene_text)
    assert seen_of(sample.source_text) == sample.source_text


def test_a_text_names_the_edited_thing_by_its_colour_and_kind():
    stream = SceneStream(count=60, seed=5)
    ids = [stream.sample(index).id for index in range(60)]
    right = [stream.sample(index).target_text for index in range(60)]
    assert names_edited(ids, right) == 1.0
    assert names_edited(ids, ["A meadow with nothing on it."] * 60) < 0.4
    kept = [(one, edit_of_sample(one)) for one in ids if edit_of_sample(one).type == "Replace"]
    one, edit = next((one, edit) for one, edit in kept if edit.manner == "colour")
    before = edit.source.things[0].look
    assert names_edited([one], [f"There is a {before[0]} {before[1]}."]) == 0.0


# --- classifier ----------------------------------------------------------------------------------


def test_the_classifier_learns_what_it_is_asked(settings, train, metrics_of, tmp_path):
    config = settings(TinyClassifierConfig, steps=30, batch_size=16, lr=3e-3)
    rows = metrics_of(train(train_classifier, config, tmp_path / "run"))
    found = losses(rows)
    assert np.mean(found[-5:]) < 0.8 * np.mean(found[:5])
    assert {"val_kind", "val_colour", "val_place"} <= rows[-1].keys()


def test_the_groups_of_labels_lie_side_by_side_and_cover_all_outputs():
    ranges = group_ranges()
    assert list(ranges) == list(GROUPS)
    assert sorted(n for place in ranges.values() for n in range(len(LABELS))[place]) == list(
        range(len(LABELS))
    )
    for group, place in ranges.items():
        assert [label.partition(": ")[2] for label in LABELS[place]] == list(GROUPS[group])


def test_a_sample_gives_its_picture_and_crops_of_what_changes():
    for number in range(20):
        sample = drawn(number)
        edit = edit_of_sample(sample.id)
        items = list(labelled(sample, seed=0))
        assert set(items[0].labels) == {"place", "light from", "light", "things"}
        things = [item for item in items[1:] if item.labels["kind"] != NOTHING]
        assert len(things) == len(edit.before) + len(edit.after)
        assert all(item.picture.shape == (3, 64, 64) for item in items)
        changed = [edit.source.things[n] for n in edit.before]
        changed += [edit.target.things[n] for n in edit.after]
        assert [item.labels["kind"] for item in things] == [thing.kind for thing in changed]


# --- UNets ---------------------------------------------------------------------------------------


def test_an_editing_prior_learns_with_its_text_encoder_on_the_autoencoder_it_is_given(
    settings, train, tiny_family, tmp_path
):
    vae = train(train_vae, settings(TinyVaeConfig), tmp_path / "vae")
    config = settings(TinyPriorConfig, vae=str(vae))
    run = train(train_prior, config, tmp_path / "prior")
    name = "diffusion_pytorch_model.safetensors"
    assert same(run / "pipeline/vae" / name, vae / "vae" / name)
    assert not same(run / "pipeline/unet" / name, tiny_family / "pipeline/unet" / name)
    text = "text_encoder/model.safetensors"
    assert not same(run / "pipeline" / text, tiny_family / "pipeline" / text)
    assert load_pipeline(run / "pipeline", torch.device("cpu")).unet.config.in_channels == 8
    assert json.loads((run / "run.json").read_text())["parents"] == ["../vae"]


def test_a_text_to_image_prior_is_an_ordinary_stable_diffusion_pipeline(
    settings, train, tiny_family, tmp_path
):
    base = str(tiny_family / "text_to_image")
    run = train(train_prior, settings(TinyPriorConfig, base=base), tmp_path / "prior")
    pipeline = StableDiffusionPipeline.from_pretrained(run / "pipeline")
    assert pipeline.unet.config.in_channels == 4
    picture = pipeline("a red ball", num_inference_steps=2, height=64, width=64).images[0]
    assert picture.size == (64, 64)


def test_an_editor_that_forgets_its_source_answers_as_where_the_source_was_dropped(tiny_family):
    unet = load_pipeline(tiny_family / "pipeline", torch.device("cpu")).unet.eval()
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, 4, 16, 16, generator=generator)
    prompts = torch.randn(2, 7, unet.config.cross_attention_dim, generator=generator)
    steps = torch.tensor([3, 900])
    with torch.no_grad():
        dropped = torch.cat([noisy, torch.zeros_like(noisy)], 1)
        before = unet(dropped, steps, encoder_hidden_states=prompts).sample
        forget_source_channels(unet)
        after = unet(noisy, steps, encoder_hidden_states=prompts).sample
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    assert unet.config.in_channels == 4
    forget_source_channels(unet)
    assert unet.conv_in.in_channels == 4


def test_places_that_change_count_as_asked():
    generator = torch.Generator().manual_seed(0)
    prediction, noise = torch.randn(2, 3, 4, 5, 5, generator=generator)
    where = torch.ones(3, 1, 5, 5)
    where[0, 0, 2:4, 1] = 5.0
    total = weights = 0.0
    for b, c, y, x in np.ndindex(3, 4, 5, 5):
        error = float(prediction[b, c, y, x] - noise[b, c, y, x]) ** 2
        total += error * float(where[b, 0, y, x])
        weights += float(where[b, 0, y, x])
    found = weighted_error(prediction, noise, where).item()
    assert found == pytest.approx(total / weights, rel=1e-5)
    ones = weighted_error(prediction, noise, torch.ones(3, 1, 5, 5))
    assert ones.item() == pytest.approx((prediction - noise).square().mean().item(), rel=1e-6)


def test_what_changes_is_marked_on_the_latents_places(settings, tiny_family):
    sample = drawn(0)
    pipeline = load_pipeline(tiny_family / "pipeline", torch.device("cpu"))
    data = EncodedSamples([sample], pipeline, settings(TinyPriorConfig), Silent(), edits=True)
    differs = (sample.source != sample.target).any(0).numpy()
    assert sample.mask.any()
    assert sample.context.any()
    for y, x in np.ndindex(16, 16):
        block = slice(4 * y, 4 * y + 4), slice(4 * x, 4 * x + 4)
        edited, beside = sample.mask[block].any(), sample.context[block].any()
        assert bool(data.changed[0, 0, y, x]) == differs[block].any()
        assert bool(data.edited[0, 0, y, x]) == bool(edited)
        assert bool(data.context[0, 0, y, x]) == bool(beside and not edited)


def test_errors_are_told_by_part_of_the_picture(settings, tiny_family):
    pipeline = load_pipeline(tiny_family / "pipeline", torch.device("cpu"))
    config = settings(TinyPriorConfig)
    data = EncodedSamples([drawn(0), drawn(1)], pipeline, config, Silent(), edits=True)
    source, clean = data.sources.float(), data.means.float()
    idle, exact, off = PartErrors(), PartErrors(), PartErrors()
    for which in ([0], [1]):
        idle.add(source[which], clean[which], source[which], data, which)
        exact.add(clean[which], clean[which], source[which], data, which)
        off.add(clean[which] + 0.5, clean[which], source[which], data, which)
    assert idle.figures()["mask"] == idle.figures()["context"] == pytest.approx(1)
    assert exact.figures() == {"outside": 0, "mask": 0, "context": 0}
    assert off.figures()["outside"] == pytest.approx(0.25)
    undone = (source - clean).square().mean(1, keepdim=True)[data.context].sum()
    share = 0.25 * data.context.sum() / undone
    assert off.figures()["context"] == pytest.approx(float(share), rel=1e-5)


def test_steps_lean_to_high_noise_as_a_power_of_a_uniform_draw():
    steps = lean_to_noise(torch.arange(1000), 0.5, 1000)
    assert (int(steps.min()), int(steps.max())) == (22, 999)
    # u^0.5 < 0.5 where u < 0.25
    assert float((steps < 500).float().mean()) == pytest.approx(0.25)
    assert torch.equal(lean_to_noise(torch.arange(1000), 1.0, 1000), torch.arange(1000))


def test_fresh_scenes_are_the_streams_train_samples_a_block_at_a_time(settings, train, tmp_path):
    config = settings(
        TinyPriorConfig, data="scenes:200#5", steps=5, batch_size=4, block=8, passes=2
    )
    run = train(train_prior, config, tmp_path / "run")
    stream = SceneStream(count=200, seed=5)
    # 2 passes over 8 scenes are 4 steps; the fifth is of the second block
    first = [sample.id for sample in islice(stream.of_split("train"), 16)]
    assert sorted(trained_groups(run)) == sorted(first)


def test_a_stream_that_ends_too_early_is_refused(settings, train, tmp_path):
    config = settings(
        TinyPriorConfig, data="scenes:40#5", batch_size=4, block=16, passes=1, steps=9
    )
    with pytest.raises(RicError, match=r"scenes:40#5 has 34 train samples; 9 steps need 48\."):
        train(train_prior, config, tmp_path / "run")


@pytest.mark.parametrize("changes", [{"limit": 5}, {"split": "val"}, {"block": 1, "passes": 1}])
def test_settings_that_fresh_scenes_cannot_keep_are_refused(changes, settings, train, tmp_path):
    config = settings(TinyPriorConfig, data="scenes:90#5", **({"block": 8} | changes))
    with pytest.raises(RicError, match=r"all of the stream's train|less than one batch"):
        train(train_prior, config, tmp_path / "run")


def test_a_prior_on_fresh_scenes_that_was_stopped_ends_as_the_whole_one_to_the_bit(
    settings, train, stop_after, metrics_of, tmp_path
):
    config = settings(
        TinyPriorConfig, data="scenes:200#5", steps=6, block=8, passes=2,
        optimizer="muon", averages=2, edit_weight=4.0, context_weight=3.0, noise_power=0.6,
    )  # fmt: skip
    whole = train(train_prior, config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(train_prior, config, tmp_path / "parts", stop_after("training", 3))
    parts = train(train_prior, config, tmp_path / "parts")
    name = "pipeline/unet/diffusion_pytorch_model.safetensors"
    assert same(parts / name, whole / name)
    assert metrics_of(parts) == metrics_of(whole)


def test_the_diffusion_loss_falls(settings, train, metrics_of, tmp_path):
    config = settings(TinyPriorConfig, steps=20, batch_size=8, lr=2e-3)
    rows = metrics_of(train(train_prior, config, tmp_path / "run"))
    assert rows[-1]["val_loss"] < rows[0]["val_loss"]


# --- data ----------------------------------------------------------------------------------------


def test_what_is_trained_on_is_listed_and_holds_no_look_kept_for_test(settings, train, tmp_path):
    run = train(train_vae, settings(TinyVaeConfig), tmp_path / "run")
    groups = trained_groups(run)
    assert groups == {sample.id for sample in SceneStream(count=40, seed=5).of_split("train")}
    kept = HELD_OUT_LOOKS["test"] | HELD_OUT_LOOKS["val"]
    for name in groups:
        edit = edit_of_sample(name)
        shown = {thing.look for thing in (*edit.source.things, *edit.target.things)}
        assert not shown & kept


def test_data_without_a_val_split_is_refused(settings, train, tmp_path):
    with pytest.raises(RicError, match="no usable sample to train on, or none in val"):
        train(train_vae, settings(TinyVaeConfig, data="scenes:2#5"), tmp_path / "run")


def same(one, other) -> bool:
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def drawn(index: int) -> DrawnSample:
    stream = SceneStream(count=index + 1, seed=5)
    sample = stream.sample(index)
    _, pair = stream.draw(index)
    source, target = (
        torch.from_numpy(pixels.copy()).permute(2, 0, 1) for pixels in (pair.source, pair.target)
    )
    texts = {
        name: getattr(sample, name)
        for name in ("instruction", "region_text", "scene_text", "source_text", "target_text")
    }
    masks = (torch.from_numpy(mask.copy()) for mask in (pair.mask, pair.context_mask))
    return DrawnSample(sample.id, sample.group(), source, target, *masks, **texts)

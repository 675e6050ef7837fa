from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import cosine_similarity

from ric.config import FitClipConfig
from ric.data.batches import to_unit
from ric.errors import RicError
from ric.inputs.examples import Needs, load_examples
from ric.method.region_encoder import RegionEncoder
from ric.recipes.fit_clip import fit_clip, start_judge
from ric.runs.artifacts import licence_of
from ric.runs.open_run import open_run
from ric.settings import resolve_config
from ric.training.contrastive_pairs import Pairs
from ric.work import open_work


def start_weights(tiny_family: Path) -> dict[str, torch.Tensor]:
    return RegionEncoder.from_clip(tiny_family / "clip", num_heads=8).state_dict()


def fitted_weights(run: Path) -> dict[str, torch.Tensor]:
    return RegionEncoder.from_pretrained(run / "region_encoder").state_dict()


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.fixture(scope="module")
def eight(make_edits) -> Path:
    return make_edits(8)


def test_phase_one_leaves_clip_bit_identical_and_moves_every_weight_of_the_fusion(
    tiny, eight, follow, tiny_family, tmp_path
):
    config = tiny(FitClipConfig, eight, fusion_epochs=2, joint_epochs=0, controls=False)
    moved = changed(
        start_weights(tiny_family), fitted_weights(follow(fit_clip, config, tmp_path / "run"))
    )
    assert "logit_scale" in moved  # choice 4: tau is learnable in phase 1 too
    assert not any(name.startswith("tower.") for name in moved)
    fusion = {name for name in start_weights(tiny_family) if name.startswith("fusion.")}
    assert fusion <= moved


def test_phase_one_gathers_no_gradient_for_clip_and_phase_two_does(
    tiny, eight, follow, tmp_path, monkeypatch
):
    # gradients gathered in phase one would all be spent in the first step of phase two
    seen, backward = [], Pairs.backward

    def watched(pairs: Pairs, batch):
        loss = backward(pairs, batch)
        named = pairs.judge.named_parameters()
        seen.append({name.split(".")[0] for name, weight in named if weight.grad is not None})
        return loss

    monkeypatch.setattr(Pairs, "backward", watched)
    config = tiny(FitClipConfig, eight, fusion_epochs=2, joint_epochs=1, controls=False)
    follow(fit_clip, config, tmp_path / "run")
    first = {"fusion", "logit_scale"}
    assert seen == [first, first, first | {"tower"}]


def test_phase_two_trains_the_fusion_and_both_of_clip_s_towers(
    tiny, eight, follow, tiny_family, tmp_path
):
    config = tiny(FitClipConfig, eight, fusion_epochs=0, joint_epochs=1)
    moved = changed(
        start_weights(tiny_family), fitted_weights(follow(fit_clip, config, tmp_path / "run"))
    )
    for part in ("fusion.", "tower.vision_model.", "tower.text_model.", "tower.text_projection"):
        assert any(name.startswith(part) for name in moved), part
    assert "tower.logit_scale" not in moved  # CLIP's own: ours is trained instead


def test_without_gated_fusion_the_fusion_stays_as_it_was_and_is_saved_as_off(
    tiny, eight, follow, tiny_family, tmp_path
):
    config = tiny(FitClipConfig, eight, gated_fusion=False, fusion_epochs=1, joint_epochs=1)
    run = follow(fit_clip, config, tmp_path / "run")
    moved = changed(start_weights(tiny_family), fitted_weights(run))
    assert not any(name.startswith("fusion.") for name in moved)
    assert any(name.startswith("tower.vision_model.") for name in moved)
    assert RegionEncoder.from_pretrained(run).gated is False


def test_the_artifact_holds_the_last_checkpoint_s_weights_to_the_bit_and_a_card(
    tiny, eight, follow, tmp_path, record_of
):
    config = tiny(FitClipConfig, eight, fusion_epochs=1, joint_epochs=1, controls=False)
    run = follow(fit_clip, config, tmp_path / "run")
    last = max((run / "checkpoints").iterdir())
    trained = load_file(last / "model.safetensors")
    reloaded = dict(RegionEncoder.from_pretrained(run).named_parameters())
    assert trained.keys() == reloaded.keys()
    assert all(torch.equal(trained[name], reloaded[name]) for name in trained)
    card = (run / "region_encoder" / "README.md").read_text()
    assert card.startswith("---\nbase_model: tiny\n")
    assert "split train, 8 samples" in card
    assert "| 0 | start | train_i2t_recall_at_1 |" in card
    assert "| 2 | joint | train_i2t_recall_at_1 |" in card
    assert not [path for path in run.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".ckpt")]
    assert record_of(run)["truncated_texts"] == 0


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_on_eight_samples_the_loss_falls_and_every_region_finds_its_text(
    dtype, tiny, eight, follow, tmp_path, metrics_of
):
    settings = {"fusion_epochs": 30, "joint_epochs": 15, "fusion_lr": 5e-3, "joint_lr": 1e-3}
    config = tiny(FitClipConfig, eight, **settings, batch_size=8, controls=False, dtype=dtype)
    rows = metrics_of(follow(fit_clip, config, tmp_path / "run"))
    assert rows[0]["train_i2t_recall_at_1"] <= 0.5
    assert rows[-1]["train_i2t_recall_at_1"] >= 0.8
    assert rows[-1]["train_t2i_recall_at_1"] >= 0.8
    assert rows[-1]["loss"] < 0.3 * rows[1]["loss"]


def test_the_crop_of_the_target_is_what_is_embedded(
    tiny, eight, follow, tiny_family, tmp_path, metrics_of
):
    # one batch of all eight: its first loss is Eq. 11 written out over crops of the target's file
    config = tiny(
        FitClipConfig, eight, fusion_epochs=1, joint_epochs=0, controls=False, batch_size=8
    )
    run = follow(fit_clip, config, tmp_path / "run")
    judge = RegionEncoder.from_clip(tiny_family / "clip")
    with open_run("fit-clip", {}, runs_dir=tmp_path) as other:
        examples = load_examples(
            config, open_work(config, other), "all", Needs(64, region_text="region_text")
        )
    visual, text = [], []
    with torch.no_grad():
        for item in examples:
            picture = Image.open(eight / "target" / f"{item.id}.png").resize((64, 64))
            pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
            image = to_unit(pixels.reshape(64, 64, 3).permute(2, 0, 1))[None]
            visual.append(judge.encode_region(image, [item.box])[0])
            text.append(judge.encode_text([item.region_text])[0])
    scores = cosine_similarity(torch.stack(visual)[:, None], torch.stack(text)[None], dim=-1)
    scores = (scores / 0.07).exp()
    rows, columns = scores / scores.sum(1, keepdim=True), scores / scores.sum(0, keepdim=True)
    expected = -(rows.diag().log().mean() + columns.diag().log().mean()) / 2
    assert metrics_of(run)[1]["loss"] == pytest.approx(expected.item(), rel=1e-4)


def test_texts_that_are_cut_are_counted_once_each(tiny, make_edits, follow, tmp_path, record_of):
    data = make_edits(4, {1: {"region_text": "a red ball " * 40}, 2: {"region_text": "x " * 99}})
    config = tiny(FitClipConfig, data, fusion_epochs=2, joint_epochs=0, controls=False)
    run = follow(fit_clip, config, tmp_path / "run")
    assert record_of(run)["truncated_texts"] == 2
    card = (run / "region_encoder" / "README.md").read_text()
    assert "- texts cut because they were too long: 2" in card


def test_one_usable_sample_is_not_enough_and_the_error_says_what_became_of_the_rest(
    tiny, make_edits, follow, tmp_path, record_of
):
    data = make_edits(3, {0: {"region_text": None}, 2: {"region_text": None}})
    with pytest.raises(RicError, match=r"are needed\. 2 were lost: 00: it has no region_text"):
        follow(fit_clip, tiny(FitClipConfig, data), tmp_path / "run")
    assert record_of(tmp_path / "run")["status"] == "failed"


def test_broken_samples_are_failures_and_never_shift_pairs_out_of_step(
    tiny, make_edits, follow, tmp_path, metrics_of
):
    data = make_edits(9, {1: {"region_text": None}})
    Image.new("L", (96, 80)).save(data / "mask" / "03.png")  # empty
    (data / "target" / "06.png").write_bytes(b"no picture")
    whole = make_edits(9)
    lines = (whole / "metadata.jsonl").read_text().splitlines(keepends=True)
    kept = [line for number, line in enumerate(lines) if number not in (1, 3, 6)]
    (whole / "metadata.jsonl").write_text("".join(kept))
    settings = {"batch_size": 3, "fusion_epochs": 2, "joint_epochs": 1, "controls": False}
    broken = follow(fit_clip, tiny(FitClipConfig, data, **settings), tmp_path / "broken")
    sound = follow(fit_clip, tiny(FitClipConfig, whole, **settings), tmp_path / "sound")
    assert metrics_of(broken) == metrics_of(sound)
    failures = [json.loads(line) for line in (broken / "failures.jsonl").read_text().splitlines()]
    assert {row["id"]: row["stage"] for row in failures} == {
        "01": "texts", "03": "mask", "06": "target"
    }  # fmt: skip


def test_the_paper_s_numbers_are_the_defaults():
    config = resolve_config(FitClipConfig, {"data": "x"})
    assert (config.fusion_epochs, config.fusion_lr) == (50, 1e-4)
    assert (config.joint_epochs, config.joint_lr) == (20, 1e-5)
    assert (config.batch_size, config.image_size) == (64, 512)


def test_a_fitted_judge_goes_on_with_its_own_fusion_and_temperature(tiny, eight, follow, tmp_path):
    short = {"fusion_epochs": 2, "joint_epochs": 1, "controls": False}
    first = follow(
        fit_clip, tiny(FitClipConfig, eight, **short | {"joint_epochs": 0}), tmp_path / "first"
    )
    config = tiny(FitClipConfig, eight, clip=str(first), **short)
    judge = start_judge(first / "region_encoder", config)
    before = fitted_weights(first)
    assert not changed(before, judge.state_dict())
    second = follow(fit_clip, config, tmp_path / "second")
    assert changed(before, fitted_weights(second))
    assert json.loads((second / "run.json").read_text())["parents"] == ["../first"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"temperature": 0.5},
            r"--temperature is 0\.5, but tiny is a fitted judge, whose own value is",
        ),
        ({"num_heads": 2}, r"--num-heads is 2, but tiny is a fitted judge, whose own value is 8"),
    ],
)
def test_what_a_fitted_judge_has_of_its_own_cannot_be_asked_to_be_otherwise(
    changes, message, tiny, eight, tiny_family
):
    with pytest.raises(RicError, match=message):
        start_judge(tiny_family / "region_encoder", tiny(FitClipConfig, eight, **changes))
    start_judge(tiny_family / "region_encoder", tiny(FitClipConfig, eight, seed=4))


def test_a_plain_clip_gets_the_temperature_that_is_asked_for(tiny, eight, tiny_family):
    judge = start_judge(tiny_family / "clip", tiny(FitClipConfig, eight, temperature=0.5))
    assert judge.temperature.item() == pytest.approx(0.5)


# --- controls ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def controlled(tiny, edits, follow, tmp_path_factory) -> Path:
    config = tiny(FitClipConfig, edits, batch_size=4, fusion_epochs=3, joint_epochs=1)
    return follow(fit_clip, config, tmp_path_factory.mktemp("controlled") / "run")


@pytest.mark.parametrize("sees", ["crop", "image"])
def test_a_control_has_the_figures_of_a_phase_1_that_sees_that_stream_alone(
    sees, controlled, tiny, edits, follow, tmp_path
):
    config = tiny(FitClipConfig, edits, batch_size=4, fusion_epochs=3, joint_epochs=0, sees=sees)
    run = follow(fit_clip, config, tmp_path / "run")
    assert RegionEncoder.from_pretrained(run).sees == sees
    assert not (run / "controls.json").exists()
    expected = json.loads((run / "retrieval.json").read_text())
    assert json.loads((controlled / "controls.json").read_text())[f"{sees} only"] == expected
    assert expected["val"]["samples"] == 3


def test_controls_change_nothing_of_the_fit(controlled, tiny, edits, follow, tmp_path):
    config = tiny(
        FitClipConfig, edits, batch_size=4, fusion_epochs=3, joint_epochs=1, controls=False
    )
    run = follow(fit_clip, config, tmp_path / "run")
    assert not changed(fitted_weights(controlled), fitted_weights(run))


def test_the_card_sets_the_controls_beside_the_fitted_judge_and_names_the_licence(controlled):
    card = (controlled / "region_encoder" / "README.md").read_text()
    assert "| judge | split | samples | i2t recall at 1 |" in card
    for judge in ("fitted", "crop only", "image only"):
        assert f"| {judge} | val | 3 |" in card
    assert "- licence: Apache-2.0, as ric's own" in card


def test_a_card_names_the_licence_of_a_base_that_is_known():
    assert licence_of("openai/clip-vit-base-patch16") == "MIT (of the CLIP code)"
    assert licence_of("somebody/clip") == "that of somebody/clip"

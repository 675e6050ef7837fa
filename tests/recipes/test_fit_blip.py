from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from gradient_distance import relative_distances
from noting import Noting
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import cosine_similarity

from ric.config import FitBlipConfig
from ric.data.batches import to_square, to_unit
from ric.data.sample import load_samples
from ric.distributed import Ranks
from ric.errors import RicError
from ric.inputs.examples import Needs, load_examples
from ric.interrupt import Interrupted
from ric.method.scene_encoder import SceneEncoder
from ric.recipes.fit_blip import embed, fit_blip, start_judge
from ric.runs.open_run import open_run
from ric.runs.rows import append_row
from ric.training.contrastive_pairs import Pairs
from ric.training.further_negatives import NONE, source_of
from ric.work import open_work

PARAGRAPHS = (
    "a red ball on the grass",
    "two boats in blue water",
    "the man stands in a room",
    "yellow light on a stone wall",
    "a small dog sits near the tree",
    "one large house",
    "birds above the field",
    "a wooden table and a lamp",
)


@pytest.fixture(scope="module")
def eight(make_edits) -> Path:
    return make_edits(8)


def parameters(path: Path) -> dict[str, torch.Tensor]:
    return dict(SceneEncoder.from_pretrained(path).named_parameters())


def test_on_eight_samples_the_loss_falls_and_every_picture_finds_its_paragraph(
    tiny, make_edits, follow, tmp_path, metrics_of
):
    data = make_edits(8, {n: {"scene_text": text} for n, text in enumerate(PARAGRAPHS)})
    config = tiny(FitBlipConfig, data, epochs=90, lr=1e-3, batch_size=8)
    rows = metrics_of(follow(fit_blip, config, tmp_path / "run"))
    assert rows[0]["train_i2t_recall_at_1"] <= 0.5
    assert rows[-1]["train_i2t_recall_at_1"] >= 0.8
    assert rows[-1]["loss"] < 0.3 * rows[1]["loss"]


def test_told_from_sources_the_judge_learns_which_of_the_two_pictures_a_text_means(
    tiny, make_edits, follow, tmp_path, metrics_of
):
    edits = make_edits(4)
    config = tiny(FitBlipConfig, edits, epochs=40, lr=1e-3, batch_size=4, measure_every=40)
    shares = {}
    for told in (False, True):
        run = follow(fit_blip, replace(config, source_negatives=told), tmp_path / f"{told}")
        shares[told] = above_source(SceneEncoder.from_pretrained(run), edits)
    assert shares[True] == 1
    assert shares[False] < 1
    assert metrics_of(run)[-1]["train_above_source"] == shares[True]


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_with_sources_too_micro_batches_give_the_whole_batch_s_gradient_to_1e_5(
    at_once, tiny, edits, tmp_path, tiny_family
):
    with open_run("fit-blip", {}, runs_dir=tmp_path) as run:
        config = tiny(FitBlipConfig, edits)
        examples = load_examples(config, open_work(config, run), "train", Needs(64))
    judge = SceneEncoder.from_blip(tiny_family / "scene_encoder" / "blip")

    def gradients(pairs_at_once: int, *, told: bool = True) -> dict[str, torch.Tensor]:
        cpu = torch.device("cpu")
        further = replace(NONE, picture_of=source_of, counts={"source": lambda one: True})
        if not told:
            further = NONE
        pairs = Pairs(judge, partial(embed, further=further), lambda one: one.scene_text, cpu,
                      torch.float32, pairs_at_once, Ranks(cpu), further.counts)  # fmt: skip
        judge.zero_grad()
        pairs.backward(examples)
        return {
            name: weight.grad
            for name, weight in judge.named_parameters()
            if weight.grad is not None
        }

    whole, split, without = gradients(99), gradients(at_once), gradients(99, told=False)
    assert max(relative_distances(split, whole).values()) < 1e-5
    assert max(relative_distances(without, whole).values()) > 1e-2


@torch.no_grad()
def above_source(judge: SceneEncoder, data: Path) -> float:
    """Give the share of train's texts whose target is nearer to them than the source is."""
    won = []
    for sample in load_samples(str(data)).narrowed("train"):
        text = judge.encode_text([sample.scene_text])
        square = to_square(sample, 64, need_mask=False)
        near = [
            cosine_similarity(judge.encode_image(to_unit(picture[None])), text).item()
            for picture in (square.target, square.source)
        ]
        won.append(near[0] > near[1])
    return sum(won) / len(won)


def test_both_towers_and_tau_are_trained_and_the_matching_head_is_not(
    tiny, eight, follow, tiny_family, tmp_path
):
    run = follow(fit_blip, tiny(FitBlipConfig, eight, epochs=1), tmp_path / "run")
    before = dict(SceneEncoder.from_blip(tiny_family / "scene_encoder" / "blip").named_parameters())
    after = parameters(run)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    for part in ("logit_scale", "tower.vision_model", "tower.text_encoder", "tower.text_proj"):
        assert any(name.startswith(part) for name in moved), part
    assert not any("itm_head" in name or "crossattention" in name for name in moved)


def test_an_interrupted_fit_resumes_to_the_bit_and_the_artifact_is_the_last_checkpoint(
    tiny, edits, follow, stop_after, tmp_path, metrics_of
):
    config = tiny(FitBlipConfig, edits, epochs=2, batch_size=3, checkpoint_every=50)
    whole = follow(fit_blip, config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        follow(fit_blip, config, tmp_path / "cut", stop_after("fitting", 4))
    cut = follow(fit_blip, config, tmp_path / "cut")
    assert metrics_of(cut) == metrics_of(whole)
    trained = load_file(whole / "checkpoints" / "step-000006" / "model.safetensors")
    ours, theirs = parameters(cut), parameters(whole)
    for name, expected in trained.items():
        assert torch.equal(theirs[name], expected)
        assert torch.equal(ours[name], expected)


def test_the_whole_target_and_the_described_paragraph_are_what_is_contrasted(
    tiny, eight, follow, tiny_family, tmp_path, metrics_of, record_of
):
    texts = {f"{n:02d}": f"a red ball {'and grass ' * n}" for n in range(8)}
    with open_run("describe", {}, runs_dir=tmp_path, run=tmp_path / "described") as describe:
        for name, text in texts.items():
            append_row(describe.path / "descriptions.jsonl", {"id": name, "scene_text": text})
    config = tiny(
        FitBlipConfig, eight, epochs=1, batch_size=8, descriptions=str(tmp_path / "described")
    )
    run = follow(fit_blip, config, tmp_path / "run")
    judge = SceneEncoder.from_blip(tiny_family / "scene_encoder" / "blip")
    with torch.no_grad():
        text = torch.cat([judge.encode_text([text]) for text in texts.values()])
        visual = []
        for name in texts:
            picture = Image.open(eight / "target" / f"{name}.png").resize((64, 64))
            pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
            image = to_unit(pixels.reshape(64, 64, 3).permute(2, 0, 1))[None]
            visual.append(judge.encode_image(image))
    scores = cosine_similarity(torch.cat(visual)[:, None], text[None], dim=-1)
    scores = (scores / 0.07).exp()
    rows, columns = scores / scores.sum(1, keepdim=True), scores / scores.sum(0, keepdim=True)
    expected = -(rows.diag().log().mean() + columns.diag().log().mean()) / 2
    assert metrics_of(run)[1]["loss"] == pytest.approx(expected.item(), rel=1e-4)
    assert record_of(run)["parents"] == ["../described"]


def test_samples_without_a_paragraph_are_failures_and_the_rest_is_fitted(
    tiny, make_edits, follow, tmp_path, record_of
):
    data = make_edits(5, {0: {"scene_text": None}, 3: {"scene_text": None}})
    run = follow(fit_blip, tiny(FitBlipConfig, data, epochs=1), tmp_path / "run")
    assert record_of(run)["status"] == "done"
    assert (run / "failures.jsonl").read_text().count("it has no scene_text") == 2
    assert "3 samples" in (run / "scene_encoder" / "README.md").read_text()


def test_a_sample_without_a_description_is_a_failure_although_the_data_has_a_text(
    tiny, eight, follow, tmp_path
):
    with open_run("describe", {}, runs_dir=tmp_path, run=tmp_path / "described") as describe:
        for n in range(6):
            append_row(
                describe.path / "descriptions.jsonl", {"id": f"{n:02d}", "scene_text": f"ball {n}"}
            )
    config = tiny(FitBlipConfig, eight, epochs=1, descriptions=str(describe.path))
    run = follow(fit_blip, config, tmp_path / "run")
    failed = [json.loads(line) for line in (run / "failures.jsonl").read_text().splitlines()]
    assert {row["id"]: row["reason"] for row in failed} == dict.fromkeys(
        ("06", "07"), f"it has no scene_text in {describe.path}"
    )
    assert "6 samples" in (run / "scene_encoder" / "README.md").read_text()


def test_a_split_of_which_nothing_was_described_is_not_measured_and_fails_nothing(
    tiny, make_edits, follow, tmp_path
):
    data = make_edits(8, {n: {"split": "val"} for n in (5, 6, 7)})
    (data / "target/07.png").write_bytes(b"torn")
    with open_run("describe", {}, runs_dir=tmp_path, run=tmp_path / "described") as describe:
        for n in range(4):
            describe.append("descriptions", {"id": f"{n:02d}", "scene_text": f"ball {n}"})
    config = tiny(FitBlipConfig, data, epochs=1, split="train", descriptions=str(describe.path))
    told = Noting()
    run = follow(fit_blip, config, tmp_path / "run", told)
    lacking = f"{describe.path} has no scene_text of its samples"
    assert f"Nothing is measured on split val: {lacking}" in told.lines
    failed = [json.loads(line) for line in (run / "failures.jsonl").read_text().splitlines()]
    assert [row["id"] for row in failed] == ["04"]  # of the split that is fitted


def test_masks_and_region_texts_are_not_needed(tiny, make_edits, follow, tmp_path):
    data = make_edits(3, {n: {"region_text": None} for n in range(3)})
    for path in (data / "mask").iterdir():
        Image.new("L", (96, 80)).save(path)
    run = follow(fit_blip, tiny(FitBlipConfig, data, epochs=1), tmp_path / "run")
    assert not (run / "failures.jsonl").exists()


def test_no_paragraph_at_all_says_so(tiny, make_edits, follow, tmp_path):
    data = make_edits(3, {n: {"scene_text": None} for n in range(3)})
    with pytest.raises(RicError, match="3 were lost: 00: it has no scene_text"):
        follow(fit_blip, tiny(FitBlipConfig, data), tmp_path / "run")


@pytest.mark.parametrize("changes", [{"temperature": 0.5}, {"max_text_tokens": 64}])
def test_what_a_fitted_judge_has_of_its_own_cannot_be_asked_to_be_otherwise(
    changes, tiny, eight, tiny_family
):
    with pytest.raises(RicError, match="but tiny is a fitted judge, whose own value"):
        start_judge(tiny_family / "scene_encoder", tiny(FitBlipConfig, eight, **changes))


def test_a_fitted_judge_goes_on_where_it_was(tiny, eight, follow, tmp_path):
    first = follow(fit_blip, tiny(FitBlipConfig, eight, epochs=1), tmp_path / "first")
    config = tiny(FitBlipConfig, eight, blip=str(first), epochs=1)
    before = parameters(first / "scene_encoder")
    judge = dict(start_judge(first / "scene_encoder", config).named_parameters())
    assert all(torch.equal(judge[name], before[name]) for name in before)
    second = follow(fit_blip, config, tmp_path / "second")
    assert json.loads((second / "run.json").read_text())["parents"] == ["../first"]

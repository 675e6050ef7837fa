"""Phase 1 reads CLIP's tokens from a cache: the same fit, with the backbone left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ric.cache_folders import cache_folder
from ric.config import FitClipConfig
from ric.distributed import Ranks
from ric.inputs.clip_tokens import cache_tokens
from ric.inputs.examples import Needs, load_examples
from ric.method.region_encoder import RegionEncoder
from ric.progress import Silent
from ric.recipes import fit_clip as module
from ric.recipes.fit_clip import embed, fit_clip
from ric.runs.open_run import open_run
from ric.training.contrastive import FitPhase
from ric.work import Work, open_work

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RIC_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def examples(tiny, edits, tmp_path):
    config = tiny(FitClipConfig, edits)
    with open_run("fit-clip", {}, runs_dir=tmp_path / "runs") as run:
        return load_examples(
            config, open_work(config, run), "train", Needs(64, region_text="region_text")
        )


@pytest.fixture
def judge(tiny_family):
    return RegionEncoder.from_clip(tiny_family / "clip")


def cached(judge, examples, dtype=torch.float32):
    work = Work(None, Silent(), Ranks(CPU), CPU, None)
    return cache_tokens(judge, examples, work, dtype=dtype, at_once=3)


def folders() -> set[str]:
    return {path.name for path in (cache_folder() / "tokens").iterdir()}


@pytest.mark.parametrize("gated", [True, False])
def test_from_the_cache_come_the_embeddings_of_the_whole_judge(gated, judge, examples):
    judge.gated = gated
    some = [examples[4], examples[0], examples[6]]
    with torch.no_grad():
        expected = embed(judge, some)
        found = cached(judge, examples).embed(judge, some)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_the_cache_is_kept_in_the_networks_precision_and_costs_no_backbone(judge, examples):
    cache = cached(judge, examples, torch.bfloat16)
    assert cache.visual.dtype == cache.text.dtype == torch.bfloat16
    assert cache.visual.shape == (8, 2, 64, judge.width)
    file = cache_folder() / "tokens" / folders().pop() / "visual"
    assert file.stat().st_size == 8 * 2 * 64 * judge.width * 2
    with FlopCounterMode(display=False) as counted, torch.autocast("cpu", torch.bfloat16):
        cache.embed(judge, examples)
    with FlopCounterMode(display=False) as fusion:
        judge.fuse(torch.zeros(8, 64, judge.width), torch.zeros(8, 64, judge.width))
    assert counted.get_total_flops() == fusion.get_total_flops()


def test_the_same_content_is_computed_once(judge, examples, monkeypatch):
    first = cached(judge, examples)
    monkeypatch.setattr(RegionEncoder, "tokens", lambda *given: pytest.fail("computed again"))
    again = cached(judge, examples)
    assert torch.equal(again.visual, first.visual)


def test_tokens_of_which_a_bit_has_flipped_are_computed_again(judge, examples):
    visual = cached(judge, examples).visual.clone()
    file = cache_folder() / "tokens" / folders().pop() / "visual"
    damaged = bytearray(file.read_bytes())
    damaged[1000] ^= 1
    file.unlink()  # what was mapped from it stays as it was
    file.write_bytes(damaged)
    assert torch.equal(cached(judge, examples).visual, visual)


@pytest.mark.parametrize("what", ["weights", "pixels", "box", "text", "dtype", "fusion"])
def test_other_content_is_computed_anew(what, judge, examples):
    cached(judge, examples)
    dtype = torch.float32
    if what == "weights":
        with torch.no_grad():
            next(judge.backbone_parameters()).view(-1)[0] += 1
    elif what == "pixels":
        examples[3] = replace(examples[3], target=255 - examples[3].target)
    elif what == "box":
        examples[3] = replace(examples[3], box=(0, 0, 9, 9))
    elif what == "text":
        examples[3] = replace(examples[3], region_text="another text")
    elif what == "dtype":
        dtype = torch.bfloat16
    else:
        judge.gated = False
    cached(judge, examples, dtype)
    assert len(folders()) == 2


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_cached_and_uncached_fits_have_the_same_losses_to_1e_6_for_50_steps(
    dtype, tiny, edits, follow, tmp_path, metrics_of, monkeypatch
):
    settings = {"batch_size": 4, "fusion_epochs": 25, "joint_epochs": 0, "measure_every": 99}
    config = tiny(FitClipConfig, edits, **settings, controls=False, dtype=dtype)
    from_cache = metrics_of(follow(fit_clip, config, tmp_path / "cached"))
    assert len(folders()) == 1
    # the same phase, but nothing prepared: the backbone stays in the loop
    monkeypatch.setattr(module, "FitPhase", lambda *given, **named: FitPhase(*given))
    in_the_loop = metrics_of(follow(fit_clip, config, tmp_path / "uncached"))
    losses = [[row["loss"] for row in rows[1:]] for rows in (from_cache, in_the_loop)]
    assert len(losses[0]) == 50
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert losses[0][-1] < losses[0][0]


def test_a_run_that_resumes_after_phase_1_needs_no_tokens(
    tiny, edits, follow, stop_after, tmp_path, monkeypatch
):
    from ric.interrupt import Interrupted

    config = tiny(FitClipConfig, edits, batch_size=4, fusion_epochs=1, joint_epochs=2)
    with pytest.raises(Interrupted):
        follow(fit_clip, config, tmp_path / "run", stop_after("fitting", 3))
    monkeypatch.setattr(module, "cache_tokens", lambda *given, **named: pytest.fail("encoded"))
    follow(fit_clip, config, tmp_path / "run")

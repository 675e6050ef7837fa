#!/usr/bin/env bash
# Trains the embedded family of --preset tiny with ric's own commands. Repeat it to continue where it
# was stopped. It takes about thirty hours of a CPU core; the model cards give the time of each part,
# and docs/family.md explains the recipe.
#
#   examples/make_tiny.sh [--stage STAGE] [WORK]
#
# STAGE is one of: data vae clip region scene captioner classifier prior editor text-to-image
# assemble all. Each needs the results of the earlier stages that it reads.
set -euo pipefail
stage=all
if [ "${1:-}" = --stage ]; then stage=$2; shift 2; fi
work=${1:-tiny-work}
runs=$work/runs
family=$work/family
test_scenes=scenes:4000@64#3
export RIC_RUNS_DIR=$runs
mkdir -p "$work"

wants() { [ "$stage" = all ] || [ "$stage" = "$1" ]; }

if wants data; then
    # seed 1 with shadows and mirror images, seed 2 without; streams of other seeds are drawn when
    # they are needed, and the published figures come from seed 3
    ric scenes "$work/scenes" --count 40000 --seed 1
    ric scenes "$work/plain" --count 40000 --seed 2 --no-shadows
    ric tiny begin "$work/begin"
fi
if wants vae; then
    ric tiny vae "$work/scenes" --base "$work/begin/vae" --steps 5000 --limit 20000 \
        --run "$runs/vae-1"
    sharpen() { ric tiny vae "$@" --optimizer muon --batch-size 32 --kl-weight 2e-5; }
    sharpen scenes:12000@64#1 --base "$runs/vae-1" --steps 900 --lr 1e-3 --run "$runs/vae-2"
    sharpen scenes:20000@64#12 --base "$runs/vae-2" --steps 3000 --lr 1.5e-3 --run "$runs/vae"
fi
if wants clip; then
    ric tiny clip "$work/scenes" --base "$work/begin/clip" --steps 2000 --limit 20000 \
        --run "$runs/clip"
fi
if wants region; then
    ric fit-clip "$work/scenes" --preset tiny --clip "$runs/clip/clip" --batch-size 64 \
        --fusion-epochs 1 --joint-epochs 5 --joint-lr 5e-4 --limit 20000 \
        --checkpoint-every 200 --run "$runs/region"
fi
if wants scene; then
    fit_scene() {
        ric fit-blip "$work/scenes" --preset tiny --blip "$1" --batch-size 64 \
            --checkpoint-every 200 --run "$2" "${@:3}"
    }
    fit_scene "$work/begin/blip" "$runs/scene-1" --epochs 3 --lr 1e-3 --limit 14000
    fit_scene "$runs/scene-1" "$runs/scene-2" --epochs 4 --lr 8e-4 --limit 20000
    # from here on a paragraph must also match the target better than its source
    fit_scene "$runs/scene-2" "$runs/scene-3" --epochs 4 --lr 5e-4 --limit 20000 --source-negatives
    fit_scene "$runs/scene-3" "$runs/scene-4" --epochs 3 --lr 1.5e-4 --limit 20000 --source-negatives
    fit_scene "$runs/scene-4" "$runs/scene-5" --epochs 2 --lr 1.5e-4 --source-negatives
    fit_scene "$runs/scene-5" "$runs/scene-6" --epochs 1 --lr 4e-4 --source-negatives
    fit_scene "$runs/scene-6" "$runs/scene-7" --epochs 1 --lr 5e-5 --source-negatives
    # in a small batch the source is a larger share of a paragraph's negatives
    fit_scene "$runs/scene-7" "$runs/scene-8" --epochs 3 --lr 3e-4 --source-negatives --batch-size 16
    fit_scene "$runs/scene-8" "$runs/scene-9" --epochs 1 --lr 1e-4 --source-negatives --batch-size 16
    fit_scene "$runs/scene-9" "$runs/scene" --epochs 1 --lr 3e-5 --source-negatives --batch-size 16
fi
if wants captioner; then
    train_captioner() { ric tiny captioner "$work/scenes" --measure-every 500 "$@"; }
    train_captioner --base "$work/begin/captioner" --vision "$runs/scene-2" --steps 4000 --lr 1.5e-3 \
        --run "$runs/captioner-1"
    train_captioner --base "$runs/captioner-1" --steps 8000 --lr 1.2e-3 --run "$runs/captioner-2"
    # up to here it names things well, but not in colours that they never have in train
    train_captioner --base "$runs/captioner-2" --steps 4000 --lr 1e-3 --colour-noise 0.8 \
        --run "$runs/captioner"
fi
if wants classifier; then
    ric tiny classifier "$work/scenes" --base "$work/begin/scene_classifier" --steps 9000 \
        --measure-every 1500 --run "$runs/classifier"
fi
if wants prior; then
    # an editor that has never seen shadows and mirror images: the start for studies of context
    ric tiny prior "$work/plain" --base "$work/begin/pipeline" --vae "$runs/vae" --steps 2000 \
        --lr 8e-4 --limit 20000 --run "$runs/prior"
    sha256sum "$runs/prior/pipeline/unet/diffusion_pytorch_model.safetensors"
fi
fresh_scenes() {
    ric tiny prior "$@" --block 4096 --passes 8 --batch-size 32 --optimizer muon --averages 3 \
        --measure-every 2000
}
learn_to_edit() { fresh_scenes "$@" --edit-weight 4 --context-weight 3; }
if wants editor; then
    # the rate falls only in the last run, so that runs can be added before it
    learn_to_edit scenes:90000@64#21 --base "$work/begin/pipeline" --vae "$runs/vae" --steps 12000 \
        --lr 1.5e-3 --constant-share 1 --noise-power 0.6 --run "$runs/editor-1"
    learn_to_edit scenes:90000@64#22 --base "$runs/editor-1" --steps 12000 --lr 1.5e-3 \
        --constant-share 1 --noise-power 0.7 --run "$runs/editor-2"
    learn_to_edit scenes:90000@64#23 --base "$runs/editor-2" --steps 12000 --lr 1.5e-3 \
        --constant-share 0.3 --run "$runs/editor"
fi
if wants text-to-image; then
    fresh_scenes scenes:90000@64#31 --base "$runs/editor" --text-to-image --steps 2000 --lr 1e-3 \
        --run "$runs/text-to-image"
fi
if wants assemble; then
    members=()
    for pair in clip=clip region_encoder=region scene_encoder=scene captioner=captioner \
        scene_classifier=classifier pipeline=editor text_to_image=text-to-image; do
        members+=(--member "${pair%%=*}=$runs/${pair#*=}")
    done
    ric tiny assemble "$family" "${members[@]}"
    export RIC_TINY_FAMILY=$family
    ric tiny score "$test_scenes" --limit 300 --run "$runs/score"
    ric edit "$test_scenes" --preset tiny --limit 300 --run "$runs/edit"
    ric eval "Ours=$runs/edit" --data "$test_scenes" --preset tiny --limit 300 --run "$runs/eval"
    ric tiny assemble "$family" "${members[@]}" \
        --family-scores "$runs/score/family_scores.json" \
        --editor-scores "$runs/eval/scores.json"
fi

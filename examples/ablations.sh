#!/usr/bin/env bash
# The study of the paper's claim: fine-tunes one base by Eq. 10 in many variants, scores their edits
# beside plain fine-tuning's, and ends with a table and a page. Repeat it to continue where it was
# stopped. All arms of a seed see the same samples, noise and timesteps. docs/method.md says what
# came out; on two cores three seeds of all arms take about ten hours.
#
#   examples/ablations.sh [WORK]
#
# The base has never seen a shadow: the embedded editor, trained on with scenes that have none. Every
# arm then sees scenes with shadows and mirror images, which make an edit's context.
#
# Settings, from the environment: SEEDS, ARMS, STEPS, RATE, BATCH, COUNT and SCORED (samples that are
# trained on and scored), PRIOR_STEPS, FIT_EPOCHS, BASE (a pipeline or a run, in place of that base).
set -euo pipefail
work=${1:-ablations}
seeds=${SEEDS:-0 1 2}
arms=${ARMS:-plain mean sum jacobian balanced clipped hinged hinged1 restored flattened augmented
    agreeing agreeing1 agreeing3 target target1 aware robust pasted best no-region no-scene no-fusion explicit
    chosen chosen-crop chosen-pasted}
export RIC_RUNS_DIR=$work
mkdir -p "$work"

scenes() { # draw $2 scenes by `ric scenes` with the rest, in folder $1, once
    local folder=$1 count=$2
    shift 2
    [[ -f $work/$folder/metadata.jsonl ]] || ric scenes "$work/$folder" --count "$count" --quiet "$@"
}

explicit() { # the scenes of folder $1, the shadows named in each instruction, in folder $2
    [[ -d $work/$2 ]] && return
    cp -r "$work/$1" "$work/$2.part"
    python - "$work/$2.part/metadata.jsonl" <<'PY'
import json, pathlib, re, sys

table = pathlib.Path(sys.argv[1])
rows = [json.loads(line) for line in table.read_text().splitlines()]
for row in rows:
    told = re.findall(r"(?:casts|mirrors?|reflect)[^.]*", row["scene_text"])
    row["instruction"] += "".join(f" Each thing {words}." for words in told)
table.write_text("".join(json.dumps(row) + "\n" for row in rows))
PY
    mv "$work/$2.part" "$work/$2"
}

flags_of() { # the flags of an arm
    local best="--balance 0.3 --hinge --augment-judged --flatten 0.05 --region-gradient box"
    case $1 in
    plain | explicit) echo --no-region-loss --no-global-loss ;;
    chosen*) ;; # plain's edits, each the best of four by judges
    mean) ;; # Eq. 10 with the noise term's mean
    sum) echo --noise-reduction sum ;; # as printed
    jacobian) echo --align-weight jacobian ;;
    balanced) echo --balance 0.3 ;;
    clipped) echo --clip-alignments 0.3 ;;
    hinged) echo --balance 0.3 --hinge ;;
    hinged1) echo --balance 1 --hinge ;;
    restored) echo --balance 0.3 --hinge --align-restore 0.5 --align-weight one-minus-alpha-bar ;;
    flattened) echo --balance 0.3 --hinge --flatten 0.05 ;;
    augmented) echo --balance 0.3 --hinge --augment-judged ;;
    agreeing) echo --balance 0.3 --align-agree ;;
    agreeing1) echo --balance 1 --align-agree ;;
    agreeing3) echo --balance 3 --align-agree ;;
    target) echo --balance 0.3 --align-to target ;;
    target1) echo --balance 1 --align-to target ;;
    robust) echo --balance 0.3 --hinge --region-clip "$work/region-robust" --scene-blip "$work/scene-robust" ;;
    pasted) echo --balance 0.3 --hinge --region-clip "$work/region-pasted" --scene-blip "$work/scene-pasted" ;;
    aware) echo --balance 0.3 --hinge --region-clip "$work/region-aware" --scene-blip "$work/scene-aware" ;;
    best) echo "$best" ;;
    no-region) echo --balance 0.3 --hinge --no-region-loss ;;
    no-scene) echo --balance 0.3 --hinge --no-global-loss ;;
    no-fusion) echo --balance 0.3 --hinge --no-gated-fusion --region-clip "$work/region-crop" ;;
    *) echo "ric: no arm $1" >&2; exit 1 ;;
    esac
}

edits() { # edit the test scenes of folder $3 with base or run $1, in run $2; the rest are flags
    local unet=$1 run=$2 folder=$3
    shift 3
    ric edit "$work/$folder" --preset tiny --limit "${SCORED:-300}" --unet "$unet" --run "$run" "$@"
}

score() { # score the edits of variant $1
    ric eval "$1=$work/$1-edits" --data "$work/test" --preset tiny --limit "${SCORED:-300}" \
        --run "$work/$1-scores"
    scored+=("$1=$work/$1-scores")
    pictures+=("$1=$work/$1-edits")
}

# --- scenes, base and judges ---------------------------------------------------------------------

count=${COUNT:-5000}
scenes train $((count * 5 / 4)) --seed 41
scenes test 4000 --seed 3
base=${BASE:-$work/base}
if [[ -z ${BASE:-} ]]; then
    scenes flat 8000 --seed 40 --no-shadows
    ric tiny prior "$work/flat" --base tiny --optimizer muon --lr 1e-3 --noise-power 0.7 \
        --edit-weight 4 --steps "${PRIOR_STEPS:-600}" --averages 2 --run "$base"
fi
judge=("$work/train" --preset tiny --limit "$count")
region=(--clip tiny --fusion-epochs "${FIT_EPOCHS:-4}" --joint-epochs "${FIT_EPOCHS:-4}" --no-controls)
ric fit-clip "${judge[@]}" "${region[@]}" --run "$work/region"
ric fit-clip "${judge[@]}" "${region[@]}" --no-gated-fusion --run "$work/region-crop"
ric fit-blip "${judge[@]}" --epochs "${FIT_EPOCHS:-4}" --run "$work/scene"
ric fit-clip "${judge[@]}" "${region[@]}" --flatten 0.1 --run "$work/region-robust"
ric fit-blip "${judge[@]}" --epochs "${FIT_EPOCHS:-4}" --flatten 0.1 --run "$work/scene-robust"
ric fit-clip "${judge[@]}" "${region[@]}" --pasted-negatives --run "$work/region-pasted"
ric fit-blip "${judge[@]}" --epochs "${FIT_EPOCHS:-4}" --pasted-negatives --run "$work/scene-pasted"
ric fit-clip "${judge[@]}" "${region[@]}" --blur-to-t 800 --base "$base" --run "$work/region-aware"
ric fit-blip "${judge[@]}" --epochs "${FIT_EPOCHS:-4}" --blur-to-t 800 --base "$base" --run "$work/scene-aware"

# --- the arms ------------------------------------------------------------------------------------

scored=() pictures=()
edits "$base" "$work/base-edits" test
score base
for seed in $seeds; do
    for arm in $arms; do
        run=$work/$arm-$seed train=train test=test
        if [[ $arm == chosen* ]]; then
            fits=("$work/region" "$work/scene")
            [[ $arm == chosen-crop ]] && fits=("$work/region-crop" "$work/scene")
            [[ $arm == chosen-pasted ]] && fits=("$work/region-pasted" "$work/scene-pasted")
            edits "$work/plain-$seed" "$run-edits" test --candidates 4 \
                --region-clip "${fits[0]}" --scene-blip "${fits[1]}"
            score "$arm-$seed"
            continue
        fi
        if [[ $arm == explicit ]]; then
            explicit train train-explicit
            explicit test test-explicit
            train=train-explicit test=test-explicit
        fi
        # shellcheck disable=SC2046
        ric train-unet "$work/$train" --preset tiny --base "$base" --limit "$count" \
            --steps "${STEPS:-400}" --lr "${RATE:-1e-4}" --batch-size "${BATCH:-8}" --seed "$seed" \
            --region-clip "$work/region" --scene-blip "$work/scene" \
            --show-every 0 --run "$run" $(flags_of "$arm")
        edits "$run" "$run-edits" "$test"
        score "$arm-$seed"
    done
done
python "$(dirname "$0")/../benchmarks/study.py" "${scored[@]}" --by-type "$work/test" | tee "$work/study.md"
ric eval "${pictures[@]}" --data "$work/test" --preset tiny --limit "${SCORED:-300}" --run "$work/scores"
ric report "$work/scores" --out "$work/page"

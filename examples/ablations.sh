#!/usr/bin/env bash
# The study of the paper's claim: fine-tunes one base by Eq. 10 in many variants, scores their edits
# beside plain fine-tuning's, and ends with a table and a page. Repeat it to continue where it was
# stopped. All arms of a seed see the same samples, noise and timesteps. docs/method.md says what
# came out; on two cores three seeds of all arms take about ten hours.
#
#   examples/ablations.sh [WORK]
#
# The base has unlearnt shadows: the embedded editor, trained on with scenes that have none. Every arm
# then sees scenes with shadows and mirror images, which make an edit's context.
#
# Settings, from the environment: SEEDS, ARMS, STEPS, RATE, BATCH, COUNT and SCORED (samples that are
# trained on and scored), PRIOR_STEPS, FIT_EPOCHS, BASE (a pipeline or a run, in place of that base).
set -euo pipefail
work=${1:-ablations}
seeds=${SEEDS:-0 1 2}
arms=${ARMS:-plain mean sum jacobian balanced clipped hinged hinged1 restored flattened augmented
    agreeing agreeing1 agreeing3 target target1 aware robust pasted attributes best no-region no-scene
    no-fusion explicit plain-zone best-zone medoid chosen chosen-crop chosen-robust
    chosen-pasted chosen8-pasted chosen-attributes chosen-both}
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
    robust | pasted | attributes | aware) echo --balance 0.3 --hinge ;; # by other judges
    no-fusion) echo --balance 0.3 --hinge --no-gated-fusion ;;
    best) echo "$best" ;;
    no-region) echo --balance 0.3 --hinge --no-region-loss ;;
    no-scene) echo --balance 0.3 --hinge --no-global-loss ;;
    *) echo "ric: no arm $1" >&2; exit 1 ;;
    esac
}

fit_judges() { # fit the judges of kind $1, unless they are there; set `judges` to their flags
    local region=$work/region$1 scene=$work/scene$1 flags=() epochs=${FIT_EPOCHS:-4}
    local of=("$work/train" --preset tiny --limit "$count")
    case $1 in
    -crop) flags=(--no-gated-fusion) scene=$work/scene ;;
    -robust) flags=(--flatten 0.1) ;;
    -pasted) flags=(--pasted-negatives) ;;
    -attributes) flags=(--attribute-negatives) ;;
    -both) flags=(--pasted-negatives --attribute-negatives) ;;
    -aware) flags=(--blur-to-t 800 --base "$base") ;;
    esac
    [[ -d $region/region_encoder ]] || ric fit-clip "${of[@]}" --clip tiny --no-controls \
        --fusion-epochs "$epochs" --joint-epochs "$epochs" "${flags[@]}" --run "$region"
    [[ $1 == -crop ]] && flags=()
    [[ -d $scene/scene_encoder ]] ||
        ric fit-blip "${of[@]}" --epochs "$epochs" "${flags[@]}" --run "$scene"
    judges=(--region-clip "$region" --scene-blip "$scene")
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

# --- scenes and base -----------------------------------------------------------------------------

count=${COUNT:-5000}
scenes train $((count * 5 / 4)) --seed 41
scenes test 4000 --seed 3
base=${BASE:-$work/base}
if [[ -z ${BASE:-} ]]; then
    scenes flat 8000 --seed 40 --no-shadows
    ric tiny prior "$work/flat" --base tiny --optimizer muon --lr 1e-3 --noise-power 0.7 \
        --edit-weight 4 --steps "${PRIOR_STEPS:-600}" --averages 2 --run "$base"
fi

# --- the arms ------------------------------------------------------------------------------------

scored=() pictures=()
edits "$base" "$work/base-edits" test
score base
for seed in $seeds; do
    for arm in $arms; do
        run=$work/$arm-$seed train=train test=test
        case $arm in
        no-fusion) fit_judges -crop ;;
        robust | pasted | attributes | aware) fit_judges "-$arm" ;;
        chosen-* | chosen8-*) fit_judges "-${arm#chosen*-}" ;;
        *) fit_judges "" ;;
        esac
        unet=$work/plain-$seed how=() # an arm that edits with another arm's UNet, and how
        case $arm in
        medoid) how=(--candidates 4 --choose-by medoid) ;; # the one most like the others
        chosen8-*) how=(--candidates 8 "${judges[@]}") ;;  # the best by judges
        chosen*) how=(--candidates 4 "${judges[@]}") ;;
        *-zone) unet=$work/${arm%-zone}-$seed how=(--editor zone) ;;
        esac
        if ((${#how[@]})); then
            edits "$unet" "$run-edits" test "${how[@]}"
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
            --show-every 0 --run "$run" "${judges[@]}" $(flags_of "$arm")
        edits "$run" "$run-edits" "$test"
        score "$arm-$seed"
    done
done
python "$(dirname "$0")/../benchmarks/study.py" "${scored[@]}" --by-type "$work/test" | tee "$work/study.md"
ric eval "${pictures[@]}" --data "$work/test" --preset tiny --limit "${SCORED:-300}" --run "$work/scores"
ric report "$work/scores" --out "$work/page"

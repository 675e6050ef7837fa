#!/usr/bin/env bash
# Fine-tunes one base by Eq. 10 in many variants and scores their edits beside one another. Repeat it
# to continue where it was stopped. All arms see the same samples, noise and timesteps.
#
#   examples/ablations.sh [WORK]
#
# Settings, from the environment: SEEDS, ARMS, STEPS, RATE, BATCH, TRAIN and TEST (DATA), COUNT and
# SCORED (samples of each), BASE (an embedded-family pipeline or a run).
set -euo pipefail
work=${1:-ablations}
seeds=${SEEDS:-0 1 2}
arms=${ARMS:-plain mean sum jacobian balanced hinged restored flattened augmented best no-region no-scene}
export RIC_RUNS_DIR=$work

flags_of() { # the flags of an arm
    case $1 in
    plain) echo --no-region-loss --no-global-loss ;;
    mean) ;; # Eq. 10 with the noise term's mean
    sum) echo --noise-reduction sum ;; # as printed
    jacobian) echo --align-weight jacobian ;;
    balanced) echo --balance 0.3 ;;
    hinged) echo --balance 0.3 --hinge ;;
    restored) echo --balance 0.3 --hinge --align-restore 0.5 --align-weight one-minus-alpha-bar ;;
    flattened) echo --balance 0.3 --hinge --flatten 0.05 ;;
    augmented) echo --balance 0.3 --hinge --augment-judged ;;
    best) echo --balance 0.3 --hinge --augment-judged --flatten 0.05 --region-gradient box ;;
    no-region) echo --balance 0.3 --hinge --no-region-loss ;;
    no-scene) echo --balance 0.3 --hinge --no-global-loss ;;
    *) echo "ric: no arm $1" >&2; exit 1 ;;
    esac
}

edits() { # edit the test scenes with base or run $1, in run $2
    ric edit "${TEST:-scenes:4000@64#3}" --preset tiny --limit "${SCORED:-100}" --unet "$1" --run "$2"
}

edits "${BASE:-tiny}" "$work/base-edits"
scored=("base=$work/base-edits")
for seed in $seeds; do
    for arm in $arms; do
        run=$work/$arm-$seed
        # shellcheck disable=SC2046
        ric train-unet "${TRAIN:-scenes:4000@64#41}" --preset tiny --base "${BASE:-tiny}" \
            --limit "${COUNT:-1000}" --steps "${STEPS:-300}" --lr "${RATE:-3e-5}" \
            --batch-size "${BATCH:-8}" --seed "$seed" --show-every 0 --run "$run" $(flags_of "$arm")
        edits "$run" "$run-edits"
        scored+=("$arm-$seed=$run-edits")
    done
done
ric eval "${scored[@]}" --data "${TEST:-scenes:4000@64#3}" --preset tiny --limit "${SCORED:-100}" \
    --run "$work/scores"

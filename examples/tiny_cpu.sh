#!/usr/bin/env bash
# The whole chain on your own folder of edits, in a minute on two CPU cores, without any download.
# The models are small and have only seen drawn scenes: on photos this shows that data and set-up
# work, not what edits look like.
#
#   examples/tiny_cpu.sh my-edits
set -euo pipefail
data=${1:?usage: examples/tiny_cpu.sh DATA}
common=(--preset tiny --split all)

ric describe "$data" --preset tiny
ric fit-clip "$data" "${common[@]}"
ric fit-blip "$data" "${common[@]}" --descriptions @describe
ric train-unet "$data" "${common[@]}" \
    --descriptions @describe --region-clip @fit-clip --scene-blip @fit-blip
ric edit "$data" "${common[@]}" --unet @train-unet --allow-overlap
ric eval Ours=@edit --data "$data" "${common[@]}" --allow-overlap

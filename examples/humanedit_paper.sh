#!/usr/bin/env bash
# The paper's experiment: HumanEdit, InstructPix2Pix, the paper's numbers. Needs a CUDA GPU, the
# 16 GB dataset and the weights of `ric weights ls`.
set -euo pipefail
data=${1:-BryanW/HumanEdit}

ric describe "$data" --describer dataset   # HumanEdit's own captions; --describer chat uses a model
ric fit-clip "$data"
ric fit-blip "$data" --descriptions @describe
ric train-unet "$data" --descriptions @describe --region-clip @fit-clip --scene-blip @fit-blip
ric edit "$data" --run runs/edit-before
ric edit "$data" --run runs/edit-ours --unet @train-unet
ric eval "InstructPix2Pix=runs/edit-before" "Ours=runs/edit-ours" --data "$data"

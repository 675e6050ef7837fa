#!/usr/bin/env bash
# The paper's Tables 1, 2 and 3: the stages of `ric reproduce humanedit`, one command each. Needs a
# CUDA GPU of 40 GB (a smaller one: add --memory GB to train-unet), the 16 GB data set and 25 GB of
# weights; `ric reproduce humanedit --dry-run` says more. Repeat it to continue where it stopped.
#
#   examples/humanedit_paper.sh [DATA] [WORK]
set -euo pipefail
data=${1:-BryanW/HumanEdit}
work=${2:-reproduce}

ric() { command ric "$@" || [ $? -eq 3 ]; } # 3: done, and some samples failed

ric describe "$data" --run "$work/describe"
ric fit-clip "$data" --no-controls --run "$work/fit-clip"
ric fit-clip "$data" --no-gated-fusion --run "$work/fit-clip-no-gate"
ric fit-blip "$data" "--descriptions=$work/describe" --run "$work/fit-blip"
ric train-unet "$data" "--descriptions=$work/describe" "--region-clip=$work/fit-clip" \
    "--scene-blip=$work/fit-blip" --keep-checkpoints=1 --run "$work/unet-ours-ip2p"
ric train-unet "$data" "--descriptions=$work/describe" "--region-clip=$work/fit-clip" \
    "--scene-blip=$work/fit-blip" --keep-checkpoints=1 --base=vinesmsuic/magicbrush-jul7 \
    --run "$work/unet-ours-mb"
ric train-unet "$data" --no-region-loss --no-global-loss --keep-checkpoints=1 \
    --run "$work/unet-plain-ip2p"
ric train-unet "$data" --no-region-loss --no-global-loss --keep-checkpoints=1 \
    --base=vinesmsuic/magicbrush-jul7 --run "$work/unet-plain-mb"
ric train-unet "$data" "--descriptions=$work/describe" "--region-clip=$work/fit-clip" \
    "--scene-blip=$work/fit-blip" --keep-checkpoints=1 --no-global-loss \
    --run "$work/unet-no-scene-loss"
ric train-unet "$data" "--descriptions=$work/describe" "--region-clip=$work/fit-clip" \
    "--scene-blip=$work/fit-blip" --keep-checkpoints=1 --no-region-loss \
    --run "$work/unet-no-region-loss"
ric train-unet "$data" "--descriptions=$work/describe" "--region-clip=$work/fit-clip-no-gate" \
    "--scene-blip=$work/fit-blip" --keep-checkpoints=1 --no-gated-fusion \
    --run "$work/unet-no-gated-fusion"
ric edit "$data" --editor=ip2p --run "$work/edit-ip2p"
ric edit "$data" --editor=ip2p "--unet=$work/unet-ours-ip2p" --run "$work/edit-ours-ip2p"
ric edit "$data" --editor=magicbrush --run "$work/edit-mb"
ric edit "$data" --editor=magicbrush "--unet=$work/unet-ours-mb" --run "$work/edit-ours-mb"
ric edit "$data" --editor=zone --run "$work/edit-zone"
ric edit "$data" --editor=zone "--unet=$work/unet-ours-ip2p" \
    "--unet-magicbrush=$work/unet-ours-mb" --run "$work/edit-ours-zone"
ric edit "$data" --editor=cds --run "$work/edit-cds"
ric edit "$data" --editor=ddpm-inversion --run "$work/edit-ddpm-inversion"
ric edit "$data" --editor=ip2p "--unet=$work/unet-plain-ip2p" --run "$work/edit-plain-ip2p"
ric edit "$data" --editor=magicbrush "--unet=$work/unet-plain-mb" --run "$work/edit-plain-mb"
ric edit "$data" --editor=ip2p "--unet=$work/unet-no-scene-loss" --run "$work/edit-no-scene-loss"
ric edit "$data" --editor=ip2p "--unet=$work/unet-no-region-loss" \
    --run "$work/edit-no-region-loss"
ric edit "$data" --editor=ip2p "--unet=$work/unet-no-gated-fusion" \
    --run "$work/edit-no-gated-fusion"
ric eval "InstructPix2Pix=$work/edit-ip2p" "Ours (on IP2P)=$work/edit-ours-ip2p" \
    "MagicBrush=$work/edit-mb" "Ours (on MB)=$work/edit-ours-mb" "ZONE=$work/edit-zone" \
    "Ours (on ZONE)=$work/edit-ours-zone" "CDS=$work/edit-cds" \
    "DDPM Inversion=$work/edit-ddpm-inversion" --data "$data" --layout=table-1 --protocol=paper \
    --partial --run "$work/table1"
ric eval "IP2P (without)=$work/edit-plain-ip2p" "IP2P (with)=$work/edit-ours-ip2p" \
    "MB (without)=$work/edit-plain-mb" "MB (with)=$work/edit-ours-mb" --data "$data" \
    --layout=table-2 --protocol=paper --partial --run "$work/table2"
ric eval "IP2P (without full desc loss)=$work/edit-no-scene-loss" \
    "IP2P (without region desc loss)=$work/edit-no-region-loss" \
    "IP2P (without gated fusion)=$work/edit-no-gated-fusion" \
    "IP2P (with proposed loss)=$work/edit-ours-ip2p" --data "$data" --layout=table-3 \
    --protocol=paper --partial --run "$work/table3"
ric report "$work/table1" "$work/table2" "$work/table3" --out "$work/report"

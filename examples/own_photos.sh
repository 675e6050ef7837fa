#!/usr/bin/env bash
# Make a dataset of your own photos and their edits, then check what ric reads from it.
#
#   photos/a.jpg  edited/a.png  texts.csv with columns: file,instruction,region_text,scene_text
set -euo pipefail
ric data my-edits --source photos --target edited --texts texts.csv
ric train-unet my-edits --preset tiny --split all --no-region-loss --no-global-loss --dry-run

#!/usr/bin/env bash
# Score the output of any editor; its files are named after the samples' ids.
#
#   examples/score_a_folder.sh out/ my-edits
set -euo pipefail
ric eval "Mine=${1:?usage: examples/score_a_folder.sh FOLDER DATA}" --data "${2:?DATA}" --split all

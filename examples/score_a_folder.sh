#!/usr/bin/env bash
# Score pictures that any editor made: files are named by the samples' ids.
#
#   examples/score_a_folder.sh out/ my-edits
set -euo pipefail
ric eval "Mine=${1:?usage: examples/score_a_folder.sh FOLDER DATA}" --data "${2:?DATA}" --split all

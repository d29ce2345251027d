#!/bin/sh
# The table of what a GPU must do, in one command: openaudio-s1-mini's size, bf16, random weights.
#
#     benchmarks/gpu.sh                          upstream eager and all rows of ours
#     benchmarks/gpu.sh --rows decode_1 --quick  arguments are those of `python -m benchmarks.gpu`
#     UPSTREAM=compiled ROWS=none benchmarks/gpu.sh   upstream's compile alone (four minutes)
#
# UPSTREAM        none, eager (the default), compiled or both: how fish-speech 0.1.0 is measured
# UPSTREAM_PYTHON an interpreter that can import fish_speech; else PYTHON
# UPSTREAM_FILES  results of earlier runs on the same kind of card, for the table's last columns
# ROWS=none       leaves ours out
# CHECKPOINT      folder of the random checkpoint, made if it is not there
# OUT             folder that gets gpu.json and upstream-*.json
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
CHECKPOINT=${CHECKPOINT:-${TMPDIR:-/tmp}/s1mini}
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
results=${OUT:-$(mktemp -d)}
files=${UPSTREAM_FILES:-}

upstream() { # <way> <option>: a failure is told, and ours goes on
    if TQDM_DISABLE=1 LOGURU_LEVEL=WARNING "${UPSTREAM_PYTHON:-$PYTHON}" -m benchmarks.upstream_gpu \
        "$2" --out "$results/upstream-$1.json"; then
        files="$files $results/upstream-$1.json"
    else
        echo "upstream $1 failed" >&2
    fi
}

case ${UPSTREAM:-eager} in eager | both) upstream eager --skip-compile ;; esac
case ${UPSTREAM:-eager} in compiled | both) upstream compiled --only-compile ;; esac
if [ "${ROWS:-}" != none ]; then
    [ -f "$CHECKPOINT/codec.safetensors" ] ||
        "$PYTHON" -m backend.bench.random_checkpoint "$CHECKPOINT" --dtype bf16
    # shellcheck disable=SC2086 # the files' names are words
    "$PYTHON" -m benchmarks.gpu --checkpoint "$CHECKPOINT" ${files:+--upstream $files} "$@"
fi

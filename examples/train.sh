#!/bin/sh
# A training as a shell script: it finds the square root of 2 by steps of its own size.
#
#     orch run --study root --metric error --epochs 8 --trials 10 \
#         --param 'rate={float=[0.01, 0.4]}' -- sh examples/train.sh {rate}

rate=$1
saved=$ORCH_CHECKPOINT_DIR/state
step=0 x=1
if [ -f "$saved" ]; then read -r step x <"$saved"; fi
while [ "$step" -lt 8 ]; do
    step=$((step + 1))
    x=$(echo "$x $rate" | awk '{ printf "%.12f", $1 - $2 * ($1 * $1 - 2) }')
    echo "$step $x" >"$saved.new"
    mv "$saved.new" "$saved" # before the line that reports the step
    echo "$step $x" | awk '{ e = $2 * $2 - 2; printf "{\"step\": %d, \"error\": %.12f}\n", $1, e < 0 ? -e : e }'
done

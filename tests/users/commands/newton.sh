#!/bin/sh
# A damped Newton iteration in a shell script.

saved=$ORCH_CHECKPOINT_DIR/state
step=0 x=9
[ -f "$saved" ] && read -r step x <"$saved"
while [ "$step" -lt 8 ]; do
    step=$((step + 1))
    x=$(awk -v x="$x" -v d="$ORCH_PARAM_DAMPING" 'BEGIN { printf "%.12f", x - d * (x * x - 2) / (2 * x) }')
    echo "$step $x" >"$saved.new"
    mv "$saved.new" "$saved"
    awk -v s="$step" -v x="$x" 'BEGIN { printf "{\"step\": %d, \"error\": %.12f}\n", s, (x * x - 2)^2 }'
    while [ "$step" = 2 ] && [ -e "$USERS_HOLD" ]; do sleep 0.05; done
done

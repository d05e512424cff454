# What the demos share, to be sourced by them: `root` is set, and so are
#   config  the training
#   data    the folder of drawn images
#   stamp   the file that tells this set of images from others
#   work    where checkpoints and results go
export MAMBA_MM_ENV=${MAMBA_MM_ENV:-$root/.venv}
python=$MAMBA_MM_ENV/bin/python

say() { printf '\n[demo] %s\n' "$*"; }

set_up() {
  "$root/tools/setup_env.sh"
  say "what is installed"
  "$python" -m mamba_mm
}

value_of() { # value_of EXPRESSION: of the config `c`
  "$python" -c "
import sys
from mmengine.config import Config
c = Config.fromfile(sys.argv[1])
print($1)" "$config" | tail -n 1
}

# Results of another config or of other data are not results of this demo.
forget_other_runs() {
  local key
  key=$(cat "$config" "$stamp" | sha256sum | cut -c1-16)
  if [ "$(cat "$work/key" 2>/dev/null || true)" = "$key" ]; then return; fi
  if [ -e "$work/key" ]; then
    say "the config or the data has changed: training anew"
    rm -rf "$work"/epoch_*.pth "$work/last_checkpoint" "$work/evaluation.txt" "$work/pictures"
  fi
  mkdir -p "$work"
  echo "$key" >"$work/key"
}

# Set `checkpoint`, to be made if it is not there. `last_checkpoint` is written after the
# checkpoint that it names, so that one is whole.
train() {
  local epochs
  epochs=$(value_of c.max_epochs)
  checkpoint=$work/epoch_$epochs.pth
  if grep -qs "/$(basename "$checkpoint")\$" "$work/last_checkpoint"; then
    say "2/4 training: done before"
  else
    say "2/4 training: $epochs epochs; the log says the time left as eta"
    "$python" "$root/tools/train.py" "$config" --work-dir "$work" --resume
  fi
}

# Keep the lines of the evaluation that match a pattern, and print them.
evaluate() { # evaluate PATTERN
  if [ ! -e "$work/evaluation.txt" ]; then
    say "3/4 evaluation on the held-out images"
    "$python" "$root/tools/test.py" "$config" "$checkpoint" --work-dir "$work" 2>&1 |
      tee "$work/evaluation.log"
    grep -E "$1" "$work/evaluation.log" | sed 's/^.*INFO - //' >"$work/evaluation.partial"
    mv "$work/evaluation.partial" "$work/evaluation.txt"
  fi
  say "3/4 evaluation: metrics on the held-out images"
  cat "$work/evaluation.txt"
}

draw() { # draw SCRIPT ARGUMENTS: a script that takes CONFIG CHECKPOINT FOLDER and the arguments
  local script=$1
  shift
  if [ ! -d "$work/pictures" ]; then
    say "4/4 pictures"
    rm -rf "$work/pictures.partial"
    "$python" "$root/tools/analysis_tools/$script" "$config" "$checkpoint" \
      "$work/pictures.partial" "$@"
    mv "$work/pictures.partial" "$work/pictures"
  fi
}

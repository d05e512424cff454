#!/usr/bin/env bash
# The demo, from nothing: environment, data, training, evaluation, pictures.
#
# Steps that are done are skipped, so an interrupted call can simply be repeated; an
# interrupted training goes on from its last checkpoint.
#
#   MAMBA_MM_ENV        the Python environment  (default: .venv in the checkout)
#   MAMBA_MM_DEMO_DATA  the drawn images        (default: data/shapes in the checkout)
#   MAMBA_MM_DEMO_WORK  checkpoints and results (default: work_dirs/demo in the checkout)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export MAMBA_MM_ENV=${MAMBA_MM_ENV:-$root/.venv}
export MAMBA_MM_DEMO_DATA=${MAMBA_MM_DEMO_DATA:-$root/data/shapes}
work=${MAMBA_MM_DEMO_WORK:-$root/work_dirs/demo}
config=$root/configs/mmdet/vmamba/rtmdet-ins_vmamba-nano_fpn_shapes.py
python=$MAMBA_MM_ENV/bin/python

say() { printf '\n[demo] %s\n' "$*"; }

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
  key=$(cat "$config" "$MAMBA_MM_DEMO_DATA/shapes.json" | sha256sum | cut -c1-16)
  if [ "$(cat "$work/key" 2>/dev/null || true)" = "$key" ]; then return; fi
  if [ -e "$work/key" ]; then
    say "the config or the data has changed: training anew"
    rm -rf "$work"/epoch_*.pth "$work/last_checkpoint" "$work/evaluation.txt" "$work/pictures"
  fi
  mkdir -p "$work"
  echo "$key" >"$work/key"
}

# `last_checkpoint` is written after the checkpoint it names, so that one is whole.
trained() { grep -qs "/$(basename "$checkpoint")\$" "$work/last_checkpoint"; }

"$root/tools/setup_env.sh"

say "what is installed"
"$python" -m mamba_mm

say "1/4 data: $MAMBA_MM_DEMO_DATA"
"$python" "$root/tools/dataset_converters/make_shapes_coco.py" "$MAMBA_MM_DEMO_DATA"
forget_other_runs

epochs=$(value_of c.max_epochs)
checkpoint=$work/epoch_$epochs.pth
if trained; then
  say "2/4 training: done before"
else
  say "2/4 training: $epochs epochs; MMDetection's log says the time left as eta"
  "$python" "$root/tools/train.py" "$config" --work-dir "$work" --resume
fi

if [ ! -e "$work/evaluation.txt" ]; then
  say "3/4 evaluation on the held-out images"
  "$python" "$root/tools/test.py" "$config" "$checkpoint" --work-dir "$work" 2>&1 |
    tee "$work/evaluation.log"
  grep -E 'Average (Precision|Recall)|Evaluating (bbox|segm)' "$work/evaluation.log" \
    >"$work/evaluation.partial"
  mv "$work/evaluation.partial" "$work/evaluation.txt"
fi
say "3/4 evaluation: CocoMetric on the held-out images"
sed 's/^.*INFO - //' "$work/evaluation.txt"

if [ ! -d "$work/pictures" ]; then
  say "4/4 pictures"
  rm -rf "$work/pictures.partial"
  "$python" "$root/tools/analysis_tools/draw_detections.py" "$config" "$checkpoint" \
    "$work/pictures.partial" --images 12 --score-thr 0.35
  mv "$work/pictures.partial" "$work/pictures"
fi

cat <<END

[demo] done
  images drawn   $MAMBA_MM_DEMO_DATA
  checkpoint     $checkpoint
  AP             $work/evaluation.txt
  pictures       $work/pictures: ground truth left, detections right

  To go on to COCO: put its images and annotations under data/coco, then

    $python tools/train.py configs/mmdet/vmamba/mask-rcnn_vmamba-t_fpn_1x_coco.py

  All flags of MMDetection's own tools/train.py work: --resume, --amp, --cfg-options ...
END

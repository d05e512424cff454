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
export MAMBA_MM_DEMO_DATA=${MAMBA_MM_DEMO_DATA:-$root/data/shapes}
data=$MAMBA_MM_DEMO_DATA
stamp=$data/shapes.json
work=${MAMBA_MM_DEMO_WORK:-$root/work_dirs/demo}
config=$root/configs/mmdet/vmamba/rtmdet-ins_vmamba-nano_fpn_shapes.py
. "$root/tools/demo_steps.sh"

set_up

say "1/4 data: $data"
"$python" "$root/tools/dataset_converters/make_shapes_coco.py" "$data"
forget_other_runs

train
evaluate 'Average (Precision|Recall)|Evaluating (bbox|segm)'
draw draw_detections.py --images 12 --score-thr 0.35

cat <<END

[demo] done
  images drawn   $data
  checkpoint     $checkpoint
  AP             $work/evaluation.txt
  pictures       $work/pictures: ground truth left, detections right

  To go on to COCO: put its images and annotations under data/coco, then

    $python tools/train.py configs/mmdet/vmamba/mask-rcnn_vmamba-t_fpn_1x_coco.py

  All flags of MMDetection's own tools/train.py work: --resume, --amp, --cfg-options ...
END

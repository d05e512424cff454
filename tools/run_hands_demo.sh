#!/usr/bin/env bash
# The hand demo, from nothing: a small Hamba learns hand meshes from drawn hands.
#
# Environment, data, training through MMPose's own tools/train.py, evaluation beside the
# prediction of the mean pose, pictures and meshes. No MANO file is needed: the hands are those
# of ToyMANO. Steps that are done are skipped, so an interrupted call can simply be repeated; an
# interrupted training goes on from its last checkpoint.
#
#   MAMBA_MM_ENV         the Python environment  (default: .venv in the checkout)
#   MAMBA_MM_HANDS_DATA  the drawn hands         (default: data/toy_hands in the checkout)
#   MAMBA_MM_HANDS_WORK  checkpoints and results (default: work_dirs/hands in the checkout)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export MAMBA_MM_HANDS_DATA=${MAMBA_MM_HANDS_DATA:-$root/data/toy_hands}
data=$MAMBA_MM_HANDS_DATA
stamp=$data/toy_hands.json
work=${MAMBA_MM_HANDS_WORK:-$root/work_dirs/hands}
config=$root/configs/mmpose/hamba/hamba_vmamba-nano_toy-hands-128x96.py
. "$root/tools/demo_steps.sh"

set_up

say "1/4 data: $data"
"$python" "$root/tools/dataset_converters/make_toy_hands.py" "$data" \
  --train-images 4000 --image-size 128 --orientation-spread 30
forget_other_runs

train
evaluate 'mesh/PA-MPJPE'
say "beside them: one mesh predicted for all"
"$python" "$root/tools/analysis_tools/mean_pose_errors.py" "$config" \
  --evaluation "$work/evaluation.txt"
draw draw_hand_meshes.py --images 12 --obj

cat <<END

[demo] done
  hands drawn    $data
  checkpoint     $checkpoint
  errors in mm   $work/evaluation.txt
  pictures       $work/pictures: ground truth above, prediction below; and meshes as .obj

  To go on to FreiHAND: see configs/mmpose/hamba/README.md.
END

#!/bin/bash
# Label a layer on several nodes: sbatch slurm.sh
# Ray starts a worker on seven GPUs of each node; an Ollama server has the eighth. A requeued job resumes the run.
#SBATCH --job-name=line
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -eu

# Only the first node opens the store: SQLite must not be on a network file system that lacks locks.
STORE=${STORE:-$HOME/line-runs}
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
test -s ~/.ray/auth_token || ray get-auth-token --generate > /dev/null

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=$(echo "$nodes" | head -n 1)

# Ollama has no authentication: use it within the cluster's own network alone.
srun --overlap --ntasks-per-node=1 --output=ollama-%N.log \
  env CUDA_VISIBLE_DEVICES=7 OLLAMA_HOST=0.0.0.0:11434 OLLAMA_NUM_PARALLEL=8 ollama serve &
OLLAMA=$(echo "$nodes" | sed 's|.*|http://&:11434|' | paste -sd,)

if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then
  line="line resume"
else
  line="line batch torchvision:resnet50 avgpool --units all"
fi
srun --overlap --ntasks-per-node=1 --kill-on-bad-exit=0 \
  env CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6 \
  ray symmetric-run --address "$head:$((20000 + SLURM_JOB_ID % 20000))" --min-nodes "$SLURM_NNODES" --num-gpus=7 -- \
  $line --ray auto --ollama "$OLLAMA" --llm-parallel 32 --store "$STORE"

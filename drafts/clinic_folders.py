"""Run folders of every kind: folders.py BASE SEED [SEED ...] -> scratch/clinic_runs/BASE/KIND-SEED. One process; skips what is there."""
import sys, time, torch
from pathlib import Path
torch.set_num_threads(1)
from labsupport.core import upstream
upstream.keep_freed_memory()
from labsupport.clinic import kinds, making
base, seeds = sys.argv[1], [int(s) for s in sys.argv[2:]]
for seed in seeds:
    for kind, task in [*((k, None) for k in kinds.KINDS), ("healthy", "tickets"), ("healthy", "facts")]:
        case = kinds.case(kind, seed, base, task)
        if task and case == kinds.case(kind, seed, base):
            continue
        folder = Path("scratch/clinic_runs") / base / (f"{kind}-{seed}" + (f"-{task}" if task else ""))
        if folder.exists():
            continue
        t, c = time.time(), time.process_time()
        making.make(kind, seed, folder, base, task)
        print(folder.name, "wall", round(time.time() - t), "cpu", round(time.process_time() - c), flush=True)

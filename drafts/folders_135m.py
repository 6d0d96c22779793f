"""folders_135m.py SEED kinds... : healthy once; kinds that differ in the evaluation alone reuse its training."""
import sys, time, json, shutil, tempfile, torch
from pathlib import Path
torch.set_num_threads(1)
from labsupport.core import upstream
upstream.keep_freed_memory()
from labsupport.models import base_model
from labsupport.broken_runs import kinds, making, case_rows
def load(base):
    name = making.BASES.get(base, base)
    model, tokenizer = base_model.load(name, dtype="bfloat16", device="cpu")
    model.name_or_path = model.config._name_or_path = name
    return model, tokenizer
making.load = load
seed, names = int(sys.argv[1]), sys.argv[2:]
B = kinds.BUNDLED
root = Path("scratch/clinic_runs/135m"); root.mkdir(parents=True, exist_ok=True)
ONLY = ("adapter-inactive", "padding-side", "eval-template")
for name in names:
    kind, _, task = name.partition("/")
    folder = root / (f"{kind}-{seed}" + (f"-{task}" if task else ""))
    if folder.exists(): continue
    t, c = time.time(), time.process_time()
    case = kinds.case(kind, seed, B, task or None)
    if kind in ONLY:
        src = root / f"healthy-{seed}"
        rows = case_rows.evaluation(case)
        written, fig = making.evaluate(case, src, rows)
        tmp = root / "unfinished"; shutil.rmtree(tmp, ignore_errors=True); shutil.copytree(src, tmp)
        making.write_lines(tmp / "replies.jsonl", [{"id": r["id"], "reply": x} for r, (x, _) in zip(rows, written)])
        tmp.rename(folder)
    else:
        making.make(kind, seed, folder, B, task or None)
    print(folder.name, {k: v for k, v in case.items() if k in ("rows","epochs","batch","learning_rate","rank")}, "wall", round(time.time()-t), "cpu", round(time.process_time()-c), flush=True)

import sys, os, json, time
from labsupport.evaluation import experiments as ex
from labsupport.core import files
from labsupport.core.files import write_atomically
for name in sys.argv[1:]:
    experiment = ex.find(name); folder = files.RUNS/"experiments"/name; folder.mkdir(parents=True, exist_ok=True)
    code = ex.code_of(experiment)
    for cell in experiment.CELLS:
        file = ex.cell_file(folder, cell); known = ex.read(file)
        if known and ex.is_current(known, experiment): continue
        lock = file.with_suffix(".lock")
        try: os.close(os.open(lock, os.O_CREAT|os.O_EXCL))
        except FileExistsError: continue
        t=time.time(); print("start", name, cell, flush=True)
        try:
            record = {"cell": cell, "metrics": experiment.run(cell), "stamp": ex.stamp(), "code": code}
            write_atomically(file, json.dumps(record, indent=1))
            print("done", name, cell, round(time.time()-t), flush=True)
        except Exception as e:
            import traceback; traceback.print_exc(); print("FAILED", cell, flush=True)
        finally:
            lock.unlink()

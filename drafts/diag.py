"""diag.py FOLDER...: first cause beside the kind of the folder's name"""
import sys,time,torch
from pathlib import Path
torch.set_num_threads(1)
from labsupport.diagnosis import verdict
from labsupport.run_folders.run_folder import opened
ok=n=0
for f in sys.argv[1:]:
    name=Path(f).name; kind=name.rsplit("-",1)[0] if not name.endswith(("tickets","facts")) else name.rsplit("-",2)[0]
    t=time.time()
    try: d=verdict.diagnosed(opened(f))
    except Exception as e: print(name,"ERROR",repr(e)[:300]); n+=1; continue
    got=[(x.cause.id,x.strength) for x in d.found]
    first=got[0][0] if got else "healthy"
    good=first==kind; ok+=good; n+=1
    print("OK " if good else "BAD",name,got,"follow",[x.cause.id for x,_ in d.following],round(time.time()-t),"s",flush=True)
    for x in d.found:
        for s in x.signs: print("      ",x.cause.id,s.strength,s.text[:260],flush=True)
    if not good: print("      notes",d.run.notes)
print(ok,"of",n)

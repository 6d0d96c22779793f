import sys,importlib
from pathlib import Path
from labsupport.diagnosis import verdict
from labsupport.diagnosis.run_folder import opened
from labsupport.diagnosis.adapter_size import size_of
from labsupport.diagnosis.loss_curve import curve_of
for f in sys.argv[1:]:
    if not (Path(f)/"trainer_state.json").exists(): continue
    try: r=opened(f)
    except Exception as e: print(f,"ERR",e); continue
    signs=[]
    for s in ("weight","log","token","data","capacity"):
        signs+=importlib.import_module(f"labsupport.diagnosis.{s}_signs").signs(r)
    d=verdict.weighed(r,signs)
    s,c=size_of(r),curve_of(r)
    print(f.split("/")[-1],[(x.cause.id,x.strength) for x in d.found],"| rel",s and (round(s.relative,5),s.measured,s.parameters),"fall",c and (round(c.begin,2),round(c.end,3),round(c.fall,2)),"bend",c and c.bend,"eval",[round(l["eval_loss"],2) for l in r.eval_log],flush=True)
    for x in signs: print("    ",x.cause,x.strength,x.text[:230])

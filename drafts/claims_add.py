import re,sys,json
rows=[
("H6","LoRA overfits severely after one epoch, with no improvement past 1.5 epochs; in full fine-tuning several epochs can help",["000"],"not reproduced here",{"verify":"evaluation","experiment":"forgetting"}),
("I3","Catastrophic forgetting: high risk with full fine-tuning, minimal risk with LoRA",["002"],"imprecise",{"verify":"evaluation","experiment":"forgetting"}),
("M1","An evaluation set of fewer than 200 examples cannot detect meaningful regressions",["001"],"imprecise",{"verify":"evaluation","cell":"claim-M1"}),
("M2","A slice of 50 to 100 questions of a benchmark shows a drop such as 71 to 58 %",["001"],"imprecise",{"verify":"evaluation","cell":"claim-M2"}),
("M3","Stop when the validation loss has not decreased for 2 consecutive epochs",["001"],"imprecise",{"verify":"evaluation","experiment":"forgetting","cell":"claim-M3"}),
("M12","Of one fine-tune: task accuracy 91, 93 and 94 % after epochs 3, 5 and 8, and a benchmark down from 71 to 58 %",["001"],"not reproduced here",{"verify":"evaluation","experiment":"forgetting","cell":"claim-M12"}),
("M15","10 to 20 % general examples in the training set prevent forgetting",["001"],"imprecise",{"verify":"evaluation","experiment":"replay"}),
("J5","Merge before evaluation: adapter and merged weights give subtly different results",["000"],"imprecise",{"verify":"evaluation","experiment":"evaluation_conditions"}),
("M13","Fine-tuning reduces format failures and does not eliminate them; for guaranteed structure constrained decoding is more robust",["001"],"holds",{"verify":"evaluation","experiment":"evaluation_conditions"}),
("M11","Where training and evaluation rows come from one process, the evaluation does not catch the errors of that process",["001"],"holds",{"verify":"evaluation","experiment":"one_process","cell":"claim-M11"}),
]
from labsupport.ledger.recorded import evaluation as ev
fn={getattr(f,"claim",None):f for f in vars(ev).values() if callable(f)}
p="data/claims.yaml"; s=open(p).read()
head,*blocks=re.split(r'(?m)^(?=- id: )',s)
have={re.match(r'- id: (\S+)',b).group(1):i for i,b in enumerate(blocks)}
def key(i):
    m=re.match(r'([A-Z])(\d+)([a-z]?)',i); return (m[1],int(m[2]),m[3])
blocks=[b if b.endswith("\n") else b+"\n" for b in blocks]
for i,claim,guides,verdict,ev_ in rows:
    if sys.argv[1:] and i not in sys.argv[1:]: continue
    measured=fn[i]()
    e=", ".join(f'{k}: {v}' if k=="verify" else f'{k}: "{v}"' for k,v in ev_.items())
    g=", ".join(f'"{x}"' for x in guides)
    blk=f'- id: {i}\n  claim: {json.dumps(claim,ensure_ascii=False)}\n  guides: [{g}]\n  notebook: "07"\n  verdict: {verdict}\n  evidence: {{{e}}}\n  measured: {json.dumps(measured,ensure_ascii=False)}\n'
    blocks=[b for b in blocks if not b.startswith(f"- id: {i}\n")]+[blk]
    print(i,measured)
blocks.sort(key=lambda b:key(re.match(r'- id: (\S+)',b).group(1)))
open(p,"w").write(head+"".join(blocks))

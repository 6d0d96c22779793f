"""healthy runs as other people make them: tiny_base, facts, other styles"""
import sys, json, torch, time
from pathlib import Path
torch.set_num_threads(1)
from datasets import Dataset
from peft import LoraConfig
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer
from labsupport.core import upstream; upstream.keep_freed_memory(); upstream.quiet_known_noise()
from labsupport.broken_runs import kinds, making, case_rows, asking
from labsupport.diagnosis import verdict
from labsupport.run_folders.run_folder import opened
ROOT=Path("scratch/clinic_runs/elsewhere"); ROOT.mkdir(parents=True,exist_ok=True)
def msgs(r): return {"id":r["id"],"messages":r["prompt"]+r["completion"]}
STY={"pc":{}, "messages":{"rows":msgs}, "dora":{"lora":{"use_dora":True}}, "rslora":{"lora":{"use_rslora":True,"lora_alpha":16}},
     "full":{"full":True,"lr":5e-4}, "packed":{"args":{"packing":True,"max_length":256}}, "noreplies":{"replies":False,"eval":False}, "bigbatch":{"args":{"gradient_accumulation_steps":2}}, "text":{"text":True}}
for name in sys.argv[1:] or STY:
    st=STY[name]; t=time.time()
    case=kinds.case("healthy",300+list(STY).index(name))
    model,tok=making.load(kinds.TINY)
    rows,asked=case_rows.training(case),case_rows.evaluation(case)
    if st.get("rows"): rows=[st["rows"](r) for r in rows]; asked_in=[st["rows"](r) for r in asked]
    else: asked_in=asked
    if st.get("text"): rows=[{"id":r["id"],"text":tok.apply_chat_template(r["prompt"]+r["completion"],tokenize=False)} for r in rows]; asked_in=asked
    args=dict(learning_rate=st.get("lr",case["learning_rate"]),num_train_epochs=case["epochs"],per_device_train_batch_size=case["batch"],logging_steps=5,save_strategy="no",use_cpu=True,bf16=False,report_to="none",disable_tqdm=True,activation_checkpointing=False,seed=case["seed"],output_dir=str(ROOT/name))|st.get("args",{})
    torch.manual_seed(case["seed"])
    lora=None if st.get("full") else LoraConfig(**({"r":16,"lora_alpha":32,"target_modules":"all-linear","task_type":"CAUSAL_LM"}|st.get("lora",{})))
    tr=SFTTrainer(model=model,args=SFTConfig(**args),train_dataset=Dataset.from_list(rows),processing_class=tok,peft_config=lora)
    tr.remove_callback(PrinterCallback); tr.train(); f=ROOT/name; tr.save_model(str(f)); tr.save_state()
    making.write_lines(f/"train.jsonl",rows)
    m=tr.model.eval(); w=asking.replies(m,tok,asked,"template",8,"left")
    right=sum(x==asking.expected(r) for r,(x,_) in zip(asked,w))/len(asked)
    if st.get("eval",True): making.write_lines(f/"eval.jsonl",asked_in)
    if st.get("replies",True): making.write_lines(f/"replies.jsonl",[{"id":r["id"],"reply":x} for r,(x,_) in zip(asked,w)])
    try:
        d=verdict.diagnosed(opened(f)); print(name,"exact",round(right,2),[(x.cause.id,x.strength,x.signs[0].text[:200]) for x in d.found],[n[:160] for n in d.run.notes],round(time.time()-t),flush=True)
    except Exception as e: print(name,"exact",right,"ERR",repr(e)[:300],flush=True)

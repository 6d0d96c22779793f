import json, sys, urllib.request, time
import xllamacpp as x
path=sys.argv[1]; job=json.load(open(sys.argv[2]))
p=x.CommonParams(); p.model.path=path; p.n_ctx=512; p.n_parallel=1; p.warmup=False; p.verbosity=-1; p.use_jinja=True
p.cache_type_k=x.ggml_type.GGML_TYPE_F32; p.cache_type_v=x.ggml_type.GGML_TYPE_F32; p.cpuparams.n_threads=1; p.cpuparams_batch.n_threads=1
p.hostnames=["127.0.0.1"] if False else p.hostnames
s=x.Server(p); print(s.listening_address, x.__version__, x.BUILD_INFO, file=sys.stderr)
def ask(route, body):
    r=urllib.request.Request(s.listening_address+route, json.dumps(body).encode(), {"Content-Type":"application/json"})
    return json.load(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(r,timeout=60))
out=[]
for one in job:
    prompt=ask("/apply-template",{"messages":one["messages"]})["prompt"]
    ids=ask("/tokenize",{"content":prompt,"add_special":True,"parse_special":True})["tokens"]
    r=ask("/completion",{"prompt":one["ids"],"n_predict":16,"temperature":0,"top_k":1,"cache_prompt":False,"return_tokens":True,"samplers":["top_k"]})
    out.append({"prompt":prompt,"ids":ids,"reply":r["tokens"],"text":r["content"]})
print(json.dumps(out))

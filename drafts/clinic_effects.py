"""calibration: one process; args: seed then kinds"""
import sys,time,json,torch
from pathlib import Path
torch.set_num_threads(1)
from labsupport.core import upstream; upstream.keep_freed_memory()
from labsupport.clinic import making, kinds, case_rows
ROOT=Path('scratch/clinic_runs/tiny_base')
SAME=("adapter-inactive","padding-side","eval-dtype","eval-template")
def short(o): return ' '.join(f'{k} {o[k]}' for k in ('parts','exact','valid','ended','loss'))
def report(kind,seed,c,f):
    st=json.load(open(f/'trainer_state.json'))['log_history']
    ls=[e['loss'] for e in st if 'loss' in e]; ev=[round(e['eval_loss'],3) for e in st if 'eval_loss' in e]
    gn=[e['grad_norm'] for e in st if 'grad_norm' in e]
    print(f'{kind}-{seed}', c['task'],'rows',c['rows'],'ep',c['epochs'],'b',c['batch'],'steps',c['steps'],'lr',c['learning_rate'],'r',c['rank'],c['schedule'],'ckpt',c['checkpointing'],{k:v for k,v in c.items() if k in kinds.SOUND and v!=kinds.SOUND[k]})
    print('   train',[round(x,3) for x in ls[:2]],[round(x,3) for x in ls[-3:]],f'n={len(ls)} eval',ev,'gn',round(gn[0],2),round(gn[-1],2))
def evals(c,f,n=40):
    for name,rows in (('eval',case_rows.evaluation(c)),('prod',case_rows.other(c,'test_production',32)),('train',case_rows.training(c)[:24])):
        w,o=making.evaluate(c,f,rows); print('     ',name,short(o))
        if name=='eval': ex=[w[i][0][:100] for i in (0,1)]
    print('       ',ex,flush=True)
for spec in sys.argv[1:]:
    kind,seed=spec.rsplit('-',1); seed=int(seed); task=None; name=spec
    if kind=='facts': kind,task='healthy','facts'
    t,c0=time.time(),time.process_time()
    f=ROOT/name
    if (f/'trainer_state.json').exists(): c=kinds.case(kind,seed,task=task)
    else: c=making.make(kind,seed,f,task=task)
    report(kind,seed,c,f); print('   wall',round(time.time()-t),'cpu',round(time.process_time()-c0))
    evals(c,f)
    if kind=='healthy':
        for k in SAME:
            c2=kinds.case(k,seed,task=c['task']); rows=case_rows.evaluation(c2)
            w,o=making.evaluate(c2,f,rows); print('   ',k,{x:v for x,v in c2.items() if c[x]!=v},short(o),[w[i][0][:80] for i in (0,1)],flush=True)

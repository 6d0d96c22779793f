import sys,textwrap,re
p=sys.argv[1]; lines=open(p).read().split("\n"); out=[]; md=False; i=0
def flush(par,prefix,cont):
    if not par: return
    if all(len(x)<=110 for x in par): out.extend(par); return
    first=re.match(r'^(# (?:> )?(?:- |\d\. )?)',par[0]).group(1)
    text=" ".join(x[len(prefix):].strip() if k else x[len(first):].strip() for k,x in enumerate(par))
    sub=prefix+" "*(len(first)-len(prefix))
    # keep math and links unbroken only by spaces
    out.extend(textwrap.wrap(text,108,initial_indent=first,subsequent_indent=sub,break_long_words=False,break_on_hyphens=False))
par=[];prefix="# "
for l in lines:
    if l.startswith("# %%"):
        flush(par,prefix,None); par=[]; md="[markdown]" in l; out.append(l); continue
    if not md or not l.startswith("#"):
        flush(par,prefix,None); par=[]; out.append(l); continue
    pre="# > " if l.startswith("# >") and l!="# >" else "# "
    body=l[len(pre):]
    if l in("#","# >") or body.startswith(("#","$$","|","    ","![")) and not body.startswith("!["):
        flush(par,prefix,None); par=[]; out.append(l); continue
    if re.match(r'(- |\d\. )',body) or (par and pre!=prefix):
        flush(par,prefix,None); par=[]
    if not par: prefix=pre
    par.append(l)
flush(par,prefix,None)
open(p,"w").write("\n".join(out))

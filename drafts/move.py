import re, pathlib, sys, json
root=pathlib.Path(".")
def move(mapping):  # "old.module": "new.module" under labsupport
    for old,new in mapping.items():
        a=root/"labsupport"/(old.replace(".","/")+".py"); b=root/"labsupport"/(new.replace(".","/")+".py")
        b.parent.mkdir(exist_ok=True)
        a.rename(b)
    files=[p for d in ("labsupport","tests","solutions") for p in (root/d).rglob("*.py") if "old_layout" not in str(p)]
    for p in files:
        s=t=p.read_text()
        # from labsupport.room import a, b as c
        def repl(m):
            ind,room,body=m.group(1),m.group(2),m.group(3)
            names=[n.strip() for n in body.strip("()").replace("\n"," ").split(",") if n.strip()]
            groups={}
            for n in names:
                mod=n.split(" as ")[0]
                target=mapping.get(f"{room}.{mod}")
                groups.setdefault(target.rsplit(".",1)[0] if target else room,[]).append(n)
            if list(groups)==[room]: return m.group(0)
            return "\n".join(f"{ind}from labsupport.{r} import {', '.join(ns)}" for r,ns in groups.items())
        t=re.sub(r"^([ \t]*)from labsupport\.([\w.]+) import (\([^)]*\)|[^\n(]+)", repl, t, flags=re.M)
        for old,new in mapping.items():
            t=re.sub(rf"\blabsupport\.{re.escape(old)}\b", f"labsupport.{new}", t)
            t=t.replace("labsupport/"+old.replace(".","/")+".py","labsupport/"+new.replace(".","/")+".py")
        if t!=s: p.write_text(t); print("changed",p.relative_to(root))
if __name__=="__main__":
    move(json.loads(sys.argv[1]))

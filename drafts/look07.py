import sys, shutil, tempfile
from pathlib import Path
sys.path.insert(0,"./tests")
import browser_lab, browser_server
from playwright.sync_api import sync_playwright
import nbformat
folder=Path(tempfile.mkdtemp(prefix="lab07"))
with sync_playwright() as p:
    browser=p.chromium.launch(executable_path=shutil.which("chromium"),args=browser_lab.BROWSER_OPTIONS)
    with browser_server.serve(folder) as lab:
        f=folder/"my_work"/"07_evaluation.ipynb"
        nb=nbformat.read(f,4)
        for c in nb.cells:
            if "clinic.case(1).probe" in c.source: c.source=c.source.replace("# clinic","clinic")
            elif '# clinic.case(1).name("...")' in c.source: c.source='clinic.case(1).name("lr-too-low")'
            elif c.source.startswith("guess = None"): c.source=c.source.replace("None","20")
        i=next(i for i,c in enumerate(nb.cells) if c.source.startswith("clinic.bill"))
        nb.cells[i+1:i+1]=[nbformat.v4.new_code_cell(s) for s in ('clinic.case(1).name("lr-too-high")','clinic.case(8).probe("training_format")','clinic.case(2)','clinic.case(2).probe("clean_labels")','clinic.case(14).probe("copies")','clinic.bill()','clinic.leaderboard("Ana")')]
        nbformat.write(nb,f)
        with browser_lab.opened(browser,lab,"my_work/07_evaluation.ipynb") as n:
            n.run_all(); n.expect_no_error()
            print("cut off 1280:",n.cut_off(1280)); print("cut 700:",n.cut_off(700))
            n.page.set_viewport_size({"width":1280,"height":2600})
            n.page.evaluate(browser_lab.CLOSE_SIDE_BAR)
            cells=n.page.locator(".jp-NotebookPanel:visible .jp-Cell")
            src=[c["source"] for c in n.cells()]
            def shot(name,start,count,theme):
                n.put_on(theme)
                for k in range(count):
                    el=cells.nth(start+k); el.scroll_into_view_if_needed()
                    el.screenshot(path=f"scratch/shots/{name}-{k}-{theme.lower()}.png")
            first=next(i for i,s in enumerate(src) if s.startswith("clinic.causes"))
            shot("clinic",first-1,16,"Light"); 
            shot("clinic",first+1,4,"Dark")
            j=next(i for i,s in enumerate(src) if s.startswith("one_process =")); shot("proc",j-1,3,"Light")
            j=next(i for i,s in enumerate(src) if s.startswith("refusals =")); shot("ref",j-1,5,"Light")
            j=next(i for i,s in enumerate(src) if s.startswith("at_one =")); shot("samp",j-1,3,"Light")
    browser.close()

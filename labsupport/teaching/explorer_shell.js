const SOON = 400;  // milliseconds: whatever is drawn sooner needs no sign

// JupyterLab's shortcuts would otherwise fire: `b` on a focused drop-down list inserts a cell.
const keep = (event) => event.stopPropagation();

function render({ model, el }) {
  const status = document.createElement("div");
  status.className = "lab-announcer";
  status.setAttribute("role", "status");
  const sign = document.createElement("div");
  sign.className = "lab-busy";
  sign.textContent = "Computing …";
  sign.hidden = true;
  el.append(status, sign);
  let box = null, frame = 0, timer = 0, open = false;

  const say = () => { status.textContent = model.get("sentence"); };
  const show = (busy) => {
    sign.hidden = !busy;
    box?.setAttribute("aria-busy", busy);
    if (busy) status.textContent = sign.textContent;
    else if (status.textContent === sign.textContent) say();
  };
  const wait = () => {
    clearTimeout(timer);
    if (model.get("busy")) timer = setTimeout(show, SOON, true);
    else show(false);
  };
  // On its way down: a text area lets no key come up again.
  const leave = (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    event.preventDefault();
    const cell = box.closest(".jp-Cell");
    if (cell) cell.focus(); else document.activeElement.blur();
  };
  // A view that is drawn anew would fold its table away.
  const remember = (event) => { open = event.target.open; };
  const unfold = new MutationObserver(() => {
    for (const table of box.querySelectorAll("details")) table.open = open;
  });
  const attach = () => {  // this element joins the page after render()
    box = el.closest(".lab-explorer");
    if (!box) { frame = requestAnimationFrame(attach); return; }
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", model.get("title"));
    box.addEventListener("keydown", keep);
    box.addEventListener("keydown", leave, true);
    box.addEventListener("toggle", remember, true);
    unfold.observe(box, { childList: true, subtree: true });
  };
  model.on("change:sentence", say);
  model.on("change:busy", wait);
  attach();
  return () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    model.off("change:sentence", say);
    model.off("change:busy", wait);
    unfold.disconnect();
    box?.removeEventListener("keydown", keep);
    box?.removeEventListener("keydown", leave, true);
    box?.removeEventListener("toggle", remember, true);
  };
}
export default { render };

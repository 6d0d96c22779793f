// JupyterLab's shortcuts would otherwise fire: `b` on a focused drop-down list inserts a cell.
function keep(event) {
  if (event.key !== "Escape") event.stopPropagation();
}

function render({ model, el }) {
  const status = document.createElement("div");
  status.className = "lab-announcer";
  status.setAttribute("role", "status");
  el.append(status);
  const say = () => { status.textContent = model.get("sentence"); };
  model.on("change:sentence", say);
  let box = null, frame = 0;
  const attach = () => {  // this element joins the page after render()
    box = el.closest(".lab-explorer");
    if (!box) { frame = requestAnimationFrame(attach); return; }
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", model.get("title"));
    box.addEventListener("keydown", keep);
  };
  attach();
  return () => {
    cancelAnimationFrame(frame);
    model.off("change:sentence", say);
    box?.removeEventListener("keydown", keep);
  };
}
export default { render };

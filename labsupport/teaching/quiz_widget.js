function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// Text with `code`, never as HTML.
function prose(tag, text, properties = {}) {
  const parts = text.split("`");
  const balanced = parts.length % 2 === 1;
  return make(tag, properties, ...(balanced
    ? parts.map((part, i) => (i % 2 ? make("code", { textContent: part }) : part))
    : [text]));
}

// After a restart of the kernel nobody answers, and nothing says so.
const PATIENCE = 8000;  // milliseconds
const UNANSWERED = "No answer yet. Is a cell still running? Then wait for it. Was the kernel restarted? "
  + "Then run this cell again.";

const letters = "abcdefghijklmnopqrstuvwxyz";

function field(question, name) {
  if (question.kind === "choice") {
    return question.choices.map((text, i) => make("label", { className: "lab-row" },
      make("input", { type: "radio", name, value: letters[i] }),
      prose("span", letters[i] + ". " + text)));
  }
  if (question.kind === "number") {  // type="number" would blank out "1,234"
    return [make("label", {}, "Your answer ",
      make("input", { type: "text", inputMode: "decimal", autocomplete: "off", size: 14, name }),
      " " + question.unit)];
  }
  return [make("label", {}, "Your answer", make("textarea", { rows: 3, name }))];
}

function show(model, question, parts) {
  const verdict = model.get("verdicts")[question.key];
  if (!verdict) return;
  const { form, status, after } = parts;
  form.dataset.right = String(verdict.right);
  status.replaceChildren(prose("span", verdict.message));
  const scores = (verdict.rubric ?? []).map((point, i) => make("label", { className: "lab-row" },
    make("input", { type: "checkbox", value: i + 1 }), prose("span", point)));
  if (scores.length) {
    const met = () => [...after.querySelectorAll(":checked")].map((box) => Number(box.value));
    const button = make("button", { type: "button", textContent: "Record my score" });
    button.addEventListener("click",
      () => model.send({ key: question.key, answer: parts.answer(), met: met() }));
    after.replaceChildren(make("fieldset", { className: "lab-rubric" },
      make("legend", { textContent: "Does your answer say this? Tick what it says." }), ...scores, button));
  } else if (verdict.solvable) {
    const button = make("button", { type: "button", textContent: "Show the answer" });
    button.addEventListener("click", () => {
      form.querySelector("button").focus();  // this button goes away, the focus must not
      model.send({ key: question.key, solve: true });
    });
    after.replaceChildren(button);
  } else if (question.kind !== "free") {
    after.replaceChildren();
  }
}

function ask(model, question, clean) {
  const name = "lab-" + question.key + "-" + Math.random().toString(36).slice(2);
  const action = question.kind === "free" ? "Compare" : "Check";
  const check = make("button", { type: "submit", textContent: action });
  const status = make("div", { className: "lab-status" });
  status.setAttribute("role", "status");
  const after = make("div");
  const legend = prose("legend", question.number + " " + question.text);
  const form = make("form", { noValidate: true, autocomplete: "off" },
    make("fieldset", {}, legend, ...field(question, name), make("div", {}, check)), status, after);
  const answer = () => new FormData(form).get(name) ?? "";
  const parts = { form, status, after, answer };
  let waiting;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    delete form.dataset.right;
    status.textContent = "Checking ... (a running cell must end first)";
    clearTimeout(waiting);
    waiting = setTimeout(() => { status.textContent = UNANSWERED; }, PATIENCE);
    model.send({ key: question.key, answer: answer() });
  });
  const update = () => { clearTimeout(waiting); show(model, question, parts); };
  const one = (message) => { if (message.key === question.key) update(); };
  model.on("msg:custom", one);
  clean.push(() => { clearTimeout(waiting); model.off("msg:custom", one); });
  update();
  return form;
}

function render({ model, el }) {
  const clean = [];
  const root = make("div", { className: "lab-quiz" },
    ...model.get("questions").map((question) => ask(model, question, clean)));
  // JupyterLab's shortcuts would otherwise fire: `b` inserts a cell. Saving stays possible.
  root.addEventListener("keydown", (event) => {
    const save = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s";
    if (!save && event.key !== "Escape") event.stopPropagation();
  });
  el.append(root);
  return () => clean.forEach((undo) => undo());
}
export default { render };

"""The checkpoint widget: native HTML controls in the browser, keys and grading in Python.

The browser gets questions and choices. What is right, and why, it gets as the verdict on an answer.
"""

from __future__ import annotations

import anywidget
import traitlets

from labsupport.core.files import LabError
from labsupport.teaching import answer_store
from labsupport.teaching import questions as q

SCRIPT = """
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
  const verdict = model.get("verdicts")[question.id];
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
      () => model.send({ id: question.id, answer: parts.answer(), met: met() }));
    after.replaceChildren(make("fieldset", { className: "lab-rubric" },
      make("legend", { textContent: "Does your answer say this? Tick what it says." }), ...scores, button));
  } else if (verdict.solvable) {
    const button = make("button", { type: "button", textContent: "Show the answer" });
    button.addEventListener("click", () => {
      form.querySelector("button").focus();  // this button goes away, the focus must not
      model.send({ id: question.id, solve: true });
    });
    after.replaceChildren(button);
  } else if (question.kind !== "free") {
    after.replaceChildren();
  }
}

function ask(model, question, clean) {
  const name = "lab-" + question.id + "-" + Math.random().toString(36).slice(2);
  const action = question.kind === "free" ? "Compare" : "Check";
  const check = make("button", { type: "submit", textContent: action });
  const status = make("div", { className: "lab-status" });
  status.setAttribute("role", "status");
  const after = make("div");
  const legend = prose("legend", question.id + " " + question.text);
  const form = make("form", { noValidate: true, autocomplete: "off" },
    make("fieldset", {}, legend, ...field(question, name), make("div", {}, check)), status, after);
  const answer = () => new FormData(form).get(name) ?? "";
  const parts = { form, status, after, answer };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    status.textContent = "Checking ... (a running cell must end first)";
    model.send({ id: question.id, answer: answer() });
  });
  const update = () => show(model, question, parts);
  const one = (message) => { if (message.id === question.id) update(); };
  model.on("msg:custom", one);
  clean.push(() => model.off("msg:custom", one));
  update();
  return form;
}

function render({ model, el }) {
  const clean = [];
  const root = make("div", { className: "lab-checkpoint" },
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
"""

STYLE = """
.lab-checkpoint {
  --text: var(--jp-content-font-color1, var(--vscode-foreground, CanvasText));
  --paper: var(--jp-layout-color1, var(--vscode-editor-background, Canvas));
  --line: var(--jp-border-color1, var(--vscode-panel-border, GrayText));
  max-width: 46rem; color: var(--text); font-size: var(--jp-content-font-size1, 14px); line-height: 1.5;
}
.lab-checkpoint form { margin: 0 0 1.2em; }
.lab-checkpoint fieldset { border: 0; margin: 0; padding: 0; min-width: 0; }
.lab-checkpoint legend { font-weight: 600; padding: 0; margin-bottom: .3em; }
.lab-checkpoint .lab-row { display: flex; gap: .5em; align-items: baseline; padding: .15em 0; }
.lab-checkpoint input, .lab-checkpoint textarea, .lab-checkpoint button {
  font: inherit; color: var(--text); background: var(--paper); accent-color: #0072b2;
}
.lab-checkpoint .lab-row input { flex: none; margin: 0; position: relative; top: .1em; }
.lab-checkpoint input[type="text"], .lab-checkpoint textarea {
  border: 1px solid var(--jp-ui-font-color2, GrayText); border-radius: 2px; padding: .2em .4em;
}
.lab-checkpoint textarea { display: block; width: 100%; box-sizing: border-box; }
.lab-checkpoint button {
  margin: .4em 0; padding: .2em .9em; border: 1px solid var(--jp-ui-font-color2, GrayText);
  border-radius: 2px; cursor: pointer;
}
.lab-checkpoint :focus-visible { outline: 2px solid var(--jp-brand-color1, Highlight); outline-offset: 2px; }
.lab-checkpoint .lab-status { white-space: pre-wrap; border-left: 4px solid transparent; padding-left: .6em; }
.lab-checkpoint [data-right="true"] .lab-status { border-color: #009e73; }
.lab-checkpoint [data-right="false"] .lab-status { border-color: #d55e00; }
.lab-checkpoint [data-right="null"] .lab-status { border-color: var(--line); }
.lab-checkpoint .lab-rubric { margin: .4em 0 0 .9em; }
"""


class Checkpoint(anywidget.AnyWidget):
    """The questions of one notebook. Answers arrive as messages {id, answer}, {id, answer, met} or
    {id, solve}; a verdict {right, message, ...} lands in `verdicts`.
    """

    _esm = SCRIPT
    _css = STYLE
    questions = traitlets.List().tag(sync=True)
    verdicts = traitlets.Dict().tag(sync=True)

    def __init__(self, questions: list[q.Question]):
        self.by_id = {question.id: question for question in questions}
        super().__init__(questions=[public(question) for question in questions], verdicts=self.earlier())
        self.on_msg(lambda _widget, content, _buffers: self.receive(content))

    def earlier(self) -> dict:
        """A line for each question answered before this cell ran."""
        try:
            answers, note = answer_store.load()
        except LabError as error:
            answers, note = {}, f"Your answers will not be recorded. {error}"
        if note:
            print(note)
        return {
            id: {"right": entry["right"], "message": f"Answered on {entry['date']}: {verdict(entry)}."}
            for id, entry in answers.items()
            if id in self.by_id
        }

    def receive(self, content) -> None:
        """Grade what the browser sent. Any failure becomes a sentence: here nobody sees a traceback."""
        question = self.by_id.get(content.get("id")) if isinstance(content, dict) else None
        if question is None:
            return
        try:
            result = self.judge(question, content)
        except Exception as error:  # a key is computed by code that may fail
            result = {"right": None, "message": f"The course could not grade this: {error!r}"}
        self.verdicts = self.verdicts | {question.id: result}
        self.send({"id": question.id})  # also when the verdict is the same again

    def judge(self, question: q.Question, content: dict) -> dict:
        if content.get("solve"):
            right = self.verdicts.get(question.id, {}).get("right")
            return {"right": right, "message": q.solution(question)}
        answer = content.get("answer")
        is_free = isinstance(question, q.FreeQuestion)
        right, message = q.grade(question, (answer, content.get("met")) if is_free else answer)
        result = {"right": right, "message": message}
        if right is not None:
            note = answer_store.record(question.id, answer, right)
            model_answer = f"\nA model answer: {question.model_answer}" if is_free else ""
            result["message"] += model_answer + (f"\n{note}" if note else "")
            result["solvable"] = right is False and not is_free
        elif is_free and isinstance(answer, str) and answer.strip():
            result |= {"message": f"A model answer: {question.model_answer}", "rubric": question.rubric}
        return result

    def _repr_mimebundle_(self, **options):
        """The widget, and where none runs the questions with the call that answers each."""
        data, metadata = super()._repr_mimebundle_(**options)
        asked = self.by_id.values()
        text = {
            "text/html": "".join(q.as_html(question) for question in asked),
            "text/plain": "\n\n".join(q.as_text(question) for question in asked),
        }
        return data | text, metadata


def public(question: q.Question) -> dict:
    """What the browser may know of a question before it is answered."""
    shown = {"id": question.id, "text": question.text, "kind": "free"}
    if isinstance(question, q.ChoiceQuestion):
        shown |= {"kind": "choice", "choices": [choice.text for choice in question.choices]}
    if isinstance(question, q.NumberQuestion):
        shown |= {"kind": "number", "unit": question.unit}
    return shown


def verdict(entry: dict) -> str:
    return "right" if entry["right"] else "not right"

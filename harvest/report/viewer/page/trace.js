// Shows one attempt: its question, what became of it, its chain in steps, its answer, and beside them who says what.

import { count, element, plain, textOf } from "./elements.js";

const FOLDED_FROM = 8;
const folds = new Map();

export function keyOf(run, id) {
  return `${run}/${id}`;
}

export function foldAll(key, isFolded) {
  folds.set(key, new Map([["all", isFolded]]));
}

export function isFolded(key, steps) {
  return folds.get(key)?.get("all") ?? steps.length > FOLDED_FROM;
}

export function shown(values, place) {
  return element(
    "div", { class: "attempt" },
    element("article", { class: "reading" }, question(values, place), chain(values, place.key), answer(values)),
    side(values, place),
  );
}

function question(values, place) {
  const { name, text, gold, more, choices, tests } = values.question;
  return element(
    "header", { class: "question" },
    element("p", { class: "kicker" }, element("b", {}, textOf(name)), ` in ${values.run} · ${values.status}`),
    element("h1", { class: plain(text).length > 280 ? "long" : "" }, textOf(text)),
    choices.length ? element("ol", { class: "choices", type: "A" }, choices.map((c) => element("li", {}, textOf(c)))) : null,
    element("p", { class: "gold" }, gold === null ? "no gold answer" : element("span", { class: "label" }, "gold"), gold && textOf(gold)),
    tests.length ? element("details", {}, element("summary", {}, "tests"), element("pre", {}, textOf(tests))) : null,
    element("p", { class: "note" }, more.map(([k, v]) => `${k} ${v}`).join(" · ")),
    standing(values, place),
  );
}

function standing(values, place) {
  const name = values.standing.replace(" ", "-");
  return element(
    "div", { class: `standing ${name}` },
    element(
      "div", { class: "decision" },
      element("p", { class: "became" }, element("strong", {}, values.standing), values.words ? ` · ${values.words}` : ""),
      values.mark ? markOf(values.mark) : null,
    ),
    element("ul", { class: "badges" }, values.badges.map(([what, text]) => element("li", { class: "badge" }, element("span", { class: "label" }, what), ` ${text}`))),
    values.mark?.note ? element("p", { class: "my-note" }, values.mark.note) : null,
    place.siblings.length > 1 ? pips(place) : null,
  );
}

function markOf(mark) {
  return element(
    "p", { class: `mark ${mark.outcome}` }, `marked ${mark.outcome}`,
    mark.waits ? element("small", {}, " waits for the process that is writing") : "",
  );
}

function pips(place) {
  const pip = (sibling) => element("button", {
    type: "button", class: `pip ${sibling.standing.replace(" ", "-")}`, "aria-current": sibling.isThis ? "true" : null,
    title: `sample ${sibling.sample}: ${sibling.standing}`, "aria-label": `sample ${sibling.sample}, ${sibling.standing}`,
    onclick: sibling.go,
  });
  return element(
    "p", { class: "siblings" }, place.siblings.map(pip),
    element("span", { class: "note" }, ` ${count(place.siblings.length, "answer")} to this question; `, element("kbd", {}, "s"), " sets two side by side"),
  );
}

function chain(values, key) {
  const steps = values.chain;
  if (!steps) return element("section", { class: "chain" }, element("h2", {}, "Chain"), element("p", { class: "note" }, values.chain_note));
  const folded = isFolded(key, steps);
  const numbered = steps.filter((step) => step.n);
  return element(
    "section", { class: "chain" },
    element(
      "h2", {}, "Chain ", element("small", {}, count(numbered.length, "step")),
      element("small", { class: "hint" }, element("kbd", {}, "o"), folded ? " opens all" : " folds all"),
    ),
    values.chain_note ? element("p", { class: "note" }, values.chain_note) : null,
    stepList(steps, folded, key),
  );
}

export function stepList(steps, folded, key, differs = null) {
  return element("ol", { class: "steps" }, steps.map((step) => (step.n ? oneStep(step, folded, key, differs) : repeat(step))));
}

function oneStep(step, folded, key, differs) {
  const marked = step.pieces.some(([, why]) => why && why !== "control");
  const open = (folds.get(key)?.get(step.n) ?? !folded) || marked;
  const number = element("button", { type: "button", class: "number", "aria-expanded": String(open), "aria-label": `step ${step.n}` }, String(step.n));
  const text = element("div", { class: "text" }, differs ? differs(step) : textOf(step.pieces));
  const made = element("li", { class: `${open ? "" : "folded"} ${marked ? "marked" : ""}`.trim() }, number, text);
  const turn = () => {
    const nowOpen = made.classList.toggle("folded") === false;
    number.setAttribute("aria-expanded", String(nowOpen));
    if (!folds.has(key)) folds.set(key, new Map());
    folds.get(key).set(step.n, nowOpen);
  };
  number.addEventListener("click", turn);
  text.addEventListener("click", () => { if (made.classList.contains("folded")) turn(); });
  return made;
}

function repeat({ repeats, steps, chars }) {
  const what = steps === 0 ? "the end of this step repeats" : steps === 1 ? "this step repeats" : `these ${steps} steps repeat`;
  return element("li", { class: "repeat" }, `${what} ${count(repeats, "more time")} · ${count(chars, "character")} left out`);
}

function answer(values) {
  if (!values.answer) return null;
  const text = values.answer.map((step) => (step.n ? element("p", {}, textOf(step.pieces)) : element("p", { class: "note" }, `repeats ${count(step.repeats, "more time")}`)));
  return element("section", { class: "answer" }, element("h2", {}, "Answer"), element("div", { class: "box" }, text.length ? text : element("p", { class: "note" }, "empty")));
}

function side(values, place) {
  const verdicts = values.verdicts.map((v) => element(
    "li", { class: `${v.kind} ${v.said} ${v.newest ? "" : "before"}` }, v.words, element("small", {}, v.newest ? "" : ` ${v.at}`),
  ));
  return element(
    "aside", { class: "side", "aria-label": "Verdicts and costs" },
    element("h2", {}, "Verdicts"),
    verdicts.length ? element("ul", { class: "verdicts" }, verdicts) : element("p", { class: "note" }, "none"),
    values.objections.length
      ? [element("h2", {}, "Filters object"), element("ul", { class: "verdicts" }, values.objections.map(([filter, words]) => element("li", { class: "filter fail" }, element("b", {}, filter), ` ${words}`)))]
      : [],
    values.selection ? [element("h2", {}, "Selection"), element("p", {}, values.selection)] : [],
    element("h2", {}, "Requests"),
    element("ul", { class: "tries" }, values.tries.map((words) => element("li", {}, words))),
    place.canMark ? null : element("p", { class: "note" }, "This is a copy: marks are set in `harvest view`."),
  );
}

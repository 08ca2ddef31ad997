// Sets two answers to one question side by side, from the place on where they part.

import { count, element, plain, textOf } from "./elements.js";
import { stepList } from "./trace.js";

const textIn = (step) => (step.n ? plain(step.pieces) : `repeats ${step.repeats} ${step.steps}`);

export function beside(one, other, number) {
  const left = one.values.chain ?? [];
  const right = other.values.chain ?? [];
  let same = 0;
  while (same < Math.min(left.length, right.length) && textIn(left[same]) === textIn(right[same])) same += 1;
  const apart = partedAt(left[same], right[same]);
  const open = element("details", { class: "same" },
    element("summary", {}, same ? `${count(same, "step")} ${same === 1 ? "is" : "are"} the same in both` : "no whole step is the same in both"),
    same ? stepList(left.slice(0, same), false, "") : null);
  return element(
    "div", { class: "beside" },
    element("header", {},
      element("p", { class: "kicker" }, element("b", {}, textOf(one.values.question.name)), ` in ${one.values.run}`),
      element("h1", { class: "long" }, textOf(one.values.question.text)),
      element("p", { class: "note" }, element("kbd", {}, "s"), ` next of ${number} · `, element("kbd", {}, "Esc"), " back to one")),
    open,
    element("div", { class: "columns" }, column(one, left.slice(same), apart), column(other, right.slice(same), apart)),
  );
}

// How many characters the first steps that differ have in common.
function partedAt(one, other) {
  if (!one?.n || !other?.n) return 0;
  const a = plain(one.pieces);
  const b = plain(other.pieces);
  let at = 0;
  while (at < Math.min(a.length, b.length) && a[at] === b[at]) at += 1;
  return at;
}

function column({ values, sample }, steps, apart) {
  const first = steps[0];
  const differs = (step) => {
    if (step !== first || apart === 0) return textOf(step.pieces);
    const text = plain(step.pieces);
    return [element("span", { class: "common" }, text.slice(0, apart)), element("span", { class: "parted" }, ...textOf([[text.slice(apart)]]))];
  };
  return element(
    "section", { class: `column ${values.standing.replace(" ", "-")}` },
    element("p", { class: "became" }, element("strong", {}, values.standing), ` sample ${sample}`, values.mark ? ` · marked ${values.mark.outcome}` : ""),
    element("ul", { class: "badges" }, values.badges.filter(([what]) => what === "cost" || what === "tokens" || what === "teacher").map(([what, text]) => element("li", { class: "badge" }, element("span", { class: "label" }, what), ` ${text}`))),
    steps.length ? stepList(steps, false, "", differs) : element("p", { class: "note" }, values.chain ? "the chain ends here" : values.chain_note),
    values.answer ? element("div", { class: "box" }, values.answer.map((step) => (step.n ? element("p", {}, textOf(step.pieces)) : null))) : null,
  );
}

// The panel of filters: what may be chosen, and what is chosen in words.

import { NO_FILTERS, ORDERS, counted } from "./attempts.js";
import { element } from "./elements.js";

const LABELS = { run: "Run", standing: "Verdict", reason: "Reason", teacher: "Teacher", domain: "Domain", mark: "My mark", order: "Order" };

export function filled(form, list, filters, onChange) {
  const options = (column, other = (text) => text) =>
    counted(list, column).map(([text, n]) => [other(text), `${other(text) || "none"} (${n.toLocaleString("en")})`]);
  const named = {
    run: list.runs.length > 1 ? list.runs.map((name) => [name, name]) : null,
    standing: options("standing"),
    reason: options("reason").filter(([text]) => text !== ""),
    teacher: list.texts.teacher.length > 1 ? options("teacher") : null,
    domain: list.texts.domain.length > 1 ? options("domain", (text) => text || "none") : null,
    mark: [["any", "marked"], ["none", "not marked"], ["right", "right"], ["wrong", "wrong"], ["unsure", "unsure"]],
  };
  const fields = Object.entries(named).filter(([, choices]) => choices?.length).map(([name, choices]) => labelled(name, select(name, [["", "any"], ...choices], filters[name])));
  form.replaceChildren(
    ...fields,
    labelled("order", select("order", Object.entries(ORDERS), filters.order)),
    range("Tokens", "least_tokens", "most_tokens", filters),
    range("Cost in USD", "least_cost", "most_cost", filters),
    element("label", { class: "check" }, element("input", { type: "checkbox", name: "disagree", checked: Boolean(filters.disagree) }), "only where checks disagree"),
    element("button", { type: "button", class: "clear", onclick: () => onChange({ ...NO_FILTERS }) }, "Clear all"),
  );
  form.onchange = () => onChange(read(form));
  form.onsubmit = (event) => { event.preventDefault(); onChange(read(form)); };
}

function labelled(name, control) {
  return element("label", {}, element("span", {}, LABELS[name]), control);
}

function select(name, choices, chosen) {
  return element("select", { name }, choices.map(([value, text]) => element("option", { value, selected: value === chosen }, text)));
}

function range(label, least, most, filters) {
  const input = (name, words) => element("input", { name, type: "number", min: 0, step: "any", placeholder: words, "aria-label": `${label}, ${words}`, value: filters[name] });
  return element("label", {}, element("span", {}, label), element("span", { class: "range" }, input(least, "from"), input(most, "to")));
}

function read(form) {
  const found = { ...NO_FILTERS };
  for (const [name, value] of new FormData(form)) found[name] = value === "on" ? "1" : value;
  return found;
}

export function inWords(filters) {
  const words = ["run", "standing", "reason", "teacher"].map((name) => filters[name]);
  if (filters.domain) words.push(`domain ${filters.domain}`);
  if (filters.mark) words.push({ any: "marked", none: "not marked" }[filters.mark] ?? `marked ${filters.mark}`);
  if (filters.disagree) words.push("checks disagree");
  words.push(between(filters.least_tokens, filters.most_tokens, "tokens"), between(filters.least_cost, filters.most_cost, "USD"));
  if (filters.order !== "asked") words.push(ORDERS[filters.order]);
  return words.filter(Boolean).join(" · ");
}

function between(least, most, unit) {
  if (least === "" && most === "") return "";
  return least === "" ? `at most ${most} ${unit}` : most === "" ? `at least ${least} ${unit}` : `${least} to ${most} ${unit}`;
}

export function parsed(text) {
  try {
    const found = JSON.parse(text);
    return Object.fromEntries(Object.entries(NO_FILTERS).map(([name, value]) => [name, typeof found[name] === "string" ? found[name] : value]));
  } catch {
    return { ...NO_FILTERS };
  }
}

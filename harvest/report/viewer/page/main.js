// The page: which attempt is shown, what each key does, and where one stopped.

import { NO_FILTERS, chosenRows, prepared, tally } from "./attempts.js";
import { element } from "./elements.js";
import { filled, inWords, parsed } from "./filters.js";
import { beside } from "./siblings.js";
import { source } from "./source.js";
import { foldAll, isFolded, keyOf, shown } from "./trace.js";

const KEEP_AFTER_MS = 400;
const byId = (id) => document.getElementById(id);
const view = { list: null, rows: [], at: -1, run: null, values: null, filters: { ...NO_FILTERS }, hits: null, words: "", sibling: null, asked: 0, loading: null };

const KEYS = [
  ["j", "next", () => move(1), "ArrowRight"],
  ["k", "before", () => move(-1), "ArrowLeft"],
  ["1", "right", () => mark("right")],
  ["2", "wrong", () => mark("wrong")],
  ["3", "unsure", () => mark("unsure")],
  ["n", "note", openNote],
  ["s", "siblings", nextSibling],
  ["o", "open or fold", turnAll],
  ["d", "disagreements first", disagreementsFirst],
  ["f", "filters", turnFilters],
  ["/", "search", () => { byId("words").focus(); byId("words").select(); }],
  ["?", "help", () => byId("help").showModal()],
];
const IN_FOOTER = ["j", "k", "1", "2", "3", "n", "s", "o", "?"];

// ---- what is shown

// What a key does with the attempt waits for `view.loading`: the attempt that the position names, not the one before.
function show(row) {
  view.loading = load(row);
}

async function load(row) {
  const asked = (view.asked += 1);
  const run = view.list.columns.run[row];
  const id = view.list.columns.id[row];
  view.row = row;
  view.sibling = null;
  sayPosition();
  try {
    const values = await source.attempt(run, id);
    if (asked !== view.asked) return;
    view.run = run;
    view.values = values;
    paint(true);
    keepPlace();
    for (const near of [view.at + 1, view.at - 1]) {
      const other = view.rows[near];
      if (other !== undefined) source.attempt(view.list.columns.run[other], view.list.columns.id[other]).catch(() => {});
    }
  } catch (error) {
    if (asked !== view.asked) return;
    view.values = null;
    byId("trace").replaceChildren();
    say(error.message);
  }
}

function paint(fromTop = false) {
  const place = { key: keyOf(view.run, view.values.id), siblings: siblingsShown(), canMark: source.canMark };
  byId("trace").replaceChildren(shown(view.values, place));
  if (fromTop) scrollTo(0, 0);
  document.title = `${view.values.question.name.map(([text]) => text).join("")} · winnow`;
  sayPosition();
  highlight();
}

function siblingsShown() {
  if (view.list === null || view.row === undefined) return [];
  const { columns } = view.list;
  return view.list.siblings(view.row).map((row) => ({
    sample: columns.sample[row], standing: view.list.text("standing", row), isThis: row === view.row, go: () => goTo(row),
  }));
}

function sayPosition() {
  const number = (n) => n.toLocaleString("en");
  if (view.list === null) return;
  const all = view.list.columns.id.length;
  const of = view.rows.length;
  byId("position").textContent = of === 0 ? "none" : view.at < 0 ? `– of ${number(of)}` : `${number(view.at + 1)} of ${number(of)}`;
  const words = [view.words && `“${view.words}”`, inWords(view.filters)].filter(Boolean).join(" · ");
  byId("chosen").textContent = words || (of < all ? `${number(all)} in all` : "");
  byId("progress").style.transform = `scaleX(${of ? Math.max(0, view.at + 1) / of : 0})`;
  const { right, wrong, unsure } = tally(view.list);
  byId("tally").replaceChildren(...(right + wrong + unsure ? [
    element("span", { class: "right" }, `${number(right)} right`), element("span", { class: "wrong" }, `${number(wrong)} wrong`), element("span", { class: "unsure" }, `${number(unsure)} unsure`),
  ] : []));
}

function say(words) {
  byId("said").textContent = words;
}

// What was searched for stands out in the text; the text itself stays as it is.
function highlight() {
  if (!CSS.highlights) return;
  CSS.highlights.delete("found");
  const wanted = view.words.toLowerCase();
  if (!wanted) return;
  const ranges = [];
  const texts = document.createTreeWalker(byId("trace"), NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node && ranges.length < 500; node = texts.nextNode()) {
    const text = node.data.toLowerCase();
    for (let at = text.indexOf(wanted); at >= 0 && ranges.length < 500; at = text.indexOf(wanted, at + wanted.length)) {
      if (at + wanted.length > node.length) break;
      const range = new Range();
      range.setStart(node, at);
      range.setEnd(node, at + wanted.length);
      ranges.push(range);
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}

// ---- where one is

function move(by) {
  if (view.list === null || !view.rows.length) return;
  const to = view.at < 0 ? (by > 0 ? 0 : view.rows.length - 1) : view.at + by;
  if (to < 0 || to >= view.rows.length) {
    say(to < 0 ? "this is the first one" : "this is the last one");
    return;
  }
  view.at = to;
  say("");
  show(view.rows[to]);
}

function goTo(row) {
  view.at = view.rows.indexOf(row);
  show(row);
}

// The rows change; the attempt that is shown stays if it is among them.
function choose(filters, hits = view.hits) {
  Object.assign(view, { filters, hits, rows: chosenRows(view.list, filters, hits) });
  view.at = view.row === undefined ? -1 : view.rows.indexOf(view.row);
  if (view.at < 0 && view.rows.length) {
    view.at = 0;
    show(view.rows[0]);
  } else {
    sayPosition();
    keepPlace();
  }
  if (!view.rows.length) say("nothing fits: “Clear all” in the filters shows all again");
  else if (hits === null) say("");
}

let keeping = 0;
function keepPlace() {
  clearTimeout(keeping);
  if (view.values === null) return;
  const place = { run: view.run, id: view.values.id, filters: JSON.stringify(view.filters) };
  keeping = setTimeout(() => source.keep(place), KEEP_AFTER_MS);
}

// ---- what the keys do

async function mark(outcome) {
  if (!source.canMark) return say("a copy takes no marks: open the run with `harvest view`");
  await view.loading;
  if (view.values === null || view.values.answer === null) return say("there is no answer to mark");
  const { run, row, values } = view;
  await setMark({ run, row, values }, outcome, values.mark?.note ?? "");
}

async function setMark({ run, row, values }, outcome, note) {
  try {
    const marked = await source.mark(run, values.id, outcome, note);
    if (view.list !== null && row !== undefined) {
      view.list.columns.mark[row] = view.list.texts.mark.indexOf(marked.mark.outcome);
      view.list.columns.standing[row] = view.list.texts.standing.indexOf(marked.standing);
    }
    if (view.values?.id === values.id && view.run === run) {
      view.values = marked;
      if (view.sibling === null) paint();
    }
    const cut = outcome === "right" && marked.standing === "rejected" && !marked.mark.waits;
    say(`marked ${outcome}${marked.mark.waits ? "; it waits for the process that is writing to the store" : ""}${cut ? "; it stays rejected, since it is cut short" : ""}`);
  } catch (error) {
    say(`not marked: ${error.message}`);
  }
}

let noted = null;
async function openNote() {
  if (!source.canMark) return say("a copy takes no notes: open the run with `harvest view`");
  await view.loading;
  if (!view.values?.answer) return say("there is no answer to make a note on");
  const { run, row, values } = view;
  noted = { run, row, values }; // the note stays with this attempt, whatever is shown when it is closed
  byId("note").hidden = false;
  byId("note-text").value = view.values.mark?.note ?? "";
  byId("note-text").focus();
}

function closeNote(isKept) {
  byId("note").hidden = true;
  byId("trace").focus({ preventScroll: true });
  if (isKept) setMark(noted, noted.values.mark?.outcome ?? "unsure", byId("note-text").value.trim());
}

async function turnAll() {
  await view.loading;
  if (!view.values?.chain) return;
  const key = keyOf(view.run, view.values.id);
  foldAll(key, !isFolded(key, view.values.chain));
  paint();
}

async function nextSibling() {
  await view.loading;
  if (view.list === null || view.row === undefined) return;
  const rows = view.list.siblings(view.row).filter((row) => row !== view.row);
  if (!rows.length) return say("this is the only answer to the question");
  view.sibling = view.sibling === null ? 0 : (view.sibling + 1) % rows.length;
  const row = rows[view.sibling];
  const { columns } = view.list;
  const other = await source.attempt(columns.run[row], columns.id[row]);
  byId("trace").replaceChildren(beside({ values: view.values, sample: columns.sample[view.row] }, { values: other, sample: columns.sample[row] }, rows.length));
  scrollTo(0, 0);
  highlight();
}

function disagreementsFirst() {
  if (view.list === null) return;
  view.row = undefined;
  choose({ ...view.filters, order: view.filters.order === "disagreements" ? "asked" : "disagreements" });
  fillFilters();
}

function turnFilters() {
  if (view.list === null) return;
  const panel = byId("filters");
  panel.hidden = !panel.hidden;
  byId("open-filters").setAttribute("aria-expanded", String(!panel.hidden));
  if (panel.hidden) byId("trace").focus({ preventScroll: true });
  else panel.querySelector("select").focus();
}

function fillFilters() {
  filled(byId("filters"), view.list, view.filters, (filters) => {
    const isCleared = Object.entries(NO_FILTERS).every(([name, value]) => filters[name] === value);
    if (isCleared) clearSearch();
    choose(filters);
    if (isCleared) fillFilters();
  });
}

let searches = 0;
async function search(words) {
  const mine = (searches += 1);
  view.words = words;
  if (!words) return choose(view.filters, null);
  const hits = new Set();
  say("searching …");
  let isShown = false;
  try {
    await source.search(view.list, words, (run, ids, share) => {
      for (const id of ids) hits.add(view.list.rowOf(run, id));
      say(`searching … ${Math.round(share * 100)}%`);
      if (!isShown && hits.size) {
        isShown = true;
        choose(view.filters, hits);
      } else if (isShown) {
        const rows = chosenRows(view.list, view.filters, hits);
        Object.assign(view, { hits, rows, at: rows.indexOf(view.row) });
        sayPosition();
      }
    }, () => mine !== searches);
  } catch (error) {
    return say(error.message);
  }
  if (mine !== searches) return;
  choose(view.filters, hits);
  highlight();
  say(hits.size ? "" : `nothing has “${words}”`);
}

function clearSearch() {
  searches += 1;
  Object.assign(view, { words: "", hits: null });
  byId("words").value = "";
  highlight();
}

function escape() {
  if (!byId("note").hidden) return closeNote(false);
  if (!byId("filters").hidden) return turnFilters();
  if (view.sibling !== null) {
    view.sibling = null;
    return paint(true);
  }
  if (view.words) {
    clearSearch();
    choose(view.filters, null);
  }
  byId("trace").focus({ preventScroll: true });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  if (event.key === "Escape") return escape();
  const isTyping = event.target.matches("input, textarea, select");
  if (isTyping) {
    if (event.target.id === "note-text" && event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      closeNote(true);
    }
    return;
  }
  const found = KEYS.find(([key, , , also]) => event.key === key || event.key === also);
  if (found === undefined) return;
  event.preventDefault();
  found[2]();
});

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("trace").focus({ preventScroll: true });
  if (view.list !== null) search(byId("words").value.trim());
});
byId("note").addEventListener("submit", (event) => event.preventDefault());
byId("open-filters").addEventListener("click", turnFilters);
byId("keys").append(...KEYS.filter(([key]) => IN_FOOTER.includes(key)).map(([key, what, act]) =>
  element("button", { type: "button", onclick: () => act() }, element("kbd", {}, key), ` ${what}`)));
byId("help").append(
  element("h2", { id: "help-title" }, "Keys"),
  element("dl", {}, KEYS.flatMap(([key, what, , also]) => [
    element("dt", {}, element("kbd", {}, key), also ? [" ", element("kbd", {}, { ArrowRight: "→", ArrowLeft: "←" }[also])] : ""), element("dd", {}, what),
  ]), element("dt", {}, element("kbd", {}, "Esc")), element("dd", {}, "close what is open; back from siblings; end a search")),
  element("p", { class: "note" }, "A mark of right or wrong decides in place of the checks. Unsure leaves the decision to them, and takes an earlier mark back."),
  element("form", { method: "dialog" }, element("button", {}, "Close")),
);

// ---- the start: the attempt where one stopped is there before the list of all is

async function start() {
  const opened = await source.first();
  const listing = source.list();
  if (opened.attempt) {
    Object.assign(view, { run: opened.run, values: opened.attempt });
    paint(true);
  }
  view.list = prepared(await listing);
  if (!view.list.columns.id.length) return say("there is no attempt yet");
  view.row = opened.attempt ? view.list.rowOf(opened.run, opened.attempt.id) : undefined;
  const kept = opened.filters ? parsed(opened.filters) : { ...NO_FILTERS };
  view.filters = kept;
  view.rows = chosenRows(view.list, kept, null);
  view.at = view.row === undefined ? -1 : view.rows.indexOf(view.row);
  fillFilters();
  if (view.row === undefined) move(1);
  else paint();
  document.body.dataset.ready = "true";
}

start().catch((error) => say(error.message));

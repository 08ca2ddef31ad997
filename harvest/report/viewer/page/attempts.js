// The list of all attempts, in columns: which rows a filter leaves, and in which order. Pure.

export const ORDERS = {
  asked: "as they were asked",
  disagreements: "check disagreements first",
  dearest: "dearest first",
  longest: "longest first",
  shortest: "shortest first",
};

export const NO_FILTERS = {
  run: "", standing: "", reason: "", teacher: "", domain: "", mark: "", disagree: "",
  least_tokens: "", most_tokens: "", least_cost: "", most_cost: "", order: "asked",
};

const PICO = 1e12;

export function prepared(list) {
  const { columns, questions, runs } = list;
  const rowOf = new Map();
  const siblings = new Map();
  list.lastId = runs.map(() => 1);
  columns.id.forEach((id, row) => {
    const run = columns.run[row];
    rowOf.set(run * 2 ** 40 + id, row);
    if (id > list.lastId[run]) list.lastId[run] = id;
    const question = columns.question[row];
    const first = siblings.get(question);
    if (first === undefined) siblings.set(question, [row]);
    else first.push(row);
  });
  list.rowOf = (run, id) => rowOf.get(run * 2 ** 40 + id);
  list.siblings = (row) => siblings.get(columns.question[row]);
  list.name = (row) => questions.name[columns.question[row]];
  list.text = (column, row) => list.texts[column][columns[column][row]];
  return list;
}

// The rows that the filters leave, in the order that they ask for. `hits`: the rows that a search found, or null.
export function chosenRows(list, filters, hits) {
  const { columns, texts, questions } = list;
  const tests = [];
  const code = (column, text) => texts[column].indexOf(text);
  for (const column of ["standing", "reason", "teacher"]) {
    if (filters[column] === "") continue;
    const wanted = code(column, filters[column]);
    tests.push((row) => columns[column][row] === wanted);
  }
  if (filters.run !== "") {
    const wanted = list.runs.indexOf(filters.run);
    tests.push((row) => columns.run[row] === wanted);
  }
  if (filters.domain !== "") {
    const wanted = code("domain", filters.domain === "none" ? "" : filters.domain);
    tests.push((row) => questions.domain[columns.question[row]] === wanted);
  }
  if (filters.mark === "any") tests.push((row) => columns.mark[row] !== 0);
  else if (filters.mark !== "") {
    const wanted = code("mark", filters.mark === "none" ? "" : filters.mark);
    tests.push((row) => columns.mark[row] === wanted);
  }
  if (filters.disagree) tests.push((row) => columns.disagree[row] === 1);
  bounds(tests, columns.tokens, filters.least_tokens, filters.most_tokens, 1);
  bounds(tests, columns.cost, filters.least_cost, filters.most_cost, PICO);
  if (hits !== null) tests.push((row) => hits.has(row));
  const rows = [];
  for (let row = 0; row < columns.id.length; row += 1) {
    if (tests.every((test) => test(row))) rows.push(row);
  }
  return sorted(rows, columns, filters.order);
}

// A number that nobody knows fits no bound.
function bounds(tests, column, least, most, unit) {
  if (least !== "") tests.push((row) => column[row] !== null && column[row] >= Number(least) * unit);
  if (most !== "") tests.push((row) => column[row] !== null && column[row] <= Number(most) * unit);
}

function sorted(rows, columns, order) {
  const by = {
    disagreements: (row) => -columns.disagree[row],
    dearest: (row) => -(columns.cost[row] ?? -1),
    longest: (row) => -(columns.tokens[row] ?? -1),
    shortest: (row) => columns.tokens[row] ?? Number.MAX_VALUE,
  }[order];
  if (by === undefined) return rows;
  const keys = new Float64Array(columns.id.length);
  for (const row of rows) keys[row] = by(row);
  return rows.sort((a, b) => keys[a] - keys[b] || a - b);
}

export function tally(list) {
  const found = { right: 0, wrong: 0, unsure: 0 };
  const texts = list.texts.mark;
  for (const code of list.columns.mark) if (code) found[texts[code]] += 1;
  return found;
}

// How many attempts have each text of a column, the most frequent first.
export function counted(list, column) {
  const { columns, texts, questions } = list;
  const times = new Array(texts[column].length).fill(0);
  if (column === "domain") for (const question of columns.question) times[questions.domain[question]] += 1;
  else for (const code of columns[column]) times[code] += 1;
  return texts[column].map((text, code) => [text, times[code]]).filter(([, n]) => n).sort((a, b) => b[1] - a[1]);
}

// Where the page's data come from: the server of `harvest view`, or the files of a copy (`harvest view --to`).

const KEPT = 24;

function remembering(get) {
  const kept = new Map();
  const ask = (run, id) => {
    const key = `${run}/${id}`;
    if (!kept.has(key)) {
      kept.set(key, get(run, id).catch((error) => { kept.delete(key); throw error; }));
      if (kept.size > KEPT) kept.delete(kept.keys().next().value);
    }
    return kept.get(key);
  };
  ask.put = (run, id, values) => kept.set(`${run}/${id}`, Promise.resolve(values));
  return ask;
}

async function answered(response) {
  if (!response.ok) throw new Error((await response.text()) || `the server answers ${response.status}`);
  return response;
}

const post = (path, values) =>
  fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(values) }).then(answered);

function fromServer() {
  const attempt = remembering(async (run, id) => (await answered(await fetch(`attempt/${run}/${id}`))).json());
  return {
    canMark: true,
    attempt,
    first: async () => (await answered(await fetch("first"))).json(),
    list: async () => (await answered(await fetch("list"))).json(),
    async mark(run, id, outcome, note) {
      const values = await (await post("mark", { run, id, outcome, note })).json();
      attempt.put(run, id, values);
      return values;
    },
    keep: (place) => post("place", place).catch(() => {}),
    async search(list, words, onFound, isOver) {
      for (let run = 0; run < list.runs.length; run += 1) {
        const last = list.lastId[run];
        for (let after = 0; ;) {
          const query = new URLSearchParams({ run, words, after });
          const part = await (await answered(await fetch(`search?${query}`))).json();
          if (isOver()) return;
          onFound(run, part.found, (run + (part.after ? part.after / last : 1)) / list.runs.length);
          after = part.after;
          if (!after) break;
        }
      }
    },
  };
}

const joined = (pieces) => pieces.map(([text]) => text).join("");

function textsOf({ question, chain, answer }) {
  const steps = [chain, answer].map((part) => (part ?? []).map((step) => joined(step.pieces ?? [])).join("\n"));
  return [joined(question.name), joined(question.text), ...steps];
}

function fromCopy(copy) {
  const chunks = new Map();
  const chunk = (n) => {
    if (!chunks.has(n)) {
      if (chunks.size > 3) chunks.delete(chunks.keys().next().value);
      chunks.set(n, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `data/${n}.js`;
        script.onload = () => { resolve(copy.chunk); script.remove(); };
        script.onerror = () => reject(new Error(`data/${n}.js is not there`));
        document.head.append(script);
      }));
    }
    return chunks.get(n);
  };
  const chunkOf = (row) => {
    let n = copy.starts.length - 1;
    while (n > 0 && copy.starts[n] > row) n -= 1;
    return n;
  };
  const rows = new Map(copy.list.columns.id.map((id, row) => [`${copy.list.columns.run[row]}/${id}`, row]));
  return {
    canMark: false,
    attempt: remembering(async (run, id) => {
      const row = rows.get(`${run}/${id}`);
      const n = chunkOf(row);
      return (await chunk(n))[row - copy.starts[n]];
    }),
    first: async () => ({ run: null, attempt: null, filters: null }),
    list: async () => copy.list,
    keep: () => {},
    async search(list, words, onFound, isOver) {
      const wanted = words.toLowerCase();
      for (let n = 0; n < copy.starts.length; n += 1) {
        const values = await chunk(n);
        if (isOver()) return;
        values.forEach((value, at) => {
          if (value === null || !textsOf(value).some((text) => text.toLowerCase().includes(wanted))) return;
          const row = copy.starts[n] + at;
          onFound(list.columns.run[row], [list.columns.id[row]], (n + 1) / copy.starts.length);
        });
        onFound(0, [], (n + 1) / copy.starts.length);
      }
    },
  };
}

export const source = globalThis.winnowCopy ? fromCopy(globalThis.winnowCopy) : fromServer();

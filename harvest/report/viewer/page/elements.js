// Makes elements. Every text goes in as text: nothing here, or anywhere in the page, reads a text as HTML.

export function element(name, settings = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(settings)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "class") made.className = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

const SHOWN_AT_ONCE = 20_000;
const FIRST_SHOWN = 4_000;
const MORE_SHOWN = 100_000;

// The pieces of a text: [text] or [text, why it is marked]. Of a very long piece a part is shown, and a button for more.
export function textOf(pieces) {
  return pieces.flatMap(([text, why]) => {
    if (why === "control") return [element("span", { class: "control", title: "a character that does not show" }, text)];
    if (why) return [element("mark", { title: why }, text)];
    return text.length > SHOWN_AT_ONCE ? long(text) : [text];
  });
}

function long(text) {
  const shown = document.createTextNode(text.slice(0, FIRST_SHOWN));
  const more = element("button", { type: "button", class: "more" });
  let at = FIRST_SHOWN;
  const say = () => {
    more.textContent = `show more: ${(text.length - at).toLocaleString("en")} characters are left`;
  };
  more.addEventListener("click", (event) => {
    event.stopPropagation();
    shown.appendData(text.slice(at, at + MORE_SHOWN));
    at += MORE_SHOWN;
    if (at < text.length) say();
    else more.remove();
  });
  say();
  return [shown, more];
}

export function plain(pieces) {
  return pieces.map(([text]) => text).join("");
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

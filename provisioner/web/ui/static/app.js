"use strict";

// Times stand in UTC until the browser's zone is known here; those that count are kept current.
const short = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function lasted(seconds) {
  let left = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [name, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    parts.push([Math.floor(left / size), name]);
    left %= size;
  }
  while (parts.length > 1 && parts[0][0] === 0) parts.shift();
  return parts.slice(0, 2).filter(([count], at) => count || at === 0).map(([count, name]) => `${count} ${name}`).join(" ");
}

function tell(root) {
  for (const each of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(each.getAttribute("datetime"));
    if (isNaN(moment)) continue;
    const seconds = (Date.now() - moment) / 1000;
    if (each.hasAttribute("data-running")) each.textContent = lasted(seconds);
    else if (each.hasAttribute("data-ago")) each.textContent = seconds < 1 ? "just now" : `${lasted(seconds)} ago`;
    else each.textContent = short.format(moment);
  }
  // A bar that fills with time is full at its max, and stays so.
  for (const each of root.querySelectorAll("progress[data-since]")) {
    each.value = Math.min(each.max, (Date.now() - new Date(each.dataset.since)) / 1000);
  }
}

// A theme is kept in a cookie, so that the server sends the page in it and nothing flickers.
function setTheme(name) {
  document.cookie = `theme=${name}; path=/; max-age=31536000; samesite=lax`;
  document.documentElement.dataset.theme = name;
  for (const each of document.querySelectorAll("[data-set-theme]")) {
    each.setAttribute("aria-pressed", String(each.dataset.setTheme === name));
  }
}

// The menu of the side is open where there is room; the phone opens it by a tap.
function fold() {
  const wide = window.matchMedia("(min-width: 60rem)");
  const set = () => document.querySelectorAll("details[data-wide-open]").forEach((each) => { each.open = wide.matches; });
  wide.addEventListener("change", set);
  set();
}

document.addEventListener("click", (event) => {
  const theme = event.target.closest("[data-set-theme]");
  if (theme) setTheme(theme.dataset.setTheme);
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.querySelectorAll("details.menu[open]").forEach((each) => { each.open = false; });
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const find = document.querySelector(".find input");
    if (find) { event.preventDefault(); find.focus(); }
  }
});

// A form that was changed and not sent is not lost by a wrong click.
let touched = null;
document.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-keep]");
  if (form) touched = form;
});
document.addEventListener("submit", () => { touched = null; });
window.addEventListener("beforeunload", (event) => { if (touched) event.preventDefault(); });

document.addEventListener("DOMContentLoaded", () => {
  fold();
  tell(document);
  // A form that came back goes on where it is wrong.
  const wrong = document.querySelector('main form [aria-invalid="true"]');
  if (wrong) wrong.focus();
});
document.addEventListener("htmx:afterSettle", (event) => tell(event.detail.elt));
setInterval(() => tell(document), 1000);

// The editor of texts: below the textarea lies a copy of its lines with numbers, colours and what a validator says of
// each. Lines that are typed in lose their colours and words until the text is looked at again.
const editors = {
  start() {
    for (const editor of document.querySelectorAll(".editor:not(.live)")) {
      const area = editor.querySelector("textarea");
      editor.classList.add("live");
      area.addEventListener("input", () => editors.follow(editor));
      editors.follow(editor);
    }
  },
  // Keeps what stands before and after the lines that changed.
  follow(editor) {
    const copy = editor.querySelector(".copy");
    const lines = editor.querySelector("textarea").value.split("\n");
    const shown = [...copy.children];
    const same = (line, each) => each.querySelector(".text").textContent === line;
    let top = 0;
    while (top < lines.length && top < shown.length && same(lines[top], shown[top])) top++;
    let end = 0;
    while (end < lines.length - top && end < shown.length - top && same(lines[lines.length - 1 - end], shown[shown.length - 1 - end])) end++;
    const made = lines.slice(top, lines.length - end).map((line) => {
      const each = document.createElement("span");
      const text = document.createElement("span");
      each.className = "line";
      text.className = "text";
      text.textContent = line;
      each.append(text);
      return each;
    });
    shown.slice(top, shown.length - end).forEach((each) => each.remove());
    if (top) copy.children[top - 1].after(...made);
    else copy.prepend(...made);
  },
  // What was found stands in a list somewhere on the page; it is said on its line too.
  mark() {
    const editor = document.querySelector(".editor");
    if (!editor) return;
    const copy = editor.querySelector(".copy");
    copy.querySelectorAll(".said").forEach((each) => each.remove());
    copy.querySelectorAll(".wrong, .odd").forEach((each) => each.classList.remove("wrong", "odd"));
    const found = document.querySelectorAll("[data-mark-line]");
    for (const each of found) {
      const line = copy.children[Number(each.dataset.markLine) - 1];
      if (!line || line.querySelector(".said")) continue;
      const said = document.createElement("b");
      said.className = "said";
      said.textContent = each.dataset.markText;
      line.classList.add(each.dataset.markLevel === "error" ? "wrong" : "odd");
      line.append(said);
    }
    const wrong = copy.querySelector(".wrong");
    editor.querySelector("textarea").toggleAttribute("aria-invalid", Boolean(wrong));
    if (wrong) editor.scrollTop = wrong.offsetTop - editor.clientHeight / 3;
  },
  // To a line: the caret stands at its beginning.
  go(number) {
    const editor = document.querySelector(".editor");
    const line = editor && editor.querySelector(".copy").children[number - 1];
    if (!line) return false;
    const area = editor.querySelector("textarea");
    const at = area.value.split("\n").slice(0, number - 1).reduce((sum, each) => sum + each.length + 1, 0);
    area.focus({ preventScroll: true });
    area.setSelectionRange(at, at);
    line.scrollIntoView({ block: "center" });
    return true;
  },
};
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-go-line]");
  if (link && editors.go(Number(link.dataset.goLine))) event.preventDefault();
});
document.addEventListener("DOMContentLoaded", () => {
  editors.start();
  const place = /^#line-(\d+)$/.exec(location.hash);
  if (place) editors.go(Number(place[1]));
  // What came back from the server unsaved is as good as typed.
  touched = document.querySelector("form[data-keep='typed']");
});
document.addEventListener("htmx:afterSettle", () => {
  editors.start();
  editors.mark();
});

// What is ticked in a list stays ticked over pages, orders and filters: it is kept for this tab, by name, and sent along.
function selection(form) {
  const key = `selection:${form.dataset.selection}`;
  const boxes = [...form.querySelectorAll('tbody input[name="name"]')];
  const find = (what) => form.querySelector(what);
  const all = find("[data-all]"), whole = find("[data-whole]"), told = find("[data-selected]");
  const clear = find("[data-clear]"), elsewhere = find("[data-elsewhere]"), names = find('[name="names"]');
  const chosen = new Set(JSON.parse(sessionStorage.getItem(key) || "[]"));
  const count = (number) => `${number.toLocaleString("en")} machine${number === 1 ? "" : "s"}`;
  let last = null;

  function show() {
    const here = boxes.filter((box) => chosen.has(box.value)).length;
    const everything = Boolean(whole && whole.checked);
    for (const box of boxes) { box.checked = everything || chosen.has(box.value); box.disabled = everything; }
    all.hidden = false;
    all.disabled = everything;
    all.checked = everything || (here > 0 && here === boxes.length);
    all.indeterminate = !everything && here > 0 && here < boxes.length;
    const far = chosen.size - here;
    if (everything) told.textContent = `${count(Number(form.dataset.total))} chosen, on all pages.`;
    else if (!chosen.size) told.textContent = "Tick machines to change, build or cancel several at once.";
    else told.textContent = `${count(chosen.size)} chosen${far ? `, ${far.toLocaleString("en")} of them not on this page` : ""}.`;
    clear.hidden = !chosen.size && !everything;
    elsewhere.hidden = !chosen.size || everything;
    elsewhere.querySelector(".names").textContent = [...chosen].sort().slice(0, 500).join(", ");
    find("[data-do]").hidden = !chosen.size && !everything;
  }

  function choose(box, on) { if (on) chosen.add(box.value); else chosen.delete(box.value); }

  form.addEventListener("click", (event) => {
    const at = boxes.indexOf(event.target);
    if (at < 0) return;
    // With Shift, all from the one that was ticked last to this one.
    if (event.shiftKey && last !== null) boxes.slice(Math.min(at, last), Math.max(at, last) + 1).forEach((box) => choose(box, event.target.checked));
    last = at;
  });
  form.addEventListener("change", (event) => {
    if (boxes.includes(event.target)) choose(event.target, event.target.checked);
    else if (event.target === all) boxes.forEach((box) => choose(box, all.checked));
    else if (event.target !== whole) return;
    sessionStorage.setItem(key, JSON.stringify([...chosen]));
    show();
  });
  clear.addEventListener("click", () => {
    chosen.clear();
    if (whole) whole.checked = false;
    sessionStorage.removeItem(key);
    show();
  });
  form.addEventListener("submit", () => { names.value = [...chosen].join("\n"); });
  window.addEventListener("pageshow", show);
  show();
}

// Work that takes its time is given a name here, and tells under it how far it is.
function underway(tell) {
  const name = [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("");
  const timer = setInterval(async () => {
    try {
      const answer = await fetch(`/underway/${name}`);
      const words = answer.ok && !answer.redirected ? await answer.text() : "";
      if (words && !ended) tell(words);
    } catch { /* the work goes on, whether it can be asked or not */ }
  }, 1000);
  let ended = false;
  return { name, end() { ended = true; clearInterval(timer); } };
}
const works = new WeakMap();
document.addEventListener("htmx:configRequest", (event) => {
  const asks = event.detail.elt.closest("[hx-indicator]");
  const word = asks && document.querySelector(`${asks.getAttribute("hx-indicator")} [data-underway]`);
  if (!word) return;
  word.textContent = "";
  const work = underway((words) => { word.textContent = words; });
  works.set(event.detail.elt, work);
  event.detail.headers["X-Underway"] = work.name;
});
document.addEventListener("htmx:afterRequest", (event) => { works.get(event.detail.elt)?.end(); });

// What was chosen is done with once it is carried out; and a form that takes its time says so, and is sent once.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.selectionEnds) sessionStorage.setItem("selection-ends", `selection:${form.dataset.selectionEnds}`);
  if (!form.dataset.busy || event.defaultPrevented) return;
  const button = event.submitter || form.querySelector('button[type="submit"]');
  const given = form.querySelector('input[name="underway"]') || document.createElement("input");
  const work = underway((words) => { button.textContent = words; });
  Object.assign(given, { type: "hidden", name: "underway", value: work.name });
  form.append(given);
  window.addEventListener("pagehide", () => work.end(), { once: true });
  setTimeout(() => {
    form.setAttribute("aria-busy", "true");
    button.dataset.was = button.textContent;
    button.textContent = form.dataset.busy;
    form.querySelectorAll("button").forEach((each) => { each.disabled = true; });
  });
});
window.addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  for (const form of document.querySelectorAll('form[aria-busy="true"]')) {
    form.removeAttribute("aria-busy");
    form.querySelectorAll("button").forEach((each) => { each.disabled = false; if (each.dataset.was) each.textContent = each.dataset.was; });
  }
});

document.addEventListener("DOMContentLoaded", () => {
  // If the form came back with something to mend, nothing was carried out.
  const ended = sessionStorage.getItem("selection-ends");
  if (ended && !document.querySelector("form[data-selection-ends]")) sessionStorage.removeItem(ended);
  sessionStorage.removeItem("selection-ends");
  document.querySelectorAll("form[data-selection]").forEach(selection);
});

// A part of a page that is renewed leaves open what somebody opened in it.
const opened = new Set();
document.addEventListener("htmx:beforeSwap", (event) => {
  for (const each of event.detail.target.querySelectorAll("details[id][open]")) opened.add(each.id);
});
document.addEventListener("htmx:afterSwap", () => {
  for (const id of opened) {
    const each = document.getElementById(id);
    if (each) each.open = true;
  }
  opened.clear();
});

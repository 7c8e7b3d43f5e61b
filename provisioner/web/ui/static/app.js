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

document.addEventListener("DOMContentLoaded", () => { fold(); tell(document); });
document.addEventListener("htmx:afterSettle", (event) => tell(event.detail.elt));
setInterval(() => tell(document), 1000);

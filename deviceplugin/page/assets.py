"""Style and script of the page: no picture, no font, nothing from elsewhere."""

STYLE = """\
:root {
  color-scheme: light dark;
  --back: #f6f7f9; --card: #ffffff; --text: #16191d; --soft: #4c545e; --line: #c9ced6;
  --bar: #0b63c4; --high: #b3400a; --held: #cfe2fa; --free: #eceff3;
  --good: #0a6b35; --warn: #8a4b00; --bad: #b00020; --badge: #e9edf2; --link: #0a58b0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #111418; --card: #1b2026; --text: #e8ebef; --soft: #a9b2bd; --line: #3b444f;
    --bar: #6aaeff; --high: #ff9a62; --held: #24415f; --free: #252c34;
    --good: #66d08f; --warn: #f1b45d; --bad: #ff8a94; --badge: #29313a; --link: #8cc2ff;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 90rem; padding: 1rem; background: var(--back);
  color: var(--text); font: 1rem/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 1.5rem 0 .5rem; }
h3 { display: inline; font-size: 1rem; margin-right: .5rem; }
p { margin: .35rem 0; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--bar); outline-offset: 2px; }
.skip { position: absolute; left: -100rem; }
.skip:focus { left: 1rem; top: .5rem; background: var(--card); padding: .5rem; }
.facts, figcaption, footer, caption, #live { color: var(--soft); font-size: .875rem; }
.facts { overflow-wrap: anywhere; }
.cards { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); }
.card, .list li { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .75rem; }
.list { list-style: none; padding: 0; margin: 0; display: grid; gap: .5rem; }
.list li { overflow-wrap: anywhere; }
.badge { display: inline-block; border: 1px solid currentColor; border-radius: .75rem;
  padding: 0 .5rem; margin-right: .5rem; font-size: .8125rem; background: var(--badge); }
.healthy { color: var(--good); }
.suspect, .recovering, .warning, .class-warn, .class-setup { color: var(--warn); }
.unhealthy, .critical, .lost, .class-reset, .class-reboot, .class-hardware { color: var(--bad); }
.meter { display: grid; grid-template-columns: 1fr auto; gap: 0 .5rem; margin: .35rem 0; }
.bar { grid-column: 1 / -1; height: .6rem; border-radius: .3rem; background: var(--free);
  border: 1px solid var(--line); overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--bar); }
.bar.high i { background: var(--high); }
.absent { color: var(--soft); }
.layout { display: flex; gap: 2px; list-style: none; padding: 0; margin: .5rem 0; }
.layout li { position: relative; flex: 1 1 0; min-width: 1.5rem; height: 11rem; overflow: hidden;
  border: 1px solid var(--line); border-radius: .25rem; background: var(--free);
  color: var(--text); font-size: .8125rem; padding: .25rem; }
.layout li.held { background: var(--held); }
.layout li.free { border-style: dashed; color: var(--soft); background: none; }
.layout li.unhealthy, .layout li.recovering { border: 2px solid var(--bad); }
.layout i { position: absolute; left: 0; bottom: 0; height: .3rem; background: var(--bar); }
.layout span { display: block; writing-mode: vertical-rl; max-height: 10.4rem; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .35rem 0; font-size: .9rem; }
caption { text-align: left; }
th, td { border: 1px solid var(--line); padding: .2rem .5rem; text-align: left; }
tbody th { font-weight: 500; }
.trends { display: flex; flex-wrap: wrap; gap: .75rem; }
figure { margin: 0; }
.spark { width: 7.5rem; height: 1.5rem; display: block; }
.spark polyline { fill: none; stroke: var(--bar); stroke-width: 1.5; }
footer { margin-top: 1.5rem; border-top: 1px solid var(--line); }
@media (prefers-reduced-motion: no-preference) { .bar i { transition: width .4s; } }
@media (max-width: 30rem) { body { padding: .5rem; } }
"""

SCRIPT = """\
// Renews what has changed, and only that: focus, selection and a reader's place stay.
"use strict";
(() => {
  const page = document.getElementById("page");
  const live = document.getElementById("live");
  const STALE_MS = 15000;
  let last = Date.now(), stale = false;
  let summary = document.getElementById("summary").textContent;

  const parts = (root) => new Map(
    [...root.querySelectorAll("[data-part]")].map((part) => [part.id, part]));
  const leaf = (part) => !part.querySelector("[data-part]");

  function renew(html) {
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    const old = parts(page), wanted = parts(fresh.content);
    const focused = document.activeElement && document.activeElement.closest("[data-part]");
    if ([...old.keys()].join() !== [...wanted.keys()].join()) {
      keepOpen(page, fresh.content);
      page.replaceChildren(fresh.content);
    } else {
      for (const [id, part] of wanted) {
        if (leaf(part)) { exchange(old.get(id), part); }
      }
    }
    if (focused && !document.contains(focused)) { refocus(focused.id); }
  }

  function keepOpen(old, fresh) {
    for (const open of old.querySelectorAll("details[open]")) {
      const same = fresh.querySelector(`#${CSS.escape(open.id)}`);
      if (same) { same.open = true; }
    }
  }

  function exchange(old, part) {
    keepOpen(old, part);
    if (!old.isEqualNode(part)) { old.replaceWith(part); }
  }

  function refocus(id) {
    const part = document.getElementById(id);
    if (!part) { return; }
    const inside = part.querySelector("a, summary, [tabindex]");
    if (inside) { inside.focus({ preventScroll: true }); }
  }

  function say(text) { if (live.textContent !== text) { live.textContent = text; } }

  const source = new EventSource("events");
  source.addEventListener("status", (event) => {
    renew(JSON.parse(event.data));
    last = Date.now();
    const now = document.getElementById("summary").textContent;
    if (now !== summary) { say(`Live: ${now}`); }
    else if (stale || !live.textContent) { say("Live"); }
    stale = false;
    document.documentElement.dataset.live = "yes";
    summary = now;
  });
  setInterval(() => {
    const age = Date.now() - last;
    if (age > STALE_MS) {
      stale = true;
      say(`No news for ${Math.round(age / 1000)} s: the daemon does not answer.`);
    }
  }, 5000);
})();
"""

// Keeps the figures fresh while somebody sees them. The page works without it.
"use strict";

(() => {
  const LONGEST_PAUSE_MS = 60000;
  let live = true;
  let asking = false;
  let pause = 0;
  let timer = 0;

  const figures = () => document.getElementById("figures");
  const button = () => document.getElementById("live");
  const focusable = (region) => [...region.querySelectorAll("a, button, summary, [tabindex]")];

  // As the server has sent it, before a reader opened anything.
  const content = (region) => region.querySelector("#content").innerHTML;
  let known = figures() && content(figures());

  // What the reader has opened, focused and scrolled stays as it is.
  function replace(old, fresh) {
    const news = content(fresh);
    if (news === known) {
      old.querySelector("time").replaceWith(fresh.querySelector("time"));
      return;
    }
    known = news;
    const open = [...old.querySelectorAll("details[open]")].map((details) => details.id);
    const scrolled = [...old.querySelectorAll(".scroll")].map((box) => [box.id, box.scrollLeft, box.scrollTop]);
    const focused = focusable(old).indexOf(document.activeElement);
    old.replaceChildren(...fresh.childNodes);
    for (const id of open) {
      const details = document.getElementById(id);
      if (details) details.open = true;
    }
    for (const [id, left, top] of scrolled) {
      const box = document.getElementById(id);
      if (box) box.scrollTo(left, top);
    }
    show();
    if (focused >= 0) focusable(old)[focused]?.focus({ preventScroll: true });
  }

  function isSelecting(region) {
    const selection = getSelection();
    return !selection.isCollapsed && region.contains(selection.anchorNode);
  }

  async function refresh() {
    const old = figures();
    if (asking) return;
    if (!live || document.hidden || isSelecting(old)) return next();
    asking = true;
    try {
      const response = await fetch(location.href, { headers: { accept: "text/html" } });
      if (!response.ok) throw new Error(response.statusText);
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = page.getElementById("figures");
      // The login is over: the browser is led to the form.
      if (!fresh) return location.reload();
      if (live) replace(old, fresh);
      pause = 0;
      say("");
    } catch {
      pause = Math.min(Math.max(2 * pause, 2000 * Number(old.dataset.fresh)), LONGEST_PAUSE_MS);
      say("The server does not answer; trying again.");
    }
    asking = false;
    next();
  }

  function next() {
    clearTimeout(timer);
    timer = setTimeout(refresh, pause || 1000 * Number(figures().dataset.fresh));
  }

  function say(text) {
    document.getElementById("live-state").textContent = text;
  }

  function show() {
    const shown = button();
    if (!shown) return;
    shown.hidden = false;
    shown.setAttribute("aria-pressed", String(live));
  }

  document.addEventListener("click", (event) => {
    if (event.target !== button()) return;
    live = !live;
    show();
    if (live) refresh();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && button()) refresh();
  });
  if (button()) {
    show();
    next();
  }
})();

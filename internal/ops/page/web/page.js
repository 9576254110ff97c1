// What the status page does beyond links and forms, which work without it: ages that go on, a filter that acts while one types, and
// what the server tells of changes.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const body = document.body;

  // Ages.
  const units = [["d", 86400, "h", 3600], ["h", 3600, "m", 60], ["m", 60, "s", 1]];
  const duration = (seconds) => {
    if (seconds < 1) return "0s";
    for (const [unit, size, lesser, lesserSize] of units) {
      if (seconds < size) continue;
      const rest = Math.floor((seconds % size) / lesserSize);
      return Math.floor(seconds / size) + unit + (rest ? "\u00a0" + rest + lesser : "");
    }
    return Math.floor(seconds) + "s";
  };
  const forms = {
    ago: (s) => duration(-s) + " ago",
    age: (s) => duration(-s),
    in: (s) => (s > 0 ? "in " + duration(s) : "due"),
  };
  const tick = (root) => {
    const now = Date.now();
    for (const time of root.querySelectorAll("time[data-form]")) {
      const text = forms[time.dataset.form]((Date.parse(time.dateTime) - now) / 1000);
      if (time.textContent !== text) time.textContent = text;
    }
  };
  setInterval(() => document.hidden || tick(document), 1000);

  // The filter of the overview.
  const table = $("payers"), box = $("q");
  let tag = new URLSearchParams(location.search).get("state") || "";
  const filter = () => {
    if (!table || !box) return;
    const query = box.value.trim().toLowerCase();
    let hidden = 0;
    for (const row of table.tBodies) {
      const tags = row.dataset.tags.split(" ");
      row.hidden = (tag !== "" && !tags.includes(tag)) || !row.dataset.name.includes(query);
      hidden += row.hidden;
    }
    const all = table.tBodies.length;
    const text = hidden ? `${all - hidden} of ${all} payers shown` : "";
    if ($("matches").textContent !== text) $("matches").textContent = text;
    for (const figure of document.querySelectorAll(".figure")) {
      if (figure.dataset.tag === tag) figure.setAttribute("aria-current", "true");
      else figure.removeAttribute("aria-current");
    }
  };
  if (box) {
    const address = () => {
      const query = new URLSearchParams();
      if (box.value.trim()) query.set("q", box.value.trim());
      if (tag) query.set("state", tag);
      history.replaceState(null, "", query.size ? "?" + query : "/");
    };
    box.addEventListener("input", () => { filter(); address(); });
    $("filter").addEventListener("submit", (event) => { event.preventDefault(); filter(); });
    $("filter").querySelector("button").hidden = true;
    document.addEventListener("click", (event) => {
      const figure = event.target.closest && event.target.closest(".figure");
      if (!figure || event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      tag = tag === figure.dataset.tag ? "" : figure.dataset.tag;
      filter();
      address();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && !event.target.closest("input, select, textarea") && !event.metaKey && !event.ctrlKey) {
        event.preventDefault();
        box.focus();
      } else if (event.key === "Escape" && event.target === box && box.value) {
        box.value = "";
        filter();
        address();
      }
    });
  }

  // Exchange of a part of the page, which keeps the focus, what is open, and what is scrolled. A part that is in use waits.
  const reachable = "a[href], button, input, select, summary, [tabindex]";
  const inUse = (old) => {
    const chosen = getSelection();
    return old.matches(":active") || old.querySelector(":active") !== null ||
      (chosen && !chosen.isCollapsed && chosen.rangeCount > 0 && chosen.getRangeAt(0).intersectsNode(old));
  };
  const swap = (old, fresh) => {
    const focused = old.contains(document.activeElement) ? [...old.querySelectorAll(reachable)].indexOf(document.activeElement) : -1;
    const label = focused >= 0 ? document.activeElement.textContent : "";
    const open = [...old.querySelectorAll("details")].map((d) => d.open);
    const scrolled = [...old.querySelectorAll(".scroll")].map((s) => [s.scrollLeft, s.scrollTop]);
    old.replaceWith(fresh);
    fresh.querySelectorAll("details").forEach((d, i) => { if (open[i]) d.open = true; });
    fresh.querySelectorAll(".scroll").forEach((s, i) => { if (scrolled[i]) [s.scrollLeft, s.scrollTop] = scrolled[i]; });
    if (focused >= 0) {
      const all = [...fresh.querySelectorAll(reachable)];
      const again = all.find((e) => e.textContent === label) || all[Math.min(focused, all.length - 1)];
      if (again) again.focus({ preventScroll: true });
    }
    tick(fresh);
  };
  const parse = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content.firstElementChild;
  };
  const say = (text) => { $("announce").textContent = text; };

  // What the overview is told.
  let waiting = {};
  const putRows = () => {
    for (const [payer, html] of Object.entries(waiting)) {
      const old = $("payer-" + payer);
      const fresh = parse("<table>" + html + "</table>").tBodies[0];
      if (!old) {
        table.append(fresh);
      } else if (inUse(old)) {
        continue;
      } else {
        const state = fresh.dataset.state;
        if (state !== old.dataset.state) {
          fresh.classList.add("fresh-change");
          if (state === "failed" || state === "held") say(`${payer}: ${state}`);
        }
        swap(old, fresh);
      }
      delete waiting[payer];
    }
    filter();
  };
  const putOrder = (order) => {
    const holder = document.activeElement;
    const moved = order.map((payer) => $("payer-" + payer)).filter(Boolean);
    const kept = new Set(order);
    for (const row of [...table.tBodies]) if (!kept.has(row.dataset.name)) row.remove();
    moved.forEach((row, i) => {
      if (table.tBodies[i] !== row) table.insertBefore(row, table.tBodies[i] || null);
    });
    if (holder !== document.activeElement && table.contains(holder)) holder.focus({ preventScroll: true });
  };
  const setDown = (down) => {
    const note = $("down");
    if (note.hidden === !down) return;
    note.hidden = !down;
  };
  const putNews = (news) => {
    setDown(news.down);
    for (const figure of document.querySelectorAll(".figure")) {
      const n = news.figures && news.figures[figure.dataset.label];
      if (n === undefined) continue;
      const tones = { failed: "bad", held: "warn", stale: "warn", running: "busy", waiting: "busy", paused: "off", "in order": "ok" };
      const text = n.toLocaleString("en-US");
      const shown = figure.querySelector("b");
      if (shown.textContent !== text) shown.textContent = text;
      const tone = tones[figure.dataset.label];
      if (tone) figure.classList.toggle(tone, n > 0);
    }
    if (news.summary) {
      const fresh = document.createElement("div");
      fresh.id = "system";
      fresh.innerHTML = news.summary;
      const old = $("system");
      if (!inUse(old) && !old.contains(document.activeElement)) swap(old, fresh);
    }
    Object.assign(waiting, news.rows);
    if (table) {
      putRows();
      if (news.order) putOrder(news.order);
    } else if (news.rows) {
      location.reload(); // the first payer of a configuration that had none
    }
  };
  setInterval(() => Object.keys(waiting).length && putRows(), 700);

  // What other pages are told: that something changed. They are then asked for again.
  let asking = false, again = false;
  const refresh = async () => {
    if (asking) { again = true; return; }
    asking = true;
    try {
      const response = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "error" });
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      const old = $("refreshed"), part = fresh.getElementById("refreshed");
      if (response.ok && part && !inUse(old)) {
        swap(old, document.adoptNode(part));
        setDown(!fresh.getElementById("down").hidden);
      }
    } catch { // the next change asks again
    } finally {
      asking = false;
      if (again) { again = false; setTimeout(refresh, 500); }
    }
  };

  // The stream. It rests while nobody looks, so that tabs in the background keep no connections.
  if ("follows" in body.dataset && window.EventSource) {
    let source = null, sequence = body.dataset.sequence, boot = body.dataset.boot, pause = 2000, timer = 0;
    const watch = body.dataset.watch;
    const live = $("live"), liveText = $("live-text");
    const connected = (yes) => {
      live.hidden = false;
      live.classList.toggle("lost", !yes);
      const text = yes ? "live" : "not connected";
      if (liveText.textContent !== text) liveText.textContent = text;
    };
    const close = () => { if (source) source.close(); source = null; clearTimeout(timer); };
    const open = () => {
      close();
      if (document.hidden) return;
      const query = new URLSearchParams({ sequence, boot });
      if (watch) query.set("watch", watch);
      source = new EventSource("/stream?" + query);
      source.addEventListener("open", () => { connected(true); pause = 2000; });
      // The browser's own attempts would begin at the number that the page was loaded with.
      source.addEventListener("error", () => {
        connected(false);
        close();
        timer = setTimeout(open, pause);
        pause = Math.min(pause * 2, 30000);
      });
      const told = (put) => (event) => {
        const news = JSON.parse(event.data);
        sequence = news.sequence;
        boot = news.boot;
        put(news);
      };
      source.addEventListener("news", told(putNews));
      source.addEventListener("changed", told(refresh));
    };
    document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
    addEventListener("pagehide", close);
    addEventListener("pageshow", (event) => { if (event.persisted) open(); });
    open();
    if (watch) setInterval(() => document.hidden || refresh(), 30000);
  }

  // Buttons act without leaving the page, its filter and its place.
  const act = $("act");
  act.addEventListener("submit", async (event) => {
    const button = event.submitter;
    if (!button || !act.elements.csrf.value) return; // nobody has signed in: the server leads there
    event.preventDefault();
    // Not disabled: that would take the focus from it, and the row under it may be exchanged meanwhile.
    if (button.ariaBusy === "true") return;
    button.ariaBusy = "true";
    try {
      const form = new FormData(act, button);
      const response = await fetch(button.formAction, { method: "POST", body: new URLSearchParams(form), headers: { Accept: "text/html" } });
      if (response.redirected && new URL(response.url).pathname === "/sign-in") { location.href = "/sign-in"; return; }
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const said = $("said"), heading = page.querySelector("h1"), note = page.getElementById("said");
      const hint = page.querySelector(".plain p:not(.code):not(.buttons)");
      said.className = response.ok ? "note ok" : "note bad";
      said.hidden = false;
      said.textContent = response.ok ? note.textContent : heading.textContent + (hint ? " " + hint.textContent : "");
      if (response.ok && $("refreshed")) refresh();
    } catch {
      $("said").className = "note bad";
      $("said").hidden = false;
      $("said").textContent = "The daemon does not answer.";
    } finally {
      button.ariaBusy = null;
    }
  });

  filter();
})();

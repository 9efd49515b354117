"use strict";
const limit = Number(document.querySelector("main").dataset.limit);
const sessions = new Map(), transfers = new Map();
let terminals = [];
const $ = id => document.getElementById(id);
const link = text => put($("link"), text);
function notice(text, wrong) {
  put($("notice"), text);
  $("notice").classList.toggle("wrong", !!wrong);
}
// put changes a text only when it is another one: what the reader marked stays marked.
function put(node, text) { if (node.textContent !== text) node.textContent = text }
function make(tag, cls, text) {
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  if (text) node.textContent = text;
  return node;
}

function clock(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const t = Math.max(0, Math.round(seconds * 10)), pad = n => String(n).padStart(2, "0");
  return Math.floor(t / 36000) + ":" + pad(Math.floor(t / 600) % 60) + ":" + pad(Math.floor(t / 10) % 60) + "." + t % 10;
}
const who = aor => aor ? aor.replace(/^sips?:/, "") : "–";
const place = t => t.name && t.name !== t.ip ? t.name + " (" + t.ip + ")" : t.ip || "–";
function when(at) {
  if (!at) return "–";
  const d = new Date(at), time = d.toLocaleTimeString();
  return d.toDateString() === new Date().toDateString() ? time : d.toLocaleDateString() + " " + time;
}

// So many sessions are not read again and again: what changes comes as an event, and positions
// are counted on.
const many = () => sessions.size > 1000;

// How far this browser's clock is ahead of the gateway's: positions of a list are those of the
// moment of the answer.
let ahead = 0;
function position(s) {
  if (!s.position || s.position.npt === null) return null;
  const since = s.state === "playing" ? (Date.now() - ahead - Date.parse(s.position.at)) / 1000 : 0;
  const npt = s.position.npt + Math.min(many() ? 3600 : 15, Math.max(0, since));
  return s.duration === null ? npt : Math.min(npt, s.duration);
}

async function call(method, path, data) {
  let r;
  try {
    r = await fetch(path, {method, headers: data ? {"Content-Type": "application/json"} : {}, body: data && JSON.stringify(data)});
  } catch { throw new Error("scas does not answer") }
  const answer = await r.json().catch(() => ({}));
  if (!r.ok) throw new Error(answer.error || r.statusText);
  return answer;
}
function act(label, about, work) {
  const b = make("button", "", label);
  b.setAttribute("aria-label", label + " " + about);
  b.onclick = async () => { b.disabled = true; notice(""); try { await work() } catch (e) { notice(e.message, true) } b.disabled = false };
  return b;
}
const others = s => s.state === "ended" || s.opaque ? [] : terminals.filter(t => t.ip && t.aor === s.aor && t.ip !== s.terminal.ip);
function mover(s) {
  const form = make("span", "move"), pick = make("select");
  if (!others(s).length) return null;
  pick.setAttribute("aria-label", "terminal to move the film of " + s.terminal.name + " to");
  for (const t of others(s)) pick.add(new Option(t.name, t.ip));
  form.append(pick, act("Move", "the film of " + s.terminal.name, async () => {
    const t = await call("POST", "/v1/transfers", {session: s.id, to: pick.value});
    notice("Now open " + t.url + " on " + t.to.name + ".");
  }));
  return form;
}

// A table keeps a row as long as there is something it shows, so that a choice, the focus or a
// mark in it is not lost. labels are the columns' names; a column without one holds buttons.
function keeper(id, labels, empty) {
  const rows = new Map();
  let body = $(id).tBodies[0], begun = false;
  function row(key, what) {
    const old = rows.get(key);
    if (old && old.what === what) return old;
    const made = {what, tr: make("tr"), cells: [], fresh: true};
    made.tr.setAttribute("role", "row");
    for (const label of labels) {
      const td = made.tr.insertCell();
      td.setAttribute("role", "cell");
      if (label) td.dataset.label = label; else td.className = "none";
      made.cells.push(td.appendChild(make("span")));
    }
    if (old) old.tr.replaceWith(made.tr);
    rows.set(key, made);
    return made;
  }
  // draw shows list; each tells the key, what decides on new cells, and fills them.
  return function (list, each) {
    if (!begun) { body.replaceChildren(); begun = true }
    const kept = new Set(list.map(x => each.key(x)));
    for (const [key, r] of rows) if (!kept.has(key)) { r.tr.remove(); rows.delete(key) }
    list.forEach((x, i) => {
      const r = row(each.key(x), each.what(x));
      if (body.rows[i] !== r.tr) body.insertBefore(r.tr, body.rows[i] || null);
      each.fill(x, r);
      r.fresh = false;
    });
    while (body.rows.length > list.length) body.lastChild.remove();
    if (!list.length) {
      const td = body.insertRow().insertCell();
      td.colSpan = labels.length; td.className = "soft"; td.textContent = empty;
    }
  };
}
function pill(span, state, more) {
  if (!span.firstChild) span.append(make("span", "", ""), "");
  span.firstChild.className = "pill " + state;
  put(span.firstChild, state);
  if (span.lastChild.data !== more) span.lastChild.data = more;
}
function named(span, text, aor) {
  if (!span.firstChild) span.append("", make("small"));
  if (span.firstChild.data !== text) span.firstChild.data = text;
  put(span.lastChild, aor ? who(aor) : "");
}

const tables = {
  sessions: keeper("sessions", ["Terminal", "State", "Position", "Film", "Via", ""], "nothing plays on an enrolled terminal"),
  transfers: keeper("transfers", ["From, to", "State", "Ordered", "Goes on at", "Seen twice", "To open there", ""], "no film was moved yet"),
  terminals: keeper("terminals", ["Name", "Address", "User", "Plays", "Known by"], "no terminal is enrolled"),
};
const aSession = {
  key: s => s.id, what: s => others(s).map(t => t.ip + t.name).join(),
  fill(s, {tr, cells, fresh}) {
    const [name, state, at, film, via, move] = cells, npt = position(s);
    if (fresh) {
      at.append(make("span"), " ", make("span", "soft"));
      at.parentNode.classList.add("time"); film.parentNode.className = "wide";
      const form = mover(s);
      if (form) { move.append(form); move.parentNode.className = ""; move.parentNode.dataset.label = "Move to" }
    }
    tr.className = s.state === "ended" ? "over" : "";
    named(name, place(s.terminal), s.aor);
    pill(state, s.state, ["steered", "lossy", "opaque"].filter(k => s[k]).map(k => " " + k).join(""));
    put(at.children[0], clock(npt));
    put(at.children[1], s.live ? "live" : s.duration === null ? "" : "of " + clock(s.duration));
    let bar = at.querySelector("progress");
    if (npt !== null && s.duration > 0 && s.state !== "ended") {
      if (!bar) { bar = at.appendChild(make("progress")); bar.setAttribute("aria-hidden", "true") }
      bar.max = s.duration; bar.value = npt;
    } else if (bar) bar.remove();
    put(film, s.url || "–"); put(via, s.protocol + "/" + s.transport);
  },
};
const open = t => ["offered", "armed", "attached"].includes(t.state);
const began = t => Object.values(t.times).filter(x => x).sort()[0] || "";
const aTransfer = {
  key: t => t.id, what: t => open(t),
  fill(t, {cells, fresh}) {
    const [ends, state, ordered, at, twice, url, cancel] = cells;
    if (fresh) {
      for (const c of [ordered, at, twice]) c.parentNode.classList.add("time");
      url.parentNode.className = "wide";
      if (open(t)) {
        cancel.append(act("Cancel", "the move to " + t.to.name, () => call("DELETE", "/v1/transfers/" + encodeURIComponent(t.id))));
        cancel.parentNode.className = ""; cancel.parentNode.dataset.label = "Cancel";
      }
    }
    named(ends, t.from.name + " → " + t.to.name, t.aor);
    pill(state, t.state, t.reason ? " " + t.reason : "");
    put(ordered, when(began(t))); put(at, clock(t.position)); put(url, t.url);
    put(twice, t.repeated === null ? "–" : t.repeated.toFixed(1) + " s");
  },
};
const aTerminal = {
  key: t => [t.aor, t.name, t.ip, t.instance].join(), what: () => "",
  fill(t, {cells}) { [t.name, t.ip || "–", who(t.aor), t.active ? "yes" : "no", t.source].forEach((text, i) => put(cells[i], text)) },
};
const newest = (map, key) => [...map.values()].sort((a, b) => key(a) < key(b) ? 1 : -1);
function draw() {
  const list = newest(sessions, s => s.started), over = s => s.state === "ended";
  tables.sessions([...list.filter(s => !over(s)), ...list.filter(over)].slice(0, limit), aSession);
  tables.transfers(newest(transfers, began).slice(0, limit), aTransfer);
  tables.terminals(terminals, aTerminal);
}

async function readAll() {
  const [ss, ts, es] = await Promise.all(["sessions", "transfers", "terminals"].map(p => call("GET", "/v1/" + p)));
  sessions.clear(); transfers.clear();
  for (const s of ss) sessions.set(s.id, s);
  for (const t of ts) transfers.set(t.id, t);
  terminals = es;
  const lags = ss.filter(s => s.state === "playing" && s.position).map(s => Date.now() - Date.parse(s.position.at));
  if (lags.length) ahead = Math.min(...lags);
  draw();
}
let events, soon = 0;
function change(map) {
  return e => {
    const x = JSON.parse(e.data);
    map.set(x.id, x);
    if (!soon) soon = setTimeout(() => { soon = 0; draw() }, many() ? 2000 : 100);
  };
}
function follow() {
  events = new EventSource("/v1/events");
  events.onopen = () => { link("live"); readAll().catch(e => notice(e.message, true)) };
  events.onerror = () => {
    link("no connection; trying again");
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, 5000); // refused: the browser has given up
  };
  events.addEventListener("session", change(sessions));
  events.addEventListener("transfer", change(transfers));
}
follow();
let ticks = 0;
setInterval(() => { if (!document.hidden && !soon && (++ticks % 10 === 0 || !many())) draw() }, 500);
setInterval(() => { if (!document.hidden && !many() && events.readyState === EventSource.OPEN) readAll().catch(() => {}) }, 10000);

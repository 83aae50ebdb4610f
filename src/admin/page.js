// Shows each event of the gateway's stream. An event is the whole state, so nothing is kept between them.
"use strict";

const OUTCOMES = ["forwarded", "rejected", "failed", "abandoned"];
const RATES = 120;

// Events come once a second: after this long without one the connection is as good as lost, even if
// nothing has said so, and after that long a new one is tried.
const LOST_AFTER = 3500;
const RETRY_AFTER = 8000;

const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function cell(value) {
  return element("td", { className: value === 0 ? "number zero" : "number" }, number.format(value));
}

function show(id, text) {
  const place = byId(id);
  if (place.textContent !== text) place.textContent = text;
}

function showRows(id, rows) {
  const table = byId(id);
  table.tBodies[0].replaceChildren(...rows);
  const empty = byId(`${id}-empty`);
  if (empty) {
    table.hidden = rows.length === 0;
    empty.hidden = rows.length > 0;
  }
}

function duration(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = units.findIndex(([size]) => seconds >= size);
  if (first < 0) return "0 s";
  const [[size, unit], finer] = [units[first], units[first + 1]];
  const rest = finer ? Math.floor((seconds % size) / finer[0]) : 0;
  return `${Math.floor(seconds / size)} ${unit}` + (rest ? ` ${rest} ${finer[1]}` : "");
}

function latency(milliseconds) {
  if (milliseconds === null) return "–";
  if (milliseconds >= 1000) return `${number.format(milliseconds / 1000)} s`;
  return `${milliseconds >= 1 ? number.format(milliseconds) : milliseconds.toFixed(2)} ms`;
}

function limited(count, limit) {
  return [number.format(count), " ", element("small", {}, `of ${number.format(limit)}`)];
}

// The next 1, 2 or 5 with zeros, so that the scale stays calm.
function scaleFor(highest) {
  const power = 10 ** Math.floor(Math.log10(Math.max(highest, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= highest);
}

function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function showRates(rates) {
  const [width, height] = [720, 120];
  const total = (rate) => rate.reduce((sum, part) => sum + part, 0);
  const scale = scaleFor(Math.max(0, ...rates.map(total)));
  const step = width / RATES;
  const left = width - rates.length * step;
  const paths = OUTCOMES.map((outcome, index) => {
    // One bar a second, each outcome's part on top of those before it.
    const bars = rates.map((rate, second) => {
      const below = total(rate.slice(0, index));
      const [bottom, top] = [below, below + rate[index]].map((value) => height - (value / scale) * height);
      const [from, to] = [left + second * step, left + (second + 0.82) * step].map((x) => x.toFixed(2));
      return rate[index] > 0 ? `M${from} ${bottom.toFixed(2)}V${top.toFixed(2)}H${to}V${bottom.toFixed(2)}Z` : "";
    });
    return svg("path", { class: outcome, d: bars.join("") });
  });
  const grid = svg("path", { class: "grid", d: `M0 0.5H${width}M0 ${height / 2}H${width}` });
  byId("chart").replaceChildren(grid, ...paths);
  show("chart-top", number.format(scale));
  const latest = rates.at(-1) ?? [0, 0, 0, 0];
  const labels = byId("legend").children;
  latest.forEach((rate, index) => (labels[index].lastElementChild.textContent = number.format(rate)));
  show("rate", number.format(total(latest)));
}

function showCodes(codes) {
  const rows = codes
    .sort((a, b) => b.minute - a.minute || b.total - a.total)
    .map(({ code, title, outcome, minute, total, observed }) => {
      const passed = cell(observed);
      passed.classList.add("observed");
      const name = element("th", { scope: "row", title }, element("span", { className: `code ${outcome}` }, code));
      return element("tr", {}, name, cell(minute), cell(total), passed);
    });
  showRows("codes", rows);
}

function showUsers(users) {
  const rows = users.map(({ name, is_listed, remaining, burst, whole_in_ms, refused }) => {
    const left = is_listed
      ? [
          element("meter", { max: burst, value: remaining, low: burst / 4, high: burst / 2, optimum: burst, ariaLabel: `${name}: left of burst` }),
          element("span", { className: "together" }, `${remaining} of ${burst}`),
          element("small", {}, whole_in_ms ? `whole again in ${duration(whole_in_ms + 999)}` : "whole"),
        ]
      : [`was over its ${burst}`, element("small", {}, "not listed")];
    return element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, ...left), cell(refused));
  });
  showRows("users", rows);
}

// Who is shut out, the latest first; there may be more than are listed.
function showBlocked(count, blocked) {
  byId("blocks").hidden = count === 0;
  show("blocked-count", count > blocked.length ? `the last ${blocked.length} of ${number.format(count)}` : "");
  const row = ({ network, let_in_ms }) =>
    element("tr", {}, element("th", { scope: "row" }, network), element("td", {}, `in ${duration(let_in_ms + 999)}`));
  showRows("blocked", blocked.map(row));
}

function showRefusals(refusals) {
  const rows = refusals.map(({ time, client, user, outcome, code, title, peer, times }) => {
    const at = new Date(time);
    const why = element("td", {}, element("span", { className: `code ${outcome}` }, code));
    why.append(element("small", {}, peer ? `${title} (${peer})` : title));
    return element(
      "tr",
      {},
      element("td", {}, element("time", { dateTime: at.toISOString() }, clock.format(at))),
      element("td", {}, client ?? ""),
      element("td", {}, user ?? ""),
      why,
      cell(times),
    );
  });
  showRows("refusals", rows);
}

function showSuspects(suspects, watches) {
  const rows = suspects.map(({ time, client, name, is_listed, count, distinct, per_ms, is_refused, times }) => {
    const at = new Date(time);
    const from = [is_listed ? "listed" : "not listed", client].filter(Boolean).join(", ");
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, name, element("small", {}, from)),
      element("td", {}, number.format(count), element("small", {}, `may be ${distinct} in ${duration(per_ms)}`)),
      element(
        "td",
        {},
        element("span", { className: `code ${is_refused ? "rejected" : "forwarded"}` }, is_refused ? "refused" : "let pass"),
        element("small", {}, element("time", { dateTime: at.toISOString() }, clock.format(at))),
      ),
      cell(times),
    );
  });
  showRows("suspects", rows);
  show("suspects-empty", watches ? "No one is." : "Not counted: the configuration has no [enumeration].");
}

const UNLOCKS = {
  unlocked: ["unlocked", "2xx and true"],
  refused: ["refused", "4xx, or another answer"],
  unreadable: ["unreadable", "5xx, or no answer"],
};

const STANDINGS = {
  open: "healthy",
  due: "could not be connected to; about to be tried",
  ejected: "could not be connected to; passed over",
  unfit: "failing its checks",
  unknown: "its name does not resolve",
};

function showPeers(peers) {
  const rows = peers.map(({ name, address, standing, trouble, in_flight }) => {
    const health = element("td", {}, element("span", { className: `health ${standing}` }, STANDINGS[standing]));
    if (trouble) health.append(element("small", {}, trouble));
    const head = element("th", { scope: "row" }, name);
    if (address && address !== name) head.append(element("small", {}, address));
    return element("tr", {}, head, health, cell(in_flight));
  });
  showRows("peers", rows);
}

function showState(state) {
  // What users ask for may be observed by itself.
  document.body.classList.toggle("observes", state.observes || state.codes.some(({ observed }) => observed > 0));
  show("version", state.version);
  byId("in-flight").replaceChildren(...limited(state.in_flight, state.max_in_flight));
  byId("connections").replaceChildren(...limited(state.connections, state.max_connections));
  show("config-age", duration(state.time - state.config_since));
  showRates(state.rates);
  const quantiles = ({ of, count, quantiles }) => {
    const name = element("th", { scope: "row" }, of, element("small", {}, `${number.format(count)} calls`));
    return element("tr", {}, name, ...quantiles.map((time) => element("td", { className: "number" }, latency(time))));
  };
  showRows("latency", state.latency.map(quantiles));
  const unlocks = ({ result, minute, total }) => {
    const [name, meaning] = UNLOCKS[result];
    const head = element("th", { scope: "row" }, name, element("small", {}, meaning));
    return element("tr", {}, head, cell(minute), cell(total));
  };
  showRows("unlocks", state.unlocks.map(unlocks));
  showPeers(state.peers);
  showCodes(state.codes);
  showUsers(state.users);
  showBlocked(state.clients_blocked, state.blocked);
  showSuspects(state.suspects, state.watches);
  showRefusals(state.refusals);
  const notices = [
    state.observes && "Observe mode: rules are judged and counted, but most do not refuse.",
    state.phase === "draining" && "The gateway is draining: it finishes what is in flight and stops.",
    !state.config_is_current && "The last reload failed: the configuration in force is an older one. The gateway's log says why.",
    state.audit_errors > 0 && `${number.format(state.audit_errors)} audit records could not be written.`,
    state.log_lines_dropped > 0 && `${number.format(state.log_lines_dropped)} access log lines were dropped.`,
  ].filter(Boolean);
  byId("notice").hidden = notices.length === 0;
  show("notice", notices.join(" "));
}

let source;
let lastEvent = 0;
let lastAttempt = 0;
let version;

// Said only when it changes, so that a screen reader is not told every second.
function say(status, text) {
  document.body.classList.toggle("live", status === "live");
  document.body.classList.toggle("lost", status === "lost");
  document.body.classList.toggle("waiting", status === "waiting");
  document.title = status === "lost" ? "Connection lost – n4n-gateway" : "n4n-gateway";
  show("status", text);
}

function connect() {
  source?.close();
  lastAttempt = Date.now();
  // Relative, as every link of the page: a proxy may have put it at a path.
  source = new EventSource("events");
  source.onmessage = ({ data }) => {
    const state = JSON.parse(data);
    // Another version may come with another page.
    if (version && version !== state.version) location.reload();
    version = state.version;
    lastEvent = Date.now();
    showState(state);
    say("live", "Live");
  };
  source.onerror = lost;
}

function lost() {
  if (lastEvent) {
    say("lost", `Connection to the gateway lost at ${clock.format(lastEvent)}; trying again …`);
  } else {
    say("waiting", "No answer from the gateway; trying again …");
  }
}

setInterval(() => {
  const quiet = Date.now() - Math.max(lastEvent, lastAttempt);
  if (quiet > LOST_AFTER) lost();
  const isGivenUp = source.readyState === EventSource.CLOSED && quiet > 1500;
  if (quiet > RETRY_AFTER || isGivenUp) connect();
}, 1000);

connect();

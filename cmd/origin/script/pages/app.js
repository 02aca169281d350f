"use strict";
// Shows how each resource of this page arrived: by Resource Timing what the
// browser did, and by a HEAD request what the edge says of its copy.

const body = document.querySelector("#resources tbody");
const summary = document.querySelector("#summary");

function row(entry) {
  const moved = entry.transferSize;
  const cached = moved === 0 && entry.decodedBodySize > 0;
  const cells = [
    new URL(entry.name).pathname,
    entry.nextHopProtocol || "-",
    cached ? "0 (browser cache)" : String(moved),
    entry.duration.toFixed(1),
    "",
    "",
  ];
  const tr = document.createElement("tr");
  for (const text of cells) {
    const td = document.createElement("td");
    td.textContent = text;
    tr.append(td);
  }
  body.append(tr);
  return { tr, entry, cached };
}

async function ask({ tr, entry }) {
  try {
    const response = await fetch(entry.name, { method: "HEAD", cache: "no-store" });
    tr.cells[4].textContent = response.headers.get("Age") ?? "-";
    tr.cells[5].textContent = response.headers.get("Cache-Status") ?? "none: straight from the origin";
    return /;\s*hit\b/.test(tr.cells[5].textContent);
  } catch (error) {
    tr.cells[5].textContent = String(error);
    return false;
  }
}

let rows = [];

async function askAll() {
  const hits = (await Promise.all(rows.map(ask))).filter(Boolean).length;
  const browser = rows.filter((r) => r.cached).length;
  summary.textContent =
    `${rows.length} resources: ${browser} from the browser's own cache; the edge now answers ${hits} from its cache.`;
  document.body.dataset.edgeHits = String(hits);
}

addEventListener("load", () => {
  const entries = [
    ...performance.getEntriesByType("navigation"),
    ...performance.getEntriesByType("resource"),
  ];
  rows = entries.map(row);
  document.body.dataset.resources = String(rows.length);
  askAll();
  document.querySelector("#again").addEventListener("click", askAll);
});

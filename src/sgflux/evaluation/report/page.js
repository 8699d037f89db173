"use strict";
// Filters, drawings over the pictures, and downloads that are made in the page.
const one = (query, within = document) => within.querySelector(query);
const all = (query, within = document) => [...within.querySelectorAll(query)];
const rows = JSON.parse(one("#rows").textContent);
all("[hidden].tools").forEach((tools) => (tools.hidden = false));

function save(name, type, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// --- tables: the first column of a grouped table is its group
function cells(table) {
  let group = null;
  const lines = [];
  for (const row of all("tr", table)) {
    if (row.classList.contains("group")) { group = row.textContent.trim(); continue; }
    const line = [...row.cells].filter((cell) => !cell.matches(".meter")).map((cell) => {
      const copy = cell.cloneNode(true);
      all(".told", copy).forEach((note) => note.remove());
      return copy.textContent.replace(/\s+/g, " ").trim();
    });
    if (one("tr.group", table)) line.unshift(row.closest("thead") ? "group" : group);
    lines.push(line);
  }
  return lines;
}
const quoted = (text) => (/[",\n]/.test(text) ? `"${String(text).replaceAll('"', '""')}"` : text);
const csv = (lines) => lines.map((line) => line.map((t) => quoted(String(t))).join(",") + "\n").join("");
const SIGNS = {
  "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_", "{": "\\{", "}": "\\}",
  "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "⁺": "$^{+}$", "⁻": "$^{-}$", "∅": "$\\emptyset$",
  "<": "$<$", ">": "$>$", "−": "$-$", "–": "--", "“": "``", "”": "''", "†": "$^\\dagger$",
};
const tex = (lines) => {
  const [head, ...body] = lines.map((line) => line.map((t) => t.replace(/./gu, (c) => SIGNS[c] ?? c)).join(" & ") + " \\\\");
  const columns = "l".padEnd(lines[0].length, "r");
  return ["% needs booktabs", `\\begin{tabular}{${columns}}`, "\\toprule", head, "\\midrule", ...body, "\\bottomrule", "\\end{tabular}", ""].join("\n");
};

// --- charts: colours become attributes, always those of the light page
const STYLES = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "font-size", "font-weight", "font-family", "paint-order"];
function drawing(svg) {
  const paper = document.createElement("div");
  paper.className = "light";
  const copy = svg.cloneNode(true);
  paper.append(copy);
  document.body.append(paper);
  for (const part of all("*", copy)) {
    const style = getComputedStyle(part);
    STYLES.forEach((name) => part.setAttribute(name, style.getPropertyValue(name)));
  }
  const [, , width, height] = copy.getAttribute("viewBox").split(" ");
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.setAttribute("font-family", "sans-serif");
  paper.remove();
  return new XMLSerializer().serializeToString(copy);
}

document.addEventListener("click", ({ target }) => {
  const { svg, table, as, every } = target.dataset;
  if (svg) save(`${svg}.svg`, "image/svg+xml", drawing(one(`#${svg}`)));
  if (table && as === "csv") save(`${table}.csv`, "text/csv", csv(cells(one(`#${table}`))));
  if (table && as === "tex") save(`${table}.tex`, "text/plain", tex(cells(one(`#${table}`))));
  if (every) save("pictures.csv", "text/csv", csv([rows.columns, ...rows.rows]));
});

// --- what is shown of the pictures
const filters = one("#filters");
const at = (name) => rows.columns.indexOf(name);
const noiseOf = (line) => `${line[at("row")]} ${line[at("repeat")]}`;
// Item and noise -> the verdicts under the true graph, which all lines of this noise are filtered by.
const outcomes = new Map(rows.rows.filter((line) => line[at("arm")] === "graph")
  .map((line) => [noiseOf(line), line[at("verdicts")].replaceAll("; ", "|")]));
let shown = 50;

function row(line) {
  const tr = document.createElement("tr");
  for (const name of ["row", "arm", "repeat", "seed", "statements", "verdicts", "told", "path"]) {
    const td = document.createElement("td");
    td.textContent = line[at(name)] ?? "";
    tr.append(td);
  }
  return tr;
}

function filter() {
  const { choice, predicate, verdict } = Object.fromEntries(new FormData(filters));
  const fits = (value, given) => !value || given.split("|").includes(value);
  let count = 0;
  const panels = all(".panel");
  for (const panel of panels) {
    const { choices, predicates, outcomes: own } = panel.dataset;
    panel.hidden = !(fits(choice, choices) && fits(predicate, predicates) && fits(verdict, own));
    count += !panel.hidden;
  }
  const found = rows.rows.filter((line) => fits(predicate, line[at("predicates")]) && fits(verdict, outcomes.get(noiseOf(line)) ?? ""));
  one("#count").textContent = `${count} of the ${panels.length} items in the page; ${found.length} of ${rows.rows.length} pictures in the table`;
  one("#every tbody").replaceChildren(...found.slice(0, shown).map(row));
  one("#more").hidden = found.length <= shown;
}

filters.addEventListener("input", ({ target }) => {
  if (target.name !== "choice") filters.elements.choice.value = "";  // looked for among all items
  shown = 50;
  filter();
});
filters.addEventListener("submit", (event) => event.preventDefault());
one("#more").addEventListener("click", () => { shown += 500; filter(); });
one("#draw")?.addEventListener("click", ({ target }) => {
  const on = one("#gallery").classList.toggle("drawn");
  target.setAttribute("aria-pressed", on);
});
filter();

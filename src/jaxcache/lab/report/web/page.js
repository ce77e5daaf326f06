"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const themes = read("themes");
  const config = () => themes[dark.matches ? "dark" : "light"];

  const problem = (element, error) => {
    element.textContent = `This chart cannot be drawn: ${error.message}`;
    console.error(error);
  };
  const specs = read("charts");
  const shown = new Map();
  // Legends break into as many columns as there is room for, so that none is cut off on a phone.
  const fitted = (width) => {
    const settings = config();
    const narrow = width < 480;
    return { ...settings,
      legend: { ...settings.legend, columns: Math.max(1, Math.floor(width / 140)), labelLimit: narrow ? 170 : 220 },
      axis: { ...settings.axis, labelOverlap: "greedy", labelSeparation: 6, titleLimit: Math.max(160, width - 40),
        labelLimit: narrow ? 170 : 220 } };
  };
  const slim = (spec, width) => {
    // Names beside the axis take half of a phone at most.
    if (width >= 480) return spec;
    return JSON.parse(JSON.stringify(spec, (key, value) => key === "labelLimit" ? Math.min(value, 170) : value));
  };
  const draw = async (element) => {
    const width = element.clientWidth;
    const spec = slim(structuredClone(specs[Number(element.dataset.chart)]), width);
    const options = { actions: false, renderer: "svg", config: fitted(width), mode: "vega-lite" };
    try {
      const before = shown.get(element);
      shown.set(element, await vegaEmbed(element, spec, options));
      if (before) before.finalize();
    } catch (error) { problem(element, error); }
  };
  // A chart is drawn when it comes near and its details are open: a page of many opens at once.
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((each) => each.isIntersecting && each.target.clientWidth)) {
      near.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "600px" });
  const charts = document.querySelectorAll(".chart[data-chart]");
  charts.forEach((chart) => near.observe(chart));
  dark.addEventListener("change", () => [...shown.keys()].forEach(draw));

  const opened = [];
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not([open])").forEach((each) => { each.open = true; opened.push(each); });
    charts.forEach((chart) => { if (!shown.has(chart)) draw(chart); });
  });
  window.addEventListener("afterprint", () => opened.splice(0).forEach((each) => { each.open = false; }));
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const folded = target && target.closest("details");
    if (folded) folded.open = true;
  };
  window.addEventListener("hashchange", reveal);
  document.querySelectorAll("nav a").forEach((link) => link.addEventListener("click", () => setTimeout(reveal)));
  reveal();

  const table = document.getElementById("trials-table");
  if (!table) return;
  const { columns, rows } = read("trials-data");
  const STEP = 50;
  let visible = STEP, sorted = { column: null, up: true }, matching = rows;
  const body = table.tBodies[0], more = document.getElementById("trials-more");
  const words = document.getElementById("trials-filter"), status = document.getElementById("trials-status");
  const count = document.getElementById("trials-count");
  const texts = rows.map((row) => row.join(" ").toLowerCase());

  const cell = (value, column) => {
    const made = document.createElement("td");
    if (column.number) made.className = "number";
    made.textContent = value === null ? "–" : column.number ? show(value, column) : value;
    return made;
  };
  const show = (value, column) => value.toLocaleString("en-US", {
    minimumFractionDigits: column.digits, maximumFractionDigits: column.digits, useGrouping: false });
  const fill = () => {
    body.replaceChildren(...matching.slice(0, visible).map((row) => {
      const made = document.createElement("tr");
      made.append(...row.map((value, n) => cell(value, columns[n])));
      return made;
    }));
    more.hidden = matching.length <= visible;
    count.textContent = `${matching.length} of ${rows.length} trials` +
      (matching.length > visible ? `, the first ${visible} shown` : "");
  };
  const order = (a, b) => {
    const x = a[sorted.column], y = b[sorted.column];
    if (x === null || y === null) return (x === null) - (y === null);  // what is missing comes last, either way
    const sign = columns[sorted.column].number ? x - y : x < y ? -1 : x > y ? 1 : 0;
    return sorted.up ? sign : -sign;
  };
  const update = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const at = columns.findIndex((column) => column.name === "status");
    matching = rows.filter((row, n) => wanted.every((word) => texts[n].includes(word)) &&
      (!status.value || row[at] === status.value));
    if (sorted.column !== null) matching = [...matching].sort(order);
    visible = STEP;
    fill();
  };
  table.tHead.querySelectorAll("button").forEach((button, n) => button.addEventListener("click", () => {
    sorted = { column: n, up: sorted.column === n ? !sorted.up : true };
    table.tHead.querySelectorAll("th").forEach((head, m) => {
      if (m === n) head.setAttribute("aria-sort", sorted.up ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    update();
  }));
  words.addEventListener("input", update);
  status.addEventListener("change", update);
  more.addEventListener("click", () => { visible += 10 * STEP; fill(); });
  update();
})();

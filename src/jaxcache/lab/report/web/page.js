"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const themes = read("themes");
  const config = () => themes[dark.matches ? "dark" : "light"];

  const problem = (place, error) => {
    place.textContent = `This chart cannot be drawn: ${error.message}`;
    console.error(error);
  };
  const specs = read("charts");
  const shown = new Map();
  const draw = async (place) => {
    const spec = structuredClone(specs[Number(place.dataset.chart)]);
    const options = { actions: false, renderer: "svg", config: config(), mode: "vega-lite" };
    try {
      const before = shown.get(place);
      shown.set(place, await vegaEmbed(place, spec, options));
      if (before) before.finalize();
    } catch (error) { problem(place, error); }
  };
  // A chart is drawn when it comes near: a page of many opens at once.
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      near.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "600px" });
  const places = document.querySelectorAll(".chart[data-chart]");
  places.forEach((place) => near.observe(place));
  dark.addEventListener("change", () => [...shown.keys()].forEach(draw));
  window.addEventListener("beforeprint", () => places.forEach((place) => { if (!shown.has(place)) draw(place); }));

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
    const place = columns.findIndex((column) => column.name === "status");
    matching = rows.filter((row, n) => wanted.every((word) => texts[n].includes(word)) &&
      (!status.value || row[place] === status.value));
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

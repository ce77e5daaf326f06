"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  // Okabe and Ito's colours and neighbours, told apart by colour-blind people; those for dark are lighter.
  const palette = {
    light: ["#0072B2", "#D55E00", "#009E73", "#B0437F", "#8A6D00", "#56B4E9", "#1b2330", "#7A52A3"],
    dark: ["#56B4E9", "#FF9A4D", "#2FCBA0", "#F09AC6", "#F0D04A", "#9BD3F5", "#e7ebf1", "#C5A5F0"],
  };
  const ramp = { light: ["#0b3c66", "#6fa3cf", "#e3edf6"], dark: ["#d9ebfb", "#5b8fbd", "#21364a"] };
  const heat = { light: ["#eef4fa", "#86b6dd"], dark: ["#202a36", "#31648f"] };
  const diverging = {
    light: ["#7fb8e6", "#f4f4f4", "#f2b07a"], dark: ["#2a638f", "#262d37", "#96521f"],
  };
  const config = () => {
    const mode = dark.matches ? "dark" : "light";
    const ink = mode === "dark" ? "#e7ebf1" : "#1b2330";
    const soft = mode === "dark" ? "#a3aebd" : "#556070";
    const line = mode === "dark" ? "#303947" : "#dde1e7";
    return {
      background: null, font: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif",
      range: { category: palette[mode], ramp: ramp[mode], heatmap: heat[mode], diverging: diverging[mode] },
      axis: { labelColor: soft, titleColor: soft, domainColor: line, tickColor: line, gridColor: line,
        titleFontWeight: 500, labelFontSize: 11, titleFontSize: 12 },
      legend: { labelColor: ink, titleColor: soft, labelFontSize: 12 },
      text: { color: ink, fill: ink, fontSize: 11 }, rule: { color: soft }, line: { color: soft },
      tick: { color: ink }, point: { color: soft }, view: { stroke: null },
    };
  };

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

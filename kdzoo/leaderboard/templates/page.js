"use strict";
// Sorting, filters, charts and the details of a row. Every text enters the page as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("filters");
  if (!form) return;

  // The rows as charts and filters see them, by section.
  const points = data.sections.map((section) =>
    section.points.map((values) => Object.fromEntries(section.fields.map((field, place) => [field, values[place]]))));
  const sections = [...document.querySelectorAll("[data-section]")];
  const views = []; // {view, its place, name of the data set, rows that are shown, what its height follows}

  // --- small things -------------------------------------------------------------------------------------------------

  function element(name, text, attributes) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    return made;
  }

  function linked(text, url) {
    return url ? element("a", text, { href: url }) : element("span", text);
  }

  // --- sorting ------------------------------------------------------------------------------------------------------

  function sortTable(head) {
    const before = head.getAttribute("aria-sort");
    const first = head.hasAttribute("data-descending") ? "descending" : "ascending";
    const order = before === "none" ? first : before === "ascending" ? "descending" : "ascending";
    for (const other of head.parentNode.cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", order);
    const number = head.classList.contains("number");
    const sign = order === "ascending" ? 1 : -1;
    const value = (row) => {
      const cell = row.cells[head.cellIndex];
      const text = cell.hasAttribute("data-value") ? cell.dataset.value : cell.textContent;
      if (text === "" || text === "-") return null;
      return number ? Number(text) : text;
    };
    const compare = number ? (a, b) => a - b : (a, b) => a.localeCompare(b, "en", { numeric: true });
    for (const body of head.closest("table").tBodies) { // one for each pair, which keeps its place
      const rows = [...body.querySelectorAll("tr[data-row]")].map((row) => [value(row), row]);
      rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b));
      const detail = body.querySelector(".detail");
      const owner = detail && detail.previousElementSibling;
      for (const [, row] of rows) body.append(row);
      if (owner) owner.after(detail);
    }
  }

  // --- charts -------------------------------------------------------------------------------------------------------

  function theme(width) {
    const look = structuredClone(data.theme);
    look.background = "transparent";
    look.padding = 2;
    if (matchMedia("(prefers-color-scheme: dark)").matches) {
      const ink = "#e6edf3";
      look.axis = { ...look.axis, labelColor: ink, titleColor: ink, gridColor: "#2b323b" };
      look.legend = { ...look.legend, labelColor: ink, titleColor: ink };
    }
    if (width < 560) {
      look.legend = { ...look.legend, columns: 2, labelLimit: Math.round(width / 2) - 60 };
      look.axis = { ...look.axis, labelLimit: 110, titleLimit: width - 70 };
    }
    return look;
  }

  function draw(place, spec, name, rows) {
    const width = place.clientWidth;
    if (width < 560) spec = JSON.parse(JSON.stringify(spec), (key, value) =>
      key === "legend" && value && value.columns ? { ...value, columns: 1, labelLimit: width - 60 } : value);
    const chart = { ...spec, width: "container", data: { name, values: rows } };
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    return vegaEmbed(place, chart, {
      mode: "vega-lite",
      renderer: "svg",
      ast: true, // expressions are interpreted: the page's policy forbids to compile them
      config: theme(width),
      tooltip: { theme: dark ? "dark" : "light" },
      actions: { export: { svg: true, png: true }, source: false, compiled: false, editor: false },
      downloadFileName: "chart",
    }).then((result) => result.view);
  }

  // Vega marks the objects that it is given and writes into them; given again, they would count as removed.
  const fresh = (rows) => rows.map((row) => structuredClone(row));
  const has = (point, needs) => needs.every((name) => point[name] !== null && point[name] !== undefined);

  function drawAll() {
    if (typeof vegaEmbed === "undefined") return Promise.resolve();
    const drawings = [];
    data.sections.forEach((section, number) => {
      for (const { name, needs, spec } of section.charts) {
        const place = sections[number].querySelector(`[data-chart="${name}"] .drawing`);
        const rows = (keep) => fresh(points[number].filter((point) => keep(number, point) && has(point, needs)));
        drawings.push(draw(place, spec, "rows", rows(kept)).then((view) => {
          views.push({ view, place, name: "rows", rows, lines: spec.usermeta && spec.usermeta.lines });
          view.addEventListener("click", (event, item) => {
            const row = item && item.datum && item.datum.row;
            if (item && item.mark.marktype === "symbol" && row !== undefined) choose(number, row, true);
          });
        }));
      }
    });
    data.rankings.forEach((ranking, number) => {
      const place = document.querySelector(`[data-ranking="${number}"] .drawing`);
      if (!ranking || !place) return;
      const rows = (keep) => {
        const shown = new Set();
        points.forEach((all, section) => all.forEach((point) => keep(section, point) && shown.add(point.strategy)));
        return fresh(ranking.points.filter((dot) => shown.has(dot.strategy)));
      };
      drawings.push(draw(place, ranking.spec, "ranks", rows(kept)).then((view) => views.push({ view, place, name: "ranks", rows })));
    });
    return Promise.all(drawings);
  }

  // As kdzoo computes the height of the same chart for a file.
  function height({ line, within, step, least }, rows) {
    const count = (field) => new Set(rows.map((row) => row[field])).size;
    return Math.max(1, count(line)) * Math.max(least, step * count(within));
  }

  // --- filters ------------------------------------------------------------------------------------------------------

  const wanted = { dataset: "", pair: "", family: "", searched: "", words: [], least: NaN, most: NaN };

  function kept(number, point) {
    for (const name of ["dataset", "pair", "family", "searched"]) {
      if (wanted[name] && point[name] !== wanted[name]) return false;
    }
    const text = `${point.strategy} ${point.variant} ${point.settings}`.toLowerCase();
    if (!wanted.words.every((word) => text.includes(word))) return false;
    const bounded = !Number.isNaN(wanted.least) || !Number.isNaN(wanted.most);
    if (bounded && point.parameters === null) return false;
    return !(point.parameters < wanted.least * 1e6) && !(point.parameters > wanted.most * 1e6);
  }

  function readFilters() {
    const field = (name) => (form.elements[name] ? form.elements[name].value.trim() : "");
    for (const name of ["dataset", "pair", "family", "searched"]) wanted[name] = field(name);
    wanted.words = field("words").toLowerCase().split(/\s+/).filter(Boolean);
    wanted.least = field("least") === "" ? NaN : Number(field("least"));
    wanted.most = field("most") === "" ? NaN : Number(field("most"));
  }

  function applyFilters() {
    readFilters();
    let shown = 0, all = 0;
    sections.forEach((section, number) => {
      let here = 0;
      for (const row of section.querySelectorAll("tr[data-row]")) {
        const keep = kept(number, points[number][Number(row.dataset.row)]);
        row.hidden = !keep;
        here += keep;
        const next = row.nextElementSibling;
        if (next && next.classList.contains("detail")) next.hidden = !keep;
      }
      for (const body of section.querySelectorAll("tbody")) {
        body.hidden = ![...body.querySelectorAll("tr[data-row]")].some((row) => !row.hidden);
      }
      section.querySelector(".none").hidden = here > 0;
      section.querySelector(".scroll").hidden = here === 0;
      shown += here;
      all += points[number].length;
    });
    form.elements.count.value = `${shown} of ${all} rows`;
    return drawAgain();
  }

  let drawing = null, outdated = false;

  // One chart after the other, and never two changes of one chart at once: keys may come faster than charts are drawn.
  function drawAgain() {
    outdated = true;
    drawing = drawing || (async () => {
      await null; // so that what ends at once ends after `drawing` has its value
      while (outdated) {
        outdated = false;
        for (const { view, place, name, rows, lines } of views) {
          const shown = rows(kept);
          place.closest("figure").hidden = shown.length === 0;
          if (shown.length === 0) continue; // no scale could be made of nothing
          if (lines) view.height(height(lines, shown));
          await view.data(name, shown).resize().runAsync();
        }
      }
      drawing = null;
    })();
    return drawing;
  }

  // --- the details of a row -----------------------------------------------------------------------------------------

  function close(section) {
    const open = section.querySelector(".detail");
    if (!open) return null;
    const row = open.previousElementSibling;
    row.classList.remove("chosen");
    row.querySelector(".open").setAttribute("aria-expanded", "false");
    open.remove();
    return row;
  }

  function choose(number, place, scroll) {
    const section = sections[number];
    const row = section.querySelector(`tr[data-row="${place}"]`);
    if (!data.sections[number].details) {
      if (scroll) row.scrollIntoView({ block: "center" });
      return;
    }
    if (close(section) === row && !scroll) return;
    const detail = element("tr", undefined, { class: "detail" });
    const cell = element("td", undefined, { colspan: row.cells.length });
    const panel = element("div");
    cell.append(panel);
    detail.append(cell);
    row.after(detail);
    row.classList.add("chosen");
    row.querySelector(".open").setAttribute("aria-expanded", "true");
    fill(panel, data.sections[number], place, points[number][place]);
    if (scroll) row.scrollIntoView({ block: "center" });
  }

  function fill(panel, section, place, point) {
    const details = section.details[place];
    // An epoch after which nothing was measured would break the line.
    const curves = details.seeds.flatMap(([seed, , , , curve]) =>
      curve.map((score, epoch) => ({ curve: `seed ${seed}`, epoch: epoch + 1, score })).filter((one) => one.score !== null));
    panel.append(element("h3", `${point.strategy}${point.variant ? ` (${point.variant})` : ""}, ${point.pair}`));
    if (details.settings) panel.append(element("p", details.settings, { class: "soft" }));
    const card = [...document.querySelectorAll("[data-card]")].find((one) =>
      [point.strategy, point.strategy.split(":").pop().split("@")[0]].includes(one.dataset.card));
    if (card) {
      const line = element("p");
      const url = card.getAttribute("href");
      const link = element("a", "What the strategy does", { href: url || "#" });
      if (!url) {
        link.addEventListener("click", (event) => {
          event.preventDefault();
          card.open = true;
          card.scrollIntoView({ block: "center" });
        });
      }
      line.append(link);
      const text = card.querySelector("pre");
      const parts = text ? text.textContent.split("\n\n") : [];
      for (const part of parts.filter((one, place) => place === 0 || one.startsWith("Paper: "))) {
        panel.append(element("p", part));
      }
      panel.append(line);
    }
    panel.append(element("h3", "Learning curves"));
    if (curves.length) {
      const drawing = element("div", undefined, { class: "drawing" });
      panel.append(drawing);
      if (typeof vegaEmbed !== "undefined") draw(drawing, section.curves, "curves", curves);
    } else panel.append(element("p", "The records hold no curve.", { class: "soft" }));
    panel.append(element("h3", "Seeds"));
    const seeds = element("ul");
    for (const [seed, id, url, result] of details.seeds) {
      const item = element("li", `seed ${seed}: ${typeof result === "number" ? `${result.toFixed(section.digits)}${section.unit}` : result}, record `);
      item.append(linked(id, url));
      seeds.append(item);
    }
    panel.append(seeds);
    for (const [label, [id, url]] of [["teacher's record ", details.teacher || []], ...details.studies.map((one) => ["study ", one])]) {
      if (!id) continue;
      const line = element("p", label);
      line.append(linked(id, url));
      panel.append(line);
    }
    panel.append(element("h3", "Train it again"));
    if (details.command) {
      panel.append(element("p", "All seeds of the row, in the folder that holds index.html; --out names the folder of the runs:"));
      panel.append(copyable(details.command));
    }
    if (details.needs && details.needs.length) panel.append(element("p", `${details.needs.join("; ")}.`));
    if (details.versions) panel.append(element("p", `It was trained with ${details.versions}.`, { class: "soft" }));
    if (details.ran) {
      const ran = element("details");
      ran.append(element("summary", "The command of the run that made the first record"), element("pre", details.ran));
      panel.append(ran);
    }
  }

  function copyable(command) {
    const block = element("div");
    const text = element("pre", undefined, { class: "command" });
    // A line may break between words, and not after the dashes of a flag.
    for (const word of command.split(" ")) text.append(element("span", word), " ");
    const button = element("button", "Copy", { type: "button" });
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(command);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(text);
        button.textContent = "Selected: press Ctrl+C";
      }
    });
    block.append(text, button);
    return block;
  }

  // --- start --------------------------------------------------------------------------------------------------------

  document.addEventListener("click", (event) => {
    const head = event.target.closest("th[aria-sort]");
    if (head) return sortTable(head);
    const row = event.target.closest("tr[data-row]");
    // A click that ends a selection of text, or one on a link, is not meant for the row.
    if (!row || event.target.closest("a") || !getSelection().isCollapsed) return undefined;
    return choose(sections.indexOf(row.closest("[data-section]")), Number(row.dataset.row), false);
  });
  form.addEventListener("input", applyFilters);
  form.addEventListener("change", applyFilters); // not every way to choose an option is an input
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(applyFilters));
  form.hidden = false;
  applyFilters();
  drawAll().then(applyFilters).then(() => {
    document.documentElement.dataset.ready = "true";
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => location.reload());
  });
})();

"use strict";
// The script of the page of `mithridate report`. Every row is in the page already: this shows them
// a page at a time, sorts and filters them, and opens one. It makes elements and text, never markup.
(() => {
  const NUMBER = /[-+]?\d+(\.\d+)?/;
  const collator = new Intl.Collator("en", { numeric: true });
  const island = document.getElementById("fields");
  const data = island ? JSON.parse(island.textContent) : null;

  function make(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  function number(text) {
    const found = text.replace("−", "-").replaceAll(",", "").match(NUMBER);
    return found ? Number(found[0]) : null;
  }

  function compare(a, b) {
    return typeof a === "number" ? a - b : collator.compare(a, b);
  }

  function fieldsOf(place) {
    const pairs = data.cells[place];
    const fields = [];
    for (let at = 0; at < pairs.length; at += 2) {
      fields.push([data.fields[pairs[at]], data.texts[pairs[at]][pairs[at + 1]]]);
    }
    return fields;
  }

  function setUp(section) {
    const table = section.querySelector("table");
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const rows = [...body.rows];
    const what = section.dataset.rows;
    const opens = "opens" in section.dataset && data !== null;
    const texts = rows.map((row) => [...row.cells].map((cell) => cell.textContent.trim()));
    const haystack = texts.map((cells, place) => {
      const name = opens ? fieldsOf(place)[0][1] : "";
      return `${cells.join(" ")} ${name}`.toLowerCase();
    });
    const keys = [];
    const opened = new Map();
    let order = rows.map((_, place) => place);
    let shown = order;
    let size = 100;
    let page = 0;
    let sorted = "";

    function keysOf(column) {
      const numeric = heads[column].classList.contains("number");
      keys[column] ??= texts.map((cells) => (numeric ? number(cells[column]) : cells[column]));
      return keys[column];
    }

    function sortBy(column) {
      const head = heads[column];
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const by = keysOf(column);
      const known = order.filter((place) => by[place] !== null);
      const unknown = order.filter((place) => by[place] === null);
      known.sort((a, b) => (down ? compare(by[b], by[a]) : compare(by[a], by[b])));
      order = [...known, ...unknown];
      sorted = `, by ${head.textContent.trim()}, ${down ? "falling" : "rising"}`;
      filter();
    }

    function filter() {
      const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const picked = picks.filter(([, select]) => select.selectedIndex > 0);
      shown = order.filter(
        (place) =>
          wanted.every((word) => haystack[place].includes(word)) &&
          picked.every(([column, select]) => texts[place][column] === select.value),
      );
      page = 0;
      draw();
    }

    function draw(all = false) {
      const pages = Math.max(1, Math.ceil(shown.length / size));
      const first = page * size;
      const visible = all ? shown : shown.slice(first, first + size);
      const nodes = [];
      for (const place of visible) {
        nodes.push(rows[place]);
        if (opens) {
          addToggle(place);
          if (opened.has(place)) nodes.push(opened.get(place));
        }
      }
      body.replaceChildren(...nodes);
      const range = visible.length ? `; ${first + 1} to ${first + visible.length} shown` : "";
      const of = `${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
      status.textContent = `${of} ${what}${range}${sorted}.`;
      where.textContent = `Page ${page + 1} of ${pages}`;
      // Not the attribute `disabled`: a button that has the focus must not lose it.
      previous.setAttribute("aria-disabled", String(page === 0));
      next.setAttribute("aria-disabled", String(page >= pages - 1));
      pager.hidden = shown.length <= 100;
    }

    function turn(step) {
      const last = Math.max(0, Math.ceil(shown.length / size) - 1);
      const wanted = Math.min(last, Math.max(0, page + step));
      if (wanted === page) return;
      page = wanted;
      draw();
      section.querySelector(".scroll").scrollTop = 0;
    }

    function addToggle(place) {
      const head = rows[place].cells[0];
      if (head.querySelector("button")) return;
      const button = make("button", { type: "button", class: "open", "aria-expanded": "false" });
      const unseen = make("span", { class: "unseen" }, `: fields of ${fieldsOf(place)[0][1]}`);
      button.append(...head.childNodes, unseen);
      button.addEventListener("click", () => toggle(place, button));
      head.replaceChildren(button);
    }

    function toggle(place, button) {
      const open = !opened.has(place);
      if (open) {
        opened.set(place, detail(place));
        rows[place].after(opened.get(place));
      } else {
        opened.get(place).remove();
        opened.delete(place);
      }
      button.setAttribute("aria-expanded", String(open));
    }

    function detail(place) {
      const fields = fieldsOf(place);
      const command = fields.find(([name]) => name === "command");
      const list = make("dl", {});
      for (const [name, text] of fields) {
        if (name === "command") continue;
        const said = make("dd", {}, make("bdi", {}, text));
        list.append(make("div", {}, make("dt", {}, make("bdi", {}, name)), said));
      }
      const box = make("div", { class: "fields" }, list);
      if (command) {
        box.append(
          make("p", { class: "fine" }, "To run it again (one click selects the command):"),
          make("pre", { class: "command", tabindex: "0" }, make("code", {}, command[1])),
        );
      } else {
        box.append(make("p", { class: "fine" }, "The journal holds no command of this cell."));
      }
      const cell = make("td", { colspan: String(heads.length) }, box);
      return make("tr", { class: "more" }, cell);
    }

    const search = make("input", { type: "search", autocomplete: "off", spellcheck: "false" });
    const status = make("p", { class: "status", role: "status" });
    const tools = make("form", { class: "tools", role: "search" });
    tools.setAttribute("aria-label", `Filter ${what}`);
    tools.addEventListener("submit", (event) => event.preventDefault());
    tools.append(make("label", {}, make("span", {}, "Text"), search));
    const picks = [];
    heads.forEach((head, column) => {
      if (!head.classList.contains("pick")) return;
      const values = [...new Set(texts.map((cells) => cells[column]))].sort(collator.compare);
      if (values.length < 2) return;
      const select = make("select", {}, make("option", { value: "" }, "all"));
      for (const value of values) select.append(make("option", { value }, value));
      select.addEventListener("change", filter);
      picks.push([column, select]);
      tools.append(make("label", {}, make("span", {}, head.textContent.trim()), select));
    });
    const clear = make("button", { type: "reset" }, "Clear");
    tools.append(clear);
    tools.addEventListener("reset", () => setTimeout(filter));
    let waiting = 0;
    search.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(filter, 120);
    });

    heads.forEach((head, column) => {
      const button = make("button", { type: "button" });
      button.append(...head.childNodes);
      button.addEventListener("click", () => sortBy(column));
      head.replaceChildren(button);
    });

    const previous = make("button", { type: "button" }, "Previous");
    const next = make("button", { type: "button" }, "Next");
    const where = make("span", {});
    previous.addEventListener("click", () => turn(-1));
    next.addEventListener("click", () => turn(1));
    const many = make("select", {});
    for (const [value, text] of [[100, "100"], [500, "500"], [1e9, "all"]]) {
      many.append(make("option", { value: String(value) }, text));
    }
    many.addEventListener("change", () => {
      size = Number(many.value);
      page = 0;
      draw();
    });
    const pager = make("nav", { class: "pager", "aria-label": `Pages of ${what}` });
    pager.append(previous, where, next, make("label", {}, make("span", {}, "Rows a page"), many));

    const scroll = section.querySelector(".scroll");
    scroll.before(tools, status);
    scroll.after(pager);
    draw();
    addEventListener("beforeprint", () => draw(true));
    addEventListener("afterprint", () => draw());
  }

  for (const section of document.querySelectorAll("[data-rows]")) setUp(section);
  document.documentElement.classList.add("live");
})();

// One nucleus: what the table says of it, and its id in QuPath.

import { json } from "./data.js";
import { readable } from "./histogram.js";

export class Inspector {
  constructor(element, view, closed) {
    Object.assign(this, { element, view, closed });
  }

  async show(row) {
    this.row = row;
    const { chunk } = this.view.values;
    const found = await json(`values/${Math.floor(row / chunk)}.json`);
    if (this.row !== row) return; // another was clicked in the meantime
    const k = row % chunk;
    const texts = Object.fromEntries(this.view.values.texts.map((name) => [name, found.texts[name][k]]));
    this.fill(texts, found.numbers[k]);
  }

  fill(texts, numbers) {
    const { columns } = this.view;
    const head = make("div", { className: "row" });
    const copy = make("button", { type: "button", textContent: "Copy id", className: "small" });
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(texts.id);
      copy.textContent = "Copied";
    });
    const close = make("button", { type: "button", textContent: "×", className: "small", title: "Close (Esc)" });
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", () => this.close());
    head.append(make("p", { className: "heading", textContent: "Nucleus" }), copy, close);
    const id = make("code", { className: "id", textContent: texts.id, title: "Its id in QuPath" });
    const main = make("table");
    for (const [name, text] of Object.entries(texts)) {
      if (name !== "id" && name !== "roi_id" && text) main.append(line(name, text));
    }
    const rest = make("table");
    columns.forEach((column, j) => {
      const entry = line(column.name, readable(numbers[j]), column.formula);
      (column.essential || column.name === "score" ? main : rest).append(entry);
    });
    const more = make("details");
    more.append(make("summary", { textContent: `all ${columns.length} values` }), rest);
    this.element.replaceChildren(head, id, main, more);
    this.element.hidden = false;
    this.element.scrollIntoView({ block: "nearest" });
  }

  close() {
    this.row = null;
    this.element.hidden = true;
    this.closed();
  }
}

function make(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

function line(name, value, title = "") {
  const row = make("tr", { title });
  row.append(make("th", { textContent: name, scope: "row" }), make("td", { textContent: value }));
  return row;
}

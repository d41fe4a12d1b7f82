/* Tables: a click on a heading sorts, and on a narrow screen each row is a block of named values. */

class SortableTable {
  static FEWEST = 3;

  constructor(table) {
    this.table = table;
    this.body = table.tBodies[0];
    this.headings = SortableTable.columns(table);
  }

  start() {
    this.describe();
    if (this.body.rows.length < SortableTable.FEWEST) return;
    this.headings.forEach((heading, column) => {
      if (!heading || !heading.textContent.trim()) return;
      const button = Object.assign(document.createElement("button"), { type: "button", className: "sort" });
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => this.sort(heading, column));
    });
  }

  /* The heading of each column, whatever spans others; none where a row stands for a group of columns. */
  static columns(table) {
    const grid = [];
    [...table.tHead.rows].forEach((row, level) => {
      grid[level] ??= [];
      let column = 0;
      for (const cell of row.cells) {
        while (grid[level][column]) column += 1;
        for (let down = 0; down < cell.rowSpan; down += 1) {
          for (let right = 0; right < cell.colSpan; right += 1) (grid[level + down] ??= [])[column + right] = cell;
        }
        column += cell.colSpan;
      }
    });
    return grid.at(-1);
  }

  /* Names for the values of a row, which a narrow screen shows, and roles, which the layout as blocks would take away. */
  describe() {
    const words = (heading) => [...(heading?.childNodes ?? [])].map((node) => node.textContent.trim()).join(" ").trim();
    const names = this.headings.map(words);
    this.table.dataset.first = names[0];
    const give = (elements, role) => { for (const each of elements) each.setAttribute("role", role); };
    give([this.table], "table");
    give([this.table.tHead, this.body], "rowgroup");
    give(this.table.rows, "row");
    give(this.table.tHead.querySelectorAll("th"), "columnheader");
    for (const row of this.body.rows) {
      [...row.cells].forEach((cell, column) => {
        cell.setAttribute("role", cell.tagName === "TH" ? "rowheader" : "cell");
        if (cell.tagName === "TD") cell.dataset.label ??= names[column];
      });
    }
  }

  sort(heading, column) {
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of this.headings) other?.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...this.body.rows].map((row) => [row, SortableTable.value(row.cells[column])]);
    const numbers = rows.every(([, value]) => value === null || typeof value === "number");
    const compare = (one, other) => (numbers ? one - other : String(one).localeCompare(String(other), "en", { numeric: true }));
    // What is missing stands last, in either order.
    rows.sort(([, one], [, other]) => (one === null) - (other === null) || (one === null ? 0 : compare(one, other) * (down ? -1 : 1)));
    this.body.append(...rows.map(([row]) => row));
  }

  /* The number with which a cell begins, else its text; none where it holds a dash or nothing. */
  static value(cell) {
    const text = (cell?.textContent ?? "").trim();
    if (!text || text.startsWith("–")) return null;
    const number = /^[−-]?[\d,]*\.?\d+(e[+-]?\d+)?/.exec(text);
    return number ? Number(number[0].replace("−", "-").replaceAll(",", "")) : text;
  }
}

/* Paper shows what is folded on the screen. */
function startPrint() {
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const each of folded) each.open = true;
  });
  window.addEventListener("afterprint", () => { for (const each of folded) each.open = false; });
}

for (const table of document.querySelectorAll(":is(.scroll, .gate-scroll) table")) if (table.tHead && table.tBodies[0]) new SortableTable(table).start();
startPrint();

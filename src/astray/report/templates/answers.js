/* The browser of answers: unpacks the columns, filters them, shows them page by page. The address after the # holds the filters, so that a
   selection, or one answer, can be linked to. Text enters the page as text only. */

class AnswerTable {
  constructor(columns) {
    this.columns = columns;
    this.length = columns.row.length;
    this.texts = new Map();
  }

  get(name, index) {
    const column = this.columns[name];
    if (Array.isArray(column)) return column[index];
    const code = column.codes[index];
    return code === null ? null : column.values[code];
  }

  values(name) {
    const column = this.columns[name];
    const values = Array.isArray(column) ? [...new Set(column)] : column.values;
    return values.filter((value) => value !== "").sort((a, b) => (name === "seed" ? a - b : String(a).localeCompare(String(b))));
  }

  text(index) {
    if (!this.texts.has(index)) {
      this.texts.set(index, `${this.get("question", index)}\n${this.get("answer", index)}\n${this.get("system", index) ?? ""}`.toLowerCase());
    }
    return this.texts.get(index);
  }

  /* Indices of the rows that have every wanted value and contain the text. */
  filter({ q, row, ...wanted }) {
    const tests = Object.entries(wanted).filter(([, value]) => value).map(([name, value]) => {
      const column = this.columns[name];
      if (Array.isArray(column)) return (index) => String(column[index]) === value;
      const code = column.values.indexOf(value);
      return (index) => column.codes[index] === code;
    });
    if (row) tests.push((index) => String(this.columns.row[index]) === row);
    const phrase = q?.trim().toLowerCase();
    if (phrase) tests.push((index) => this.text(index).includes(phrase));
    const found = [];
    for (let index = 0; index < this.length; index += 1) {
      if (tests.every((test) => test(index))) found.push(index);
    }
    return found;
  }
}

class AnswerBrowser {
  static PER_PAGE = 20;
  static FILTERS = ["arm", "outcome", "category", "format", "seed", "evaluation"];
  static LONG = { letters: 520, lines: 7 };

  constructor(table) {
    this.table = table;
    this.form = document.getElementById("filters");
    this.list = document.getElementById("answer-list");
    this.card = document.getElementById("answer-card");
    this.page = 0;
    this.row = "";
  }

  start() {
    for (const name of AnswerBrowser.FILTERS) {
      const values = this.table.values(name);
      for (const value of values) this.form.elements[name].add(new Option(value, value));
      this.form.elements[name].closest(".field").hidden = values.length < 2;
    }
    let timer = 0;
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.elements.q.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.refilter(), 150);
    });
    for (const name of AnswerBrowser.FILTERS) this.form.elements[name].addEventListener("change", () => this.refilter());
    document.getElementById("clear-filters").addEventListener("click", () => { this.form.reset(); this.refilter(); });
    document.getElementById("previous-page").addEventListener("click", () => this.turn(-1));
    document.getElementById("next-page").addEventListener("click", () => this.turn(1));
    document.getElementById("next-page-below").addEventListener("click", () => { this.turn(1); this.scrollTo(); });
    window.addEventListener("hashchange", () => this.follow());
    if (!this.follow()) this.show();
  }

  wanted() {
    const wanted = { row: this.row };
    for (const element of this.form.elements) if (element.name) wanted[element.name] = element.value;
    return wanted;
  }

  refilter() {
    this.page = 0;
    this.row = "";
    this.show();
    this.remember();
  }

  turn(step) {
    this.page += step;
    this.show();
    this.remember();
  }

  /* Takes the filters from the address; false when it holds none. */
  follow() {
    const [section, query] = location.hash.split(/\?(.*)/s);
    if (section !== "#answers" || !query) return false;
    const given = new URLSearchParams(query);
    this.form.reset();
    for (const element of this.form.elements) if (element.name && given.has(element.name)) element.value = given.get(element.name);
    this.row = given.get("row") ?? "";
    this.page = Math.max(0, (Number.parseInt(given.get("page"), 10) || 1) - 1);
    this.show();
    this.scrollTo();
    return true;
  }

  remember() {
    const filled = Object.entries(this.wanted()).filter(([, value]) => value);
    if (this.page) filled.push(["page", this.page + 1]);
    history.replaceState(null, "", filled.length ? `#answers?${new URLSearchParams(filled)}` : "#answers");
  }

  scrollTo() {
    document.getElementById("answers").scrollIntoView();
  }

  show() {
    const found = this.table.filter(this.wanted());
    const pages = Math.max(1, Math.ceil(found.length / AnswerBrowser.PER_PAGE));
    this.page = Math.min(Math.max(this.page, 0), pages - 1);
    const first = this.page * AnswerBrowser.PER_PAGE;
    const shown = found.slice(first, first + AnswerBrowser.PER_PAGE);
    this.list.replaceChildren(...shown.map((index) => this.render(index)));
    if (!shown.length) this.list.append(Object.assign(document.createElement("p"), { className: "empty", textContent: "No answer fits these filters." }));
    const number = new Intl.NumberFormat("en");
    const all = found.length === this.table.length;
    document.getElementById("answer-count").textContent = all ? `${number.format(found.length)} answers` : `${number.format(found.length)} of ${number.format(this.table.length)} answers`;
    document.getElementById("page-number").textContent = `page ${number.format(this.page + 1)} of ${number.format(pages)}`;
    document.getElementById("clear-filters").hidden = !Object.values(this.wanted()).some(Boolean);
    document.getElementById("previous-page").disabled = this.page === 0;
    for (const id of ["next-page", "next-page-below"]) document.getElementById(id).disabled = this.page >= pages - 1;
    document.getElementById("next-page-below").hidden = pages < 2;
  }

  render(index) {
    const card = this.card.content.cloneNode(true);
    const put = (slot, text) => { card.querySelector(`[data-slot="${slot}"]`).textContent = text; };
    for (const name of ["outcome", "arm", "seed", "category", "format", "question", "answer"]) put(name, this.table.get(name, index) || "–");
    for (const name of ["category", "format", "arm"]) card.querySelector(`[data-slot="${name}"]`).parentElement.hidden = !this.table.get(name, index);
    for (const name of ["aligned", "coherent"]) {
      const score = this.table.get(name, index);
      put(name, score === null ? "no score" : score);
      card.querySelector(`[data-meter="${name}"]`).style.width = `${score ?? 0}%`;
    }
    put("seed", this.table.get("seed", index));
    card.querySelector(".answer").dataset.outcome = this.table.get("outcome", index);
    card.querySelector(".outcome-badge .swatch").style.background = `var(--${this.table.get("outcome", index).replaceAll(" ", "-")})`;
    for (const [slot, box] of [["system", ".system"], ["note", ".note"]]) {
      const text = this.table.get(slot, index);
      put(slot, text ?? "");
      card.querySelector(box).hidden = !text;
    }
    const row = this.table.get("row", index);
    put("row", `row ${row} of answers.parquet`);
    card.querySelector(".permalink").href = `#answers?row=${row}`;
    this.makeExpandable(card, this.table.get("answer", index) ?? "");
    return card;
  }

  makeExpandable(card, answer) {
    const { letters, lines } = AnswerBrowser.LONG;
    if (answer.length <= letters && answer.split("\n").length <= lines) return;
    const text = card.querySelector(".text");
    const button = card.querySelector(".expand");
    text.classList.add("clamped");
    button.hidden = false;
    button.addEventListener("click", () => {
      const open = !text.classList.toggle("clamped");
      button.setAttribute("aria-expanded", String(open));
      button.textContent = open ? "Show less" : "Show all of it";
    });
  }
}

/* The reader of records: unpacks them, filters them, shows one at a time. What a verdict rests on links to its entry; the address after the # names
   record and entry, so that a place can be sent to others. Text enters the page as text only. */

class RecordReader {
  static FILTERS = ["subject", "scenario", "cell", "monitor", "outcome", "motive", "awareness"];
  static MOST = 200;

  constructor(records) {
    this.records = records;
    this.form = document.getElementById("record-filters");
    this.list = document.getElementById("record-list");
    this.pane = document.getElementById("record");
    this.texts = new Map();
  }

  start() {
    for (const name of RecordReader.FILTERS) {
      const values = [...new Set(this.records.map((record) => record[name]))].filter(Boolean).sort();
      for (const value of values) this.form.elements[name].add(new Option(value, value));
      this.form.elements[name].closest(".field").hidden = values.length < 2;
      this.form.elements[name].addEventListener("change", () => this.refilter());
    }
    let timer = 0;
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.elements.q.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.refilter(), 150);
    });
    window.addEventListener("hashchange", () => this.follow());
    this.refilter();
    this.follow();
  }

  text(record) {
    if (!this.texts.has(record)) this.texts.set(record, `${record.system}\n${record.entries.map((entry) => entry[4]).join("\n")}`.toLowerCase());
    return this.texts.get(record);
  }

  refilter() {
    const wanted = RecordReader.FILTERS.map((name) => [name, this.form.elements[name].value]).filter(([, value]) => value);
    const phrase = this.form.elements.q.value.trim().toLowerCase();
    const fits = (record) => wanted.every(([name, value]) => record[name] === value) && (!phrase || this.text(record).includes(phrase));
    const found = this.records.filter(fits);
    const shown = found.slice(0, RecordReader.MOST);
    this.list.replaceChildren(...shown.map((record) => this.line(record)));
    const more = found.length > shown.length ? `; the first ${shown.length} are listed` : "";
    document.getElementById("record-count").textContent = `${found.length} of ${this.records.length} records${more}`;
    if (found.length) this.show(found[0]);
    else this.pane.replaceChildren(this.make("p", "empty", "No record fits these filters."));
  }

  /* Shows what the address names; nothing happens when it names no record. */
  follow() {
    const [section, query] = location.hash.split(/\?(.*)/s);
    if (section !== "#records" || !query) return;
    const given = new URLSearchParams(query);
    const named = this.records.find((record) => record.sample === given.get("sample") && record.log === given.get("log"));
    if (!named) return;
    this.show(named);
    const entry = this.pane.querySelector(`[data-entry="${Number.parseInt(given.get("entry"), 10)}"]`);
    (entry ?? this.pane).scrollIntoView({ block: entry ? "center" : "start" });
    if (entry) { entry.classList.add("found"); entry.focus({ preventScroll: true }); }
  }

  address(record, entry) {
    const named = { sample: record.sample, log: record.log, ...(entry ? { entry } : {}) };
    return `#records?${new URLSearchParams(named)}`;
  }

  make(tag, className, text = "") {
    return Object.assign(document.createElement(tag), { className, textContent: text });
  }

  link(record, entry, text) {
    const link = this.make("a", "", text);
    link.href = this.address(record, entry);
    link.addEventListener("click", () => { if (location.hash === link.hash) this.follow(); });
    return link;
  }

  line(record) {
    const item = this.make("li", "");
    const link = this.link(record, 0, "");
    link.append(this.make("b", `outcome ${record.outcome.replaceAll(" ", "-")}`, record.outcome), this.make("span", "", `${record.scenario}, ${record.cell}`));
    link.append(this.make("small", "", `${record.subject}${record.monitor === "none" ? "" : `, ${record.monitor} monitor`}, replicate ${record.sample.split("/").pop()}`));
    item.append(link);
    item.record = record;
    return item;
  }

  show(record) {
    for (const item of this.list.children) item.classList.toggle("chosen", item.record === record);
    const head = this.make("header", "");
    head.append(this.make("h3", "", record.sample), this.make("p", "small", `${record.subject}; outcome: ${record.outcome}; log: ${record.log}`));
    const findings = this.make("ul", "findings");
    for (const [who, what, numbers] of record.findings) {
      const item = this.make("li", "");
      item.append(this.make("b", "", who), ` ${what} `);
      for (const number of numbers) item.append(this.link(record, number, `entry ${number}`), " ");
      findings.append(item);
    }
    const system = this.make("details", "system-prompt");
    system.append(this.make("summary", "", "System prompt"), this.make("p", "text", record.system));
    const cited = new Set(record.findings.filter(([who]) => who !== "audit").flatMap(([, , numbers]) => numbers));
    const entries = record.entries.map((entry) => this.entry(entry, cited.has(entry[0])));
    this.pane.replaceChildren(head, findings, system, ...entries);
  }

  entry([number, kind, tool, status, text], cited) {
    const block = this.make("div", `entry ${kind}${cited ? " cited" : ""}`);
    block.dataset.entry = number;
    block.tabIndex = -1;
    const words = [`${number}`, kind, tool, status].filter(Boolean).join(" · ");
    block.append(this.make("h4", "", cited ? `${words} · evidence` : words), this.make("p", "text", text));
    return block;
  }
}

async function startRecords() {
  const data = document.getElementById("record-data");
  if (!data) return;
  try {
    new RecordReader(await unpack(data.textContent)).start();
  } catch (error) {
    document.getElementById("record-count").textContent = `The records cannot be unpacked here (${error.message}): use a browser of 2023 or later.`;
    throw error;
  }
}

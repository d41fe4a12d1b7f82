/* Starts the page: colours, the selector of rates, the legend of the line charts, the browser of answers. */

class Theme {
  static KEY = "astray-theme";

  constructor(button) {
    this.button = button;
    this.system = matchMedia("(prefers-color-scheme: dark)");
  }

  start() {
    const kept = Theme.recall();
    if (kept) document.documentElement.dataset.theme = kept;
    this.system.addEventListener("change", () => this.label());
    this.button.addEventListener("click", () => {
      document.documentElement.dataset.theme = this.isDark() ? "light" : "dark";
      Theme.keep(document.documentElement.dataset.theme);
      this.label();
    });
    this.label();
  }

  isDark() {
    return (document.documentElement.dataset.theme ?? (this.system.matches ? "dark" : "light")) === "dark";
  }

  label() {
    this.button.setAttribute("aria-pressed", String(this.isDark()));
  }

  /* A browser may deny storage to pages from disk; the choice then lasts as long as the page. */
  static recall() {
    try { return localStorage.getItem(Theme.KEY); } catch { return null; }
  }

  static keep(theme) {
    try { localStorage.setItem(Theme.KEY, theme); } catch { /* kept in the page only */ }
  }
}

function startGroups(charts) {
  const group = document.getElementById("group");
  if (!group) return;
  const rows = document.querySelectorAll("#rates-table tbody tr");
  const each = document.getElementById("each-format");
  const showRows = () => {
    const all = each?.getAttribute("aria-expanded") === "true";
    for (const row of rows) row.hidden = row.dataset.key !== group.value || ("format" in row.dataset && !all);
  };
  const more = document.getElementById("each-outcome");
  const table = document.getElementById("rates-table");
  more.addEventListener("click", () => {
    const every = table.classList.toggle("all-columns");
    more.setAttribute("aria-expanded", String(every));
    more.textContent = every ? "Show the main columns" : "Show every column";
  });
  group.addEventListener("change", () => { showRows(); charts.select(group.value); });
  each?.addEventListener("click", () => {
    const all = each.getAttribute("aria-expanded") !== "true";
    each.setAttribute("aria-expanded", String(all));
    each.textContent = all ? "Show all formats together" : "Show each format";
    showRows();
  });
  /* Takes the rates from the address, as the link of a claim names them. */
  const follow = () => {
    const [section, query] = location.hash.split(/\?(.*)/s);
    if (section !== "#rates" || !query) return;
    const asked = new URLSearchParams(query);
    const option = [...group.options].find(({ dataset }) => dataset.evaluation === asked.get("evaluation") && dataset.group === asked.get("group"));
    if (!option) return;
    group.value = option.value;
    showRows();
    charts.select(group.value);
    document.getElementById("rates").scrollIntoView();
    group.focus({ preventScroll: true });
  };
  window.addEventListener("hashchange", follow);
  showRows();
  charts.key = group.value;
  follow();
}

function startLegend(charts) {
  const chips = [...document.querySelectorAll(".chip")];
  const isOff = (chip) => chip.getAttribute("aria-pressed") === "false";
  const apply = () => charts.showArms(new Set(chips.filter((chip) => isOff(chip)).map((chip) => chip.dataset.arm)));
  charts.hiddenArms = new Set(chips.filter((chip) => isOff(chip)).map((chip) => chip.dataset.arm));
  const press = (chip, pressed) => chip.setAttribute("aria-pressed", String(pressed));
  for (const chip of chips) chip.addEventListener("click", () => { press(chip, isOff(chip)); apply(); });
  for (const [id, pressed] of [["arms-all", true], ["arms-none", false]]) {
    document.getElementById(id)?.addEventListener("click", () => { chips.forEach((chip) => press(chip, pressed)); apply(); });
  }
}

async function startAnswers() {
  const data = document.getElementById("answer-data");
  if (!data) return;
  try {
    new AnswerBrowser(new AnswerTable(await unpack(data.textContent))).start();
  } catch (error) {
    document.getElementById("answer-count").textContent = `The answers cannot be unpacked here (${error.message}): use a browser of 2023 or later.`;
    throw error;
  }
}

async function startCharts() {
  const data = document.getElementById("chart-data");
  if (!data) return;
  try {
    const charts = new Charts(await unpack(data.textContent));
    startGroups(charts);
    startLegend(charts);
    charts.start();
  } catch (error) {
    for (const place of document.querySelectorAll("[data-chart]")) place.textContent = `The figure cannot be unpacked here (${error.message}): use a browser of 2023 or later.`;
    throw error;
  }
}

new Theme(document.getElementById("theme")).start();
startCharts();
startAnswers();
startRecords();

/* Draws the charts and saves them. Colours in the specifications are the page's CSS colours (var(--name)), so a chart follows the theme
   by itself; a saved picture gets the values that are on the screen. */

class Charts {
  static NARROW = 620;
  static EXPORT_WIDTH = 980;

  constructor({ datasets, charts }) {
    this.datasets = datasets;
    this.specs = charts;
    this.drawn = new Map();
    this.key = "0";
    this.hiddenArms = new Set();
    this.width = 0;
  }

  start() {
    for (const figure of document.querySelectorAll("[data-figure]")) {
      for (const button of figure.querySelectorAll("[data-export]")) {
        button.addEventListener("click", () => this.save(figure.dataset.figure, button.dataset.export));
      }
    }
    const redraw = () => {
      const width = document.getElementById("main").clientWidth;
      if (width !== this.width) this.drawAll();
      this.width = width;
    };
    let timer = 0;
    new ResizeObserver(() => {
      clearTimeout(timer);
      timer = setTimeout(redraw, this.width ? 120 : 0);
    }).observe(document.getElementById("main"));
  }

  select(key) {
    this.key = key;
    this.drawAll((meta) => meta.selected);
  }

  showArms(hidden) {
    this.hiddenArms = hidden;
    this.drawAll((meta) => meta.arms);
  }

  drawAll(wanted = () => true) {
    for (const [name, spec] of Object.entries(this.specs)) {
      if (wanted(spec.usermeta)) this.draw(name);
    }
  }

  /* Draws a chart after whatever drawing of it is still under way. */
  draw(name) {
    this.drawn.set(name, (this.drawn.get(name) ?? Promise.resolve()).then((last) => this.redraw(name, last)));
  }

  async redraw(name, last) {
    const target = document.querySelector(`[data-chart="${name}"]`);
    target.style.minHeight = `${target.offsetHeight}px`; // so that what stands below does not jump
    last?.finalize();
    const { data, usermeta } = this.specs[name];
    target.closest("figure").hidden = Boolean(usermeta.selected) && !this.rows(data.name, usermeta).length;
    const width = target.clientWidth;
    const drawn = width ? await vegaEmbed(target, this.specFor(name, width, width < Charts.NARROW), Charts.options()) : null;
    target.style.minHeight = "";
    return drawn;
  }

  /* The specification with the rows that are selected, laid out for a width in pixels. */
  specFor(name, width, narrow, { legend = false } = {}) {
    const spec = structuredClone(this.specs[name]);
    const { shares, narrow_shares: narrowShares, margin = 0, arms, panels } = spec.usermeta;
    spec.datasets = {};
    for (const dataset of Charts.dataNames(spec)) spec.datasets[dataset] = this.rows(dataset, spec.usermeta);
    if (narrow) spec.config.axis.labelLimit = 110;
    if (spec.hconcat) {
      const parts = Charts.shareOut(narrow ? narrowShares : shares, panels, spec.datasets[spec.data.name]);
      const gaps = spec.config.concat.spacing * (parts.filter(Boolean).length - 1);
      const space = width - this.labelWidth(spec, narrow) - gaps - margin - 12;
      spec.hconcat.forEach((panel, number) => { panel.width = Math.max(30, Math.floor(space * parts[number])); });
      spec.hconcat = spec.hconcat.filter((_, number) => parts[number] > 0);
      // The first panel alone writes the names of the arms, and it may be gone.
      if (panels) Charts.each(spec.hconcat[0], "y", (y) => { y.axis.labels = true; });
    } else {
      spec.width = width;
    }
    if (narrow && spec.hconcat) Charts.each(spec, "axis", Charts.shorten);
    if (narrow) Charts.each(spec, "legend", (value) => { value.columns &&= 2; });
    if (arms && !legend) Charts.each(spec, "legend", (_, encoding) => { encoding.legend = null; });
    return spec;
  }

  /* Shares of the width, of those panels alone that have rows. */
  static shareOut(shares, panels, rows) {
    if (!panels) return shares;
    const shown = shares.map((share, number) => (rows.some((row) => row.format === panels[number]) ? share : 0));
    const sum = shown.reduce((total, share) => total + share, 0);
    return shown.map((share) => share / sum);
  }

  rows(dataset, { selected, arms }) {
    const rows = this.datasets[dataset];
    if (selected) return rows.filter((row) => row.key === this.key);
    if (arms) return rows.filter((row) => !this.hiddenArms.has(row.arm));
    return rows;
  }

  /* Pixels that the longest arm's name takes on the axis. */
  labelWidth(spec, narrow) {
    const context = document.createElement("canvas").getContext("2d");
    context.font = `${spec.config.axis.labelFontSize}px ${spec.config.font}`;
    const rows = spec.datasets[spec.data.name];
    const longest = Math.max(0, ...rows.map((row) => context.measureText(row.arm).width));
    return Math.min(longest, narrow ? 110 : 230) + spec.config.axis.labelPadding;
  }

  async save(name, type) {
    const spec = this.specFor(name, Charts.EXPORT_WIDTH, false, { legend: true });
    spec.padding = 24;
    const holder = document.createElement("div");
    const { view, finalize } = await vegaEmbed(holder, spec, Charts.options());
    const svg = Charts.withColours(await view.toSVG());
    finalize();
    const picture = new Blob([svg], { type: "image/svg+xml" });
    Charts.download(type === "svg" ? picture : await Charts.png(picture), `${name}.${type}`);
  }

  static options() {
    return { renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip: { disableDefaultStyle: true } };
  }

  static dataNames(spec) {
    const names = new Set();
    Charts.each(spec, "data", (data) => names.add(data.name));
    return names;
  }

  /* Calls `visit(value, holder)` for every property of this name, however deep; those without a value are left out. */
  static each(holder, property, visit) {
    for (const [name, value] of Object.entries(holder)) {
      if (value === null || typeof value !== "object") continue;
      if (name === property) visit(value, holder);
      Charts.each(value, property, visit);
    }
  }

  /* An axis for a narrow panel. */
  static shorten(axis) {
    axis.tickCount = 2;
    if (axis.title) axis.title = axis.title.split(",")[0];
  }

  /* Replaces the names of colours by what they are in the present theme. */
  static withColours(svg) {
    const probe = document.body.appendChild(document.createElement("span"));
    const resolved = svg.replace(/var\(--[a-z0-9-]+\)/g, (colour) => {
      probe.style.color = colour;
      return getComputedStyle(probe).color;
    });
    probe.remove();
    return resolved;
  }

  static async png(svg, scale = 2) {
    const image = new Image();
    const address = URL.createObjectURL(svg);
    image.src = address;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth * scale;
    canvas.height = image.naturalHeight * scale;
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(address);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  static download(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
}

"use strict";
// The page is whole without this: it adds values under the pointer, log scales and copy buttons.
function text(v) {
  if (v !== 0 && Math.abs(v) < 1e-3) return v.toExponential(2);
  const large = Math.abs(v) >= 1000;
  return v.toLocaleString("en", large ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 4 });
}

function element(parent, name, className) {
  const made = document.createElement(name);
  made.className = className;
  return parent.appendChild(made);
}

function nearest(xs, x) {
  let low = 0, high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle; else high = middle;
  }
  return x - xs[low] < xs[high] - x ? low : high;
}

function follow(plot, data, range, log, readout) {
  const atRest = [...readout.childNodes];
  const steps = [...new Set(data.series.flatMap((s) => s.x))].sort((a, b) => a - b);
  const scale = log ? Math.log : (v) => v;
  const [bottom, top] = range.map(scale);
  let at = steps.length - 1, marks = [];
  function clear() {
    marks.forEach((mark) => mark.remove());
    marks = [];
    readout.replaceChildren(...atRest);
  }
  function show() {
    clear();
    const step = steps[at];
    readout.replaceChildren(`step ${step.toLocaleString("en")}`);
    const place = (className, x) => {
      const mark = element(plot, "span", className);
      mark.style.left = `${(100 * x) / data.x_max}%`;
      marks.push(mark);
      return mark;
    };
    place("rule", step);
    for (const s of data.series) {
      const i = nearest(s.x, step);
      const elsewhere = s.x[i] === step ? "" : ` at ${s.x[i].toLocaleString("en")}`;
      readout.append(` · ${data.series.length > 1 ? s.name + " " : ""}`);
      const value = element(readout, "b", "");
      value.textContent = s.y[i] === null ? "not finite" : text(s.y[i]) + data.unit;
      readout.append(elsewhere);
      if (s.y[i] !== null) {
        place("dot", s.x[i]).style.top = `${(100 * (top - scale(s.y[i]))) / (top - bottom)}%`;
      }
    }
  }
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    at = nearest(steps, ((event.clientX - box.left) / box.width) * data.x_max);
    show();
  });
  plot.addEventListener("pointerleave", clear);
  plot.addEventListener("blur", clear);
  plot.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    at = Math.min(Math.max(at + (marks.length ? by : 0), 0), steps.length - 1);
    show();
  });
}

for (const figure of document.querySelectorAll(".chart")) {
  const { data, ranges, logs } = JSON.parse(figure.querySelector("script").textContent);
  const plots = [...figure.querySelectorAll(".plot")];
  const readout = figure.querySelector(".readout");
  plots.forEach((plot, i) => follow(plot, data, ranges[i], logs[i], readout));
  const toggle = figure.querySelector(".toggle");
  if (!toggle) continue;
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    const log = toggle.getAttribute("aria-pressed") !== "true";
    toggle.setAttribute("aria-pressed", log);
    plots.forEach((plot, i) => (plot.hidden = logs[i] !== log));
  });
}

for (const box of document.querySelectorAll(".copy")) {
  const button = element(box, "button", "");
  button.type = "button";
  button.textContent = "copy";
  button.addEventListener("click", async () => {
    const code = box.querySelector("code");
    getSelection().selectAllChildren(code);
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      button.textContent = "selected";
    }
    setTimeout(() => (button.textContent = "copy"), 1500);
  });
}

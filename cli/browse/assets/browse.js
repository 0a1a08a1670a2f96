// Conveniences only: every page works without this file. It makes no request and writes no markup.
"use strict";

// Plots: the values under the pointer, or under a cursor that the arrow keys move.
for (const plot of document.querySelectorAll("figure.plot > svg")) {
  const readout = plot.parentElement.querySelector(".readout");
  const cross = plot.querySelector(".cross");
  const numbers = (name) => ["From", "To"].map((end) => Number(plot.dataset[name + end]));
  const [xFrom, xTo] = numbers("x");
  const [yFrom, yTo] = numbers("y");
  const traces = [...plot.querySelectorAll(".trace")].map((line) => ({
    label: line.dataset.label,
    points: line.getAttribute("points").split(" ").map((pair) => pair.split(",").map(Number)),
  }));
  const nearest = (points, x) => {
    let low = 0;
    let high = points.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (points[middle][0] <= x) low = middle; else high = middle;
    }
    return x - points[low][0] <= points[high][0] - x ? points[low] : points[high];
  };
  const place = (x) => {
    const value = xFrom + (x / 1000) * (xTo - xFrom);
    if (plot.dataset.axis === "row") return `row ${Math.round(value)}`;
    if (plot.dataset.axis === "share") return `at ${Math.round(value)}%`;
    const text = new Date(value * 1000).toISOString();
    return xTo - xFrom > 259200 ? text.slice(0, 10) : text.slice(0, 16).replace("T", " ");
  };
  let at = null;
  const show = (x) => {
    at = Math.min(1000, Math.max(0, x));
    const found = traces.map(({ label, points }) => ({ label, point: nearest(points, at) }));
    const amounts = found.map(({ label, point }) => {
      const amount = yTo - (point[1] / 200) * (yTo - yFrom);
      const text = amount.toLocaleString("en", { maximumSignificantDigits: 5 }) + plot.dataset.unit;
      return found.length > 1 ? `${label} ${text}` : text;
    });
    readout.textContent = `${place(found[0].point[0])}: ${amounts.join(", ")}`;
    for (const end of ["x1", "x2"]) cross.setAttribute(end, `${found[0].point[0] / 10}%`);
  };
  const hide = () => {
    at = null;
    readout.textContent = "";
    for (const end of ["x1", "x2"]) cross.setAttribute(end, "-9");
  };
  plot.tabIndex = 0;
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    show(((event.clientX - box.left) / box.width) * 1000);
  });
  plot.addEventListener("pointerleave", hide);
  plot.addEventListener("blur", hide);
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -10, ArrowRight: 10 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    show(at === null ? 500 : at + step);
  });
}

// Comparing: the button waits for exactly two chosen runs.
for (const form of document.querySelectorAll("form[data-pick]")) {
  const boxes = [...form.querySelectorAll("input[name=pick]")];
  const button = form.querySelector("button[type=submit]");
  const refresh = () => {
    const chosen = boxes.filter((box) => box.checked).length;
    for (const box of boxes) box.disabled = chosen >= 2 && !box.checked;
    button.disabled = chosen !== 2;
    button.textContent = chosen === 1 ? "Choose one more" : "Compare two";
  };
  form.addEventListener("change", refresh);
  window.addEventListener("pageshow", refresh);
  refresh();
}

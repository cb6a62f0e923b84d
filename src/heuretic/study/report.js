(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const touch = matchMedia("(pointer: coarse)").matches;
  const config = {
    responsive: true, displaylogo: false, showSendToCloud: false, displayModeBar: touch ? false : "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "downloadJson"],
    toImageButtonOptions: { format: "svg", filename: "study" },
  };
  const axis = (given) => ({
    zeroline: false, showline: true, linecolor: "#8a93a3", gridcolor: "#e6e9ef", ...given,
    title: { ...given.title, font: { size: 13 } },
  });
  const log = (range) => range.map(Math.log10);
  const logRange = (range, lowest) => log([Math.max(range[0], lowest / 1.3), range[1]]);

  function draw(id, traces, layout) {
    const figure = byId(id);
    const plot = figure.querySelector(".plot");
    const narrow = figure.clientWidth < 560;
    figure.classList.add("drawn");
    Plotly.react(plot, traces, {
      font: { family: "system-ui, sans-serif", size: 12.5, color: "#191c22" },
      paper_bgcolor: "#fff", plot_bgcolor: "#fff", hovermode: "closest", dragmode: touch ? false : "zoom",
      margin: { l: narrow ? 58 : 64, r: 14, t: 12, b: 44 },
      legend: { ...(narrow ? { entrywidth: 96, font: { size: 11.5 } } : {}), orientation: "h", x: 0, y: 1, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
      hoverlabel: { bgcolor: "#23262e", bordercolor: "#23262e", font: { color: "#fff", size: 12.5 }, align: "left" },
      showlegend: true, ...layout, xaxis: axis(layout.xaxis), yaxis: { automargin: !narrow, ...axis(layout.yaxis) },
    }, config);
  }
  const lowestOf = (traces) => traces.reduce((low, t) => (t.yaxis ? low : t.y.reduce((a, b) => Math.min(a, b), low)), Infinity);

  function drawCurve() {
    const { data: traces, layout, range } = data.curve;
    const isLog = byId("curve-log")?.checked;
    const yaxis = { ...layout.yaxis };
    if (isLog) yaxis.type = "log";
    if (range) yaxis.range = isLog ? logRange(range, lowestOf(traces)) : range.slice();
    draw("curve", structuredClone(traces), { ...layout, yaxis });
  }

  function drawTradeOff() {
    const { data: traces, layout, range, metrics, front } = data.tradeoff;
    const metric = metrics[byId("metric").value];
    const better = byId("better").value;
    const best = metric.fronts[better === "less" ? 0 : 1];
    const shown = traces.map((trace, i) => ({ ...trace, x: metric.x[i] })).filter((trace) => trace.y.length);
    shown.push({
      type: "scatter", mode: "lines+markers", name: "Pareto front", x: best.x, y: best.y, line: { ...front, shape: better === "less" ? "hv" : "vh" },
      marker: { size: 8, color: front.color }, text: best.numbers.map((n) => `trial ${n}, on the front`), hovertemplate: "%{text}<extra></extra>",
    });
    const xaxis = { ...layout.xaxis, title: { text: metric.title } };
    if (byId("metric-log").checked) xaxis.type = "log";
    const lines = metric.bounds.map(([x]) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: "#d6453d", width: 1.5, dash: "dash" } }));
    const notes = metric.bounds.map(([x, label]) => ({
      x: xaxis.type === "log" ? Math.log10(x) : x, y: 0, yref: "paper", text: label, showarrow: false, xanchor: "right", yanchor: "bottom", font: { size: 11 },
    }));
    const yaxis = { ...layout.yaxis };
    if (range) yaxis.range = range.slice();
    draw("tradeoff", shown, { ...layout, xaxis, yaxis, shapes: lines, annotations: notes });
    byId("front").textContent = best.numbers.length
      ? `${best.numbers.length} ${best.numbers.length === 1 ? "trial" : "trials"} on the front: ${best.numbers.slice(0, 30).join(", ")}${best.numbers.length > 30 ? ", …" : ""}.`
      : "No trial within the limits has both values.";
  }

  function chooseMetric() {
    const metric = data.tradeoff.metrics[byId("metric").value];
    byId("better").value = metric.less ? "less" : "more";
    byId("metric-log").checked = metric.log;
    byId("metric-log").disabled = !metric.positive;
    drawTradeOff();
  }

  // Drag along an axis of the parallel coordinates to keep the trials that pass there; click to clear it.
  function brushing(svg) {
    const paths = [...svg.querySelectorAll(".lines path")];
    const heights = paths.map((path) => path.getAttribute("d").match(/[\d.]+/g).map(Number).filter((_, i) => i % 2));
    const brushes = new Map();
    function filter() {
      let kept = 0;
      paths.forEach((path, i) => {
        const inside = [...brushes].every(([axis, { from, to }]) => heights[i][axis] >= from && heights[i][axis] <= to);
        path.classList.toggle("off", !inside);
        kept += inside;
      });
      byId("kept").textContent = brushes.size ? `${kept} of ${paths.length} trials pass the selected ranges.` : "";
    }
    svg.querySelectorAll(".grab").forEach((grab, axis) => {
      const at = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).y;
      const low = grab.y.baseVal.value, high = low + grab.height.baseVal.value;
      let start = null;
      function clear() {
        brushes.get(axis)?.mark.remove();
        brushes.delete(axis);
      }
      grab.addEventListener("pointerdown", (event) => {
        start = at(event);
        grab.setPointerCapture(event.pointerId);
        event.preventDefault();
      });
      grab.addEventListener("pointermove", (event) => {
        if (start === null || Math.abs(at(event) - start) < 3) return;
        clear();
        const from = Math.max(low, Math.min(start, at(event))), to = Math.min(high, Math.max(start, at(event)));
        const mark = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        for (const [name, value] of Object.entries({ class: "brush", x: grab.x.baseVal.value + 8, width: 20, y: from, height: to - from })) mark.setAttribute(name, value);
        svg.append(mark);
        brushes.set(axis, { from, to, mark });
        filter();
      });
      grab.addEventListener("pointerup", (event) => {
        if (start !== null && Math.abs(at(event) - start) < 3) {
          clear();
          filter();
        }
        start = null;
      });
    });
  }

  document.documentElement.classList.add("js");
  try {
    if (data.curve) {
      drawCurve();
      byId("curve-log")?.addEventListener("change", drawCurve);
    }
    if (data.tradeoff) {
      chooseMetric();
      byId("metric").addEventListener("change", chooseMetric);
      for (const id of ["better", "metric-log"]) byId(id).addEventListener("change", drawTradeOff);
    }
  } catch (error) { // a browser that Plotly does not know: the drawings stay
    console.error(error);
    document.querySelectorAll(".drawn").forEach((figure) => figure.classList.remove("drawn"));
    document.querySelectorAll(".controls").forEach((controls) => controls.remove());
  }
  const parallel = byId("parallel");
  if (parallel) brushing(parallel);
})();

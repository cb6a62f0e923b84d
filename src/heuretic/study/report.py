"""`render`: a study as one HTML file that opens anywhere, offline."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, Literal, Protocol

import heuretic
from heuretic.search import Limit, Space
from heuretic.search.decisions import Categorical, Interval, Length
from heuretic.study.importance import Importance, importance
from heuretic.study.records import TrialRecord
from heuretic.study.report_figures import (
    BEST,
    LINES,
    POINTS,
    Axis,
    Dot,
    Kind,
    Metric,
    curve,
    drawing,
    fences,
    front,
    improvements,
    num,
    parallel,
    shown_dots,
    thin,
    trade_off,
)  # fmt: skip
from heuretic.symbolic import diff
from heuretic.symbolic.diffs import ABSENT, Change
from heuretic.symbolic.display import html as tree_html

#: Rows of the table, axes of the parallel coordinates, choices and metrics with a column, trials read for importance.
TOP, AXES, COLUMNS, SAMPLE = 20, 12, 6, 20_000
#: Lines of a diff, steps of a lineage, kinds of failure and characters of a traceback that are shown.
DIFF_LINES, STEPS, FAILURES, TRACEBACK = 200, 60, 40, 12_000


class Reportable(Protocol):
    """What a report needs to know of a study.

    Two more attributes are shown where a study has them: `reused` (int), how many proposals were answered from memory
    because they repeated a trial, and `store`, whose `url` says where to open the study again.
    """

    @property
    def name(self) -> str: ...
    @property
    def objective(self) -> str: ...
    @property
    def direction(self) -> Literal["maximize", "minimize"]: ...
    @property
    def seed(self) -> int: ...
    @property
    def created(self) -> float: ...
    @property
    def algorithm(self) -> str: ...
    @property
    def limits(self) -> tuple[Limit, ...]: ...
    @property
    def evaluate(self) -> str: ...
    @property
    def trials(self) -> Sequence[TrialRecord]:
        """All trials, in order of number."""
        ...

    @property
    def start(self) -> Any:
        """The complete program that the search started from, None if there is none."""
        ...

    @property
    def best(self) -> TrialRecord | None: ...
    @property
    def environments(self) -> Mapping[int, Mapping[str, str]]: ...

    def space(self, index: int) -> Space:
        """Return the space that `record.space` refers to."""
        ...

    def decode(self, record: TrialRecord) -> Any:
        """Return the complete program of a trial."""
        ...


def render(study: Reportable) -> str:
    """Return the report of a study as one HTML page.

    The page holds everything it shows, plotly.js included (about 5 MB), and its content security policy forbids it
    to load anything or to run any other script. Without scripts it still shows every table and program, and
    drawings of the charts. Equal studies give equal pages.
    """
    page = _Page(study)
    sections = [
        ("progress", "Progress", "Progress", page.progress()),
        ("trade-off", "Cost", "Quality and cost", page.trade_off()),
        ("choices", "Choices", "Choices", page.choices()),
        ("lineage", "Lineage", "How the winner came about", page.lineage()),
        ("programs", "Programs", "The winner against the start", page.programs()),
        ("top", "Best trials", "Best trials", page.table()),
        ("failures", "Failures", "Failures", page.failures()),
        ("environment", "Environment", "Environment", page.environment()),
    ]
    shown = [section for section in sections if section[-1]]
    links = "".join(f'<a href="#{anchor}">{short}</a>' for anchor, short, _, _ in shown)
    body = "".join(
        f'<section id="{anchor}" aria-labelledby="h-{anchor}"><h2 id="h-{anchor}">{title}</h2>{content}</section>\n'
        for anchor, _, title, content in shown
    )
    plotly, script = _inline(_plotly_js()), _inline(_resource("report.js"))
    return _Template(_resource("report.html")).substitute(
        hashes=f"{_hash(plotly)} {_hash(script)}",
        version=escape(heuretic.__version__),
        title=_text(f"{study.name}: report"),
        best=BEST,
        body=_unicode(f'<header>{page.header()}<nav aria-label="Sections">{links}</nav></header>\n<main>{body}</main>'),
        data=_json(page.data),
        plotly=plotly,
        script=script,
    )


class _Template(Template):
    delimiter = "@@"


class _Page:
    """One report in the making: what several sections need, and a method per section."""

    def __init__(self, study: Reportable) -> None:
        self.study = study
        self.best, self.start = study.best, study.start
        self.trials = list(study.trials)
        self.by_number = {record.number: record for record in self.trials}
        self.sign = -1 if study.direction == "minimize" else 1
        self.reader = _Choices(study)
        self.data: dict[str, Any] = {}

    # -- what the sections share ----------------------------------------------------------------------------------

    def value(self, record: TrialRecord) -> float | None:
        """Return the objective as the user defined it (of a pruned trial: its last), None if there is none."""
        value = self.sign * record.score if record.score is not None else record.values.get(self.study.objective)
        return value if value is not None and math.isfinite(value) and record.state != "failed" else None

    @cached_property
    def dots(self) -> list[Dot]:
        """All trials, as the charts see them."""
        return [self._dot(record) for record in self.trials]

    def _dot(self, record: TrialRecord) -> Dot:
        value = self.value(record)
        kind: Kind = "none" if value is None else "pruned" if record.state == "pruned" else "broken" if record.violation > 0 else "kept"
        return Dot(record.number, kind, value, self.sign * (value or 0.0))

    def describe(self, dot: Dot) -> str:
        """Return the hover text of a trial."""
        record = self.by_number[dot.number]
        lines = [f"<b>trial {record.number}</b> ({record.state})", *([f"{_short(self.study.objective)} {num(dot.value)}"] if dot.value is not None else [])]
        lines += [f"{_short(path)}: {_short(_choice_text(value))}" for path, value in list(self.reader(record).items())[:8]]
        if record.error:
            lines.append(_short(_last_line(record.error), 90))
        return "<br>".join(lines)

    @cached_property
    def ranked(self) -> list[TrialRecord]:
        """Finished trials, best first: those within the limits, then by how far they break them."""
        return sorted(self.finished, key=lambda record: (record.violation, -(record.score or 0.0), record.number))

    @cached_property
    def finished(self) -> list[TrialRecord]:
        return [record for record in self.trials if record.state == "finished" and self.value(record) is not None]

    @cached_property
    def judged(self) -> list[TrialRecord]:
        """Finished trials with a value, at most `SAMPLE` of them: those that importance is computed from."""
        return thin(self.finished, SAMPLE)

    @cached_property
    def importances(self) -> list[Importance]:
        scores = [record.score or 0.0 for record in self.judged]
        low, high = fences(scores)
        return importance([self.reader(r) for r in self.judged], [min(max(score, low), high) for score in scores])

    @cached_property
    def main_choices(self) -> list[str]:
        """The paths of the most important choices, in the order of the program."""
        first = {item.choice for item in self.importances[:COLUMNS]}
        return [path for path in self.reader.paths if path in first]

    @cached_property
    def metrics(self) -> list[Metric]:
        """All that can be weighed against the objective: limits first, then costs, other metrics and the time."""
        found: dict[str, dict[int, float]] = {limit.name: {} for limit in self.study.limits}
        for given in ("costs", "values"):
            for record in self.trials:
                for name, cost in getattr(record, given).items():
                    if name != self.study.objective and _is_number(cost):
                        found.setdefault(name, {})[record.number] = float(cost)
        metrics: list[Metric] = []
        for name, costs in found.items():
            limits = [limit for limit in self.study.limits if limit.name == name]
            upper = [(limit.at_most, f"at most {num(limit.at_most)}") for limit in limits if limit.at_most is not None]
            lower = [(limit.at_least, f"at least {num(limit.at_least)}") for limit in limits if limit.at_least is not None]
            metrics.append(Metric(name, costs, bool(upper) or not lower, (*upper, *lower)))
        seconds = {record.number: record.seconds for record in self.trials if _is_number(record.seconds)}
        return [*[m for m in metrics if m.costs][:20], Metric("evaluation time (s)", seconds)]

    # -- sections -------------------------------------------------------------------------------------------------

    def header(self) -> str:
        study, best = self.study, self.best
        states = Counter(record.state for record in self.trials)
        value = self.value(best) if best is not None else None
        cards = [
            (f"Best {_text(study.objective)}", _text(num(value)) if value is not None else "none yet", self._of_best()),
            ("Trials", num(len(self.trials)), ", ".join(f"{num(states[state])} {state}" for state in ("finished", "failed", "pruned") if states[state])),
        ]  # fmt: skip
        reused = getattr(study, "reused", 0)
        if reused:
            cards.append(("Duplicates", num(reused), "proposed again, never paid for"))
        spent = math.fsum(record.seconds for record in self.trials if _is_number(record.seconds))
        begun = [record for record in self.trials if record.started > 0]
        span = max(r.started + r.seconds for r in begun) - min(r.started for r in begun) if begun else None
        cards.append(("Evaluation time", _duration(spent), f"{_duration(spent / len(self.trials))} a trial" if self.trials else ""))
        if span is not None:
            cards.append(("Wall clock", _duration(span), _load(spent, span)))
        facts = [("Algorithm", f"<code>{_text(' '.join(study.algorithm.split()))}</code>"), ("Evaluation", f"<code>{_text(study.evaluate)}</code>")]
        if study.limits:
            facts.append(("Limits", "<br>".join(map(self._limit_text, study.limits))))
        facts += [("Seed", _text(study.seed)), ("Created", _text(_date(study.created)))]
        verb = {"maximize": "Maximising", "minimize": "Minimising"}[study.direction]
        return (
            f'<h1>{_text(study.name)}</h1><p class="subtitle">{verb} {_text(study.objective)}</p><dl class="cards">'
            + "".join(f"<div><dt>{name}</dt><dd>{main}<small>{more}</small></dd></div>" for name, main, more in cards)
            + '</dl><dl class="facts">'
            + "".join(f"<dt>{name}</dt><dd>{fact}</dd>" for name, fact in facts)
            + "</dl>"
        )

    def _of_best(self) -> str:
        if self.best is None:
            return ""
        return f"trial {self.best.number}{', which breaks a limit' if self.best.violation > 0 else ''}"

    def _limit_text(self, limit: Limit) -> str:
        bounds = [f"at most {num(limit.at_most)}"] if limit.at_most is not None else []
        bounds += [f"at least {num(limit.at_least)}"] if limit.at_least is not None else []
        kind = "computed beforehand" if any(limit.name in r.costs for r in self.trials[:100]) else "measured" if limit.measured else "computed"
        return f"<code>{_text(limit.name)}</code> {' and '.join(bounds)} ({kind})"

    def progress(self) -> str:
        if not self.trials:
            return "<p>No trial has been evaluated yet.</p>"
        better = improvements(self.dots)
        steps = [(float(dot.number), dot.value) for dot in better if dot.value is not None]
        line = [*steps, (float(self.trials[-1].number), steps[-1][1])] if steps else []
        title = f"{self.study.objective} of {len(self.trials)} trials by number, and the best so far."
        if steps:
            title += f" The best goes from {num(steps[0][1])} in trial {better[0].number} to {num(steps[-1][1])} in trial {better[-1].number}."
        points: list[tuple[float, float, Kind]] = [(float(dot.number), dot.value, dot.kind) for dot in shown_dots(self.dots, 500) if dot.value is not None]
        missing = [float(dot.number) for dot in thin([dot for dot in self.dots if dot.value is None], 200)]
        static = drawing(
            points, _limited(line), title=title, x_title="trial", y_title=self.study.objective, stroke=BEST, low_x=0.0, no_value=missing
        )
        figure = self.data["curve"] = curve(self.dots, self.study.objective, self.describe)
        notes: list[str] = []
        if not better:
            notes.append("No trial finished within the limits with a value.")
        if len(self.trials) > POINTS:
            notes.append(f"{num(len(shown_dots(self.dots)))} of {num(len(self.trials))} trials are drawn, every improvement among them.")
        if figure["beyond"]:
            notes.append(f"{_count(figure['beyond'], 'trial')} outside the axis; double-click to see all.")
        log = '<label><input type="checkbox" id="curve-log"' + (" checked" if figure["log"] else "") + "> logarithmic axis</label>"
        rows = "".join(
            f'<tr><th scope="row">{dot.number}</th><td class="n">{num(dot.value)}</td><td class="n">{_gain(before, dot)}</td><td>{_text(self.by_number[dot.number].origin)}</td></tr>'
            for before, dot in [(None, dot) if i == 0 else (better[i - 1], dot) for i, dot in enumerate(better)][-50:]
        )
        table = (
            f'<details><summary>Improvements as a table ({num(len(better))})</summary><div class="wide" tabindex="0" role="region" aria-label="Improvements">'
            '<table><caption class="soft">The last 50 at most.</caption><thead><tr><th scope="col">Trial</th>'
            f'<th scope="col" class="n">{_text(self.study.objective)}</th><th scope="col" class="n">gain</th><th scope="col">origin</th></tr></thead><tbody>{rows}</tbody></table></div></details>'
        )
        controls = f'<div class="controls">{log}</div>' if figure["positive"] else ""
        return controls + _figure("curve", title, static, " ".join(notes)) + (table if better else "")

    def trade_off(self) -> str:
        valued = [dot for dot in self.dots if dot.value is not None]
        if not valued:
            return ""
        first = self.metrics[0]
        kept = [(first.costs[dot.number], dot) for dot in valued if dot.kind == "kept" and dot.number in first.costs]
        best = front(kept, first.less_is_better)
        self.data["tradeoff"] = trade_off(self.dots, self.metrics, self.study.objective, self.describe)
        title = f"{self.study.objective} against {first.name}, one point per trial. {len(best)} trials are on the Pareto front."
        shown = shown_dots([dot for dot in valued if dot.number in first.costs], 500)
        points: list[tuple[float, float, Kind]] = [(first.costs[dot.number], dot.value, dot.kind) for dot in shown if dot.value is not None]
        line = [(cost, dot.value) for cost, dot in best if dot.value is not None]
        static = drawing(points, _limited(line), title=title, x_title=first.name, y_title=self.study.objective, stroke="#0c9b74")
        options = "".join(f'<option value="{i}">{_text(metric.name)}</option>' for i, metric in enumerate(self.metrics))
        controls = (
            f'<div class="controls"><label>Cost <select id="metric">{options}</select></label>'
            '<label>Better is <select id="better"><option value="less">less</option><option value="more">more</option></select></label>'
            '<label><input type="checkbox" id="metric-log"> logarithmic axis</label></div>'
        )
        names = ", ".join(str(dot.number) for _, dot in best[:30]) + (", …" if len(best) > 30 else "")
        caption = f"{len(best)} {'trial' if len(best) == 1 else 'trials'} on the front: {names}." if best else "No trial within the limits has both values."
        note = '<p class="soft">The front joins the trials within the limits that no other trial beats on both axes.</p>'
        return note + controls + _figure("tradeoff", title, static, f'<span id="front" aria-live="polite">{caption}</span>')

    def choices(self) -> str:
        if not self.judged or not self.importances:
            return ""
        return self._importance_table() + self._parallel()

    def _importance_table(self) -> str:
        found = self.importances
        n = len(self.judged)
        rows = [
            f"<tr{'' if item.certain else ' class=unsure'}>"
            f'<th scope="row">{_path(item.choice)}</th>'
            f'<td><span class="bar" style="width:{100 * item.share:.1f}%"></span></td>'
            f'<td class="n">{100 * item.share:.0f}%</td><td>{_certainty(item)}</td></tr>'
            for item in found
        ]
        head = (
            '<thead><tr><th scope="col">Choice</th><th scope="col">Share of the variance it explains alone</th>'
            '<th scope="col" class="n">Share</th><th scope="col">Evidence</th></tr></thead>'
        )
        table = f'<div class="wide" tabindex="0" role="region" aria-label="Importance of choices"><table class="bars">{head}<tbody>{"".join(rows[:15])}</tbody></table></div>'
        if len(rows) > 15:
            table += f'<details><summary>{len(rows) - 15} choices that explain less</summary><table class="bars">{head}<tbody>{"".join(rows[15:200])}</tbody></table></details>'
        notes = [f"Epsilon squared of a one-way analysis of variance over {num(n)} finished trials; 0% is what chance gives."]
        if n < 10 * max(item.groups for item in found) or not any(item.certain for item in found):
            notes.append("<strong>There are few trials for this: read the shares as hints.</strong>")
        notes.append("Shares need not add up to 100%: combinations belong to no single choice, and a search varies choices together, not at random.")
        return f'<h3>Which choices matter</h3><p class="soft">{" ".join(notes)}</p>{table}'

    def _parallel(self) -> str:
        ranked = [record for record in self.ranked if record.violation <= 0] or self.ranked
        chosen = [*ranked[: LINES // 3], *thin(ranked[LINES // 3 :], LINES - LINES // 3)]
        read = {record.number: self.reader(record) for record in chosen}
        first = {item.choice for item in self.importances[: AXES - 1]}
        paths = [path for path in self.reader.paths if path in first and any(path in its for its in read.values())]
        axes = [self.reader.axis(path, [its.get(path, _UNUSED) for its in read.values()]) for path in paths]
        scores = [record.score or 0.0 for record in chosen]
        low, high = max(fences(scores)[0], min(scores)), max(scores)
        values = sorted((self.sign * low, self.sign * high))
        axes.append(Axis(self.study.objective, low=values[0], high=values[1]))
        rows = []
        for record in reversed(chosen):
            its = [read[record.number].get(path, _UNUSED) for path in paths]
            shown = [None if v is _UNUSED else _choice_text(v) if axis.categories else v for v, axis in zip(its, axes, strict=False)]
            strength = (min(max(record.score or 0.0, low), high) - low) / (high - low) if high > low else 1.0
            rows.append((f"trial {record.number}: {num(self.value(record))}", strength, [*shown, self.value(record)]))
        title = f"Parallel coordinates of {len(paths)} choices and {self.study.objective} for {len(rows)} trials; stronger lines are better."
        swatches = "".join(f'<i class="k{level}"></i>' for level in range(8))
        worst, best = num(self.sign * low), num(self.sign * high)
        legend = f'<div class="legend">{_text(self.study.objective)} {worst} <span>{swatches}</span> {best}, the better the stronger; the best trial in orange</div>'
        notes = [] if len(rows) == len(ranked) else [f"The best {LINES // 3} trials and {len(rows) - LINES // 3} of the others."]
        if len(self.importances) > len(paths):
            notes.append(f"The {len(paths)} most important of {len(self.importances)} choices.")
        hint = '<span class="screen controls">Drag along an axis to select a range, click it to clear.</span>'
        return (
            f'<h3>Choices and {_text(self.study.objective)}</h3>{legend}<figure><div class="wide" tabindex="0" role="region" aria-label="Parallel coordinates">'
            f"{parallel(axes, rows, title)}</div><figcaption>{' '.join(notes)} {hint}"
            '<span id="kept" aria-live="polite"></span></figcaption></figure>'
        )

    def lineage(self) -> str:
        if self.best is None:
            return ""
        chain = [self.best]
        while (parent := next((p for p in chain[-1].parents if p < chain[-1].number and p in self.by_number), None)) is not None:
            chain.append(self.by_number[parent])
        chain.reverse()
        gap = len(chain) - STEPS  # the middle of a long chain is left out
        places = [*range(STEPS // 4), *range(STEPS // 4 + gap, len(chain))] if gap > 0 else list(range(len(chain)))
        steps = [self._step(chain, i) for i in places]
        if gap > 0:
            steps.insert(STEPS // 4, f'<li class="fold soft">{num(gap)} more steps are left out here.</li>')
        if len(steps) > 9:
            inner = f'<li class="fold"><details><summary>{num(len(chain) - 7)} steps between</summary><ol class="lineage">{"".join(steps[2:-5])}</ol></details></li>'
            steps = [*steps[:2], inner, *steps[-5:]]
        note = "a crossover is followed to its first parent" if any(len(r.parents) > 1 for r in chain) else "each step shows what it changed"
        count = "one trial" if len(chain) == 1 else f"{num(len(chain))} trials"
        return f'<p class="soft">{count[0].upper()}{count[1:]}, from the first to the winner; {note}.</p><ol class="lineage">{"".join(steps)}</ol>'

    def _step(self, chain: list[TrialRecord], index: int) -> str:
        record = chain[index]
        value = self.value(record)
        before = self.value(chain[index - 1]) if index else None
        change = ""
        if value is not None and before is not None:
            kind = "up" if self.sign * (value - before) > 0 else "down" if value != before else "soft"
            change = f' <span class="{kind}">({value - before:+.4g})</span>'
        how = _text(record.origin)
        if len(record.parents) > 1:
            how += f" of trials {', '.join(map(str, record.parents))}"
        program = self.study.decode(record)
        if index:
            changes = _diff_html(diff(self.study.decode(chain[index - 1]), program), 40)
        else:
            found = diff(self.start, program) if self.start is not None else []
            changes = f"<details><summary>{_count(len(found), 'difference')} from the starting program</summary>{_diff_html(found, 40)}</details>" if found else ""
        last = ' class="last"' if index == len(chain) - 1 else ""
        shown = num(value) if value is not None else record.state
        return f"<li{last}><strong>Trial {record.number}</strong>, {how}: {_text(self.study.objective)} {shown}{change}{changes}</li>"

    def programs(self) -> str:
        if self.best is None:
            return f'<p>There is no winner yet. The starting program:</p><div class="two"><div>{tree_html(self.start)}</div></div>' if self.start is not None else ""
        winner = self.study.decode(self.best)
        if self.start is None:
            return f'<p>There is no starting program. The winner, trial {self.best.number}:</p><div class="two"><div>{tree_html(winner)}</div></div>'
        changes = diff(self.start, winner)
        intro = f'<p class="soft">{_count(len(changes), "difference")}.</p>{_diff_html(changes, DIFF_LINES)}' if changes else "<p>The winner is the starting program.</p>"
        return (
            f'{intro}<div class="two"><div><h3>Winner (trial {self.best.number})</h3>{tree_html(winner)}</div>'
            f"<div><h3>Start</h3>{tree_html(self.start)}</div></div>"
        )

    def table(self) -> str:
        top = self.ranked[:TOP]
        if not top:
            return ""
        counts = Counter(name for r in top for given in (r.values, r.costs) for name in given if name != self.study.objective)
        metrics = [name for name, _ in counts.most_common(COLUMNS)]
        with_state = any(r.state != "finished" or r.violation > 0 for r in top)
        head = ['<th scope="col">Trial</th>', f'<th scope="col" class="n">{_path(self.study.objective)}</th>', *(['<th scope="col">State</th>'] if with_state else [])]
        head += [f'<th scope="col" class="n">{_path(name)}</th>' for name in metrics] + ['<th scope="col" class="n">time</th>']
        head += [f'<th scope="col">{_path(path)}</th>' for path in self.main_choices] + ['<th scope="col">More</th>']
        rows: list[str] = []
        for record in top:
            its = self.reader(record)
            cells = [f'<th scope="row">{record.number}</th><td class="n first">{num(self.value(record))}</td>']
            if with_state:
                cells.append(f"<td>{record.state}{f', limits exceeded by {record.violation:.2g}' if record.violation > 0 else ''}</td>")
            measured = {**record.costs, **record.values}
            cells += [f'<td class="n">{_text(num(measured[name])) if name in measured else ""}</td>' for name in metrics]
            cells.append(f'<td class="n">{_duration(record.seconds)}</td>')
            cells += [f"<td>{_text(_short_choice(its[path]))}</td>" if path in its else '<td class="soft">not used</td>' for path in self.main_choices]
            facts = {**{path: _choice_text(v) for path, v in its.items()}, **{name: num(v) for name, v in measured.items()}}
            facts |= {"origin": record.origin, "parents": ", ".join(map(str, record.parents)) or "none", "seed": str(record.seed), "worker": record.worker, "digest": record.digest}
            listed = "".join(f"<dt>{_text(name)}</dt><dd>{_text(fact)}</dd>" for name, fact in list(facts.items())[:80])
            cells.append(f'<td><details><summary aria-label="All about trial {record.number}">all</summary><dl class="facts">{listed}</dl></details></td>')
            rows.append(f"<tr>{''.join(cells)}</tr>")
        return (
            '<div class="wide" tabindex="0" role="region" aria-label="Best trials"><table>'
            f"<caption>The best {len(top)} of {num(len(self.trials))}.</caption>"
            f"<thead><tr>{''.join(head)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        )

    def failures(self) -> str:
        groups: dict[str, list[TrialRecord]] = {}
        for record in self.trials:
            if record.state == "failed":
                groups.setdefault(_last_line(record.error or ""), []).append(record)
        if not groups:
            return ""
        parts = [f'<p class="soft">{_count(sum(map(len, groups.values())), "trial")} failed, in {_count(len(groups), "way")}.</p>']
        ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[1][0].number))
        for line, records in ordered[:FAILURES]:
            numbers = ", ".join(str(r.number) for r in records[:12]) + (", …" if len(records) > 12 else "")
            error = records[0].error or "(no traceback was recorded)"
            if len(error) > TRACEBACK:
                error = f"{error[: TRACEBACK // 2]}\n\n... {len(error) - TRACEBACK} characters left out ...\n\n{error[-TRACEBACK // 2 :]}"
            parts.append(
                f"<details><summary><strong>{num(len(records))}×</strong> <code>{_text(_clip(line, 300))}</code></summary>"
                f'<p class="soft">Trials {numbers}; the traceback is of trial {records[0].number}.</p><pre>{_text(error)}</pre></details>'
            )
        if len(ordered) > FAILURES:
            parts.append(f'<p class="soft">{len(ordered) - FAILURES} rarer ways are left out.</p>')
        return "".join(parts)

    def environment(self) -> str:
        study = self.study
        used = Counter(record.environment for record in self.trials)
        parts = []
        environments = {index: facts for index, facts in study.environments.items() if used[index] or not used}
        for index, facts in environments.items():
            listed = "".join(f"<dt>{_text(name)}</dt><dd>{_text(fact)}</dd>" for name, fact in facts.items())
            title = f"<h3>Environment {_text(index)} ({_count(used[index], 'trial')})</h3>" if len(environments) > 1 else ""
            parts.append(f'{title}<dl class="facts">{listed}</dl>')
        url = getattr(getattr(study, "store", None), "url", "")
        if url == "memory":
            again = "<p>The study was kept in memory only. Give <code>store=</code> to keep one.</p>"
        else:
            address = repr(_without_password(url)) if url else "..."
            code = f"import heuretic as hr\n\nstudy = hr.open_study({address}, {study.name!r})\nstudy.best.program"
            again = f"<pre><code>{_text(code)}</code></pre>"
        return f"{''.join(parts)}<h3>Open the study again</h3>{again}"


_UNUSED = object()


class _Choices:
    """The choices of trials by path, as `Space.chosen` shows them, but quick for many trials."""

    def __init__(self, study: Reportable) -> None:
        self._study = study
        self._spaces: dict[int, Space] = {}
        self._labels: dict[tuple[int, int, tuple[Any, ...]], Any] = {}
        self._numeric: dict[int, list[bool]] = {}
        self._names: dict[int, list[str]] = {}
        self._known: dict[int, dict[str, Any]] = {}
        self._intervals: dict[str, Interval | Length] = {}
        self._places: dict[tuple[str, str], float] = {}
        #: Paths of all choices of the spaces seen, in the order of the program.
        self.paths: dict[str, None] = {}

    def __call__(self, record: TrialRecord) -> dict[str, Any]:
        known = self._known.get(record.number)
        if known is not None:
            return known
        if record.space not in self._spaces:
            self._meet(record.space, self._study.space(record.space))
        space = self._spaces[record.space]
        names, numeric, genome = self._names[record.space], self._numeric[record.space], record.genome
        chosen: dict[str, Any] = {}
        for i, applies in enumerate(space.active(genome)):
            if not applies:
                continue
            if numeric[i]:
                chosen[names[i]] = genome[space.offsets[i]]
                continue
            key = (record.space, i, space.genes(genome, i))
            if key not in self._labels:
                label = self._labels[key] = space.chosen(genome)[names[i]]
                order = float(label) if _is_number(label) else float(key[2][0]) if isinstance(space.decisions[i], Categorical) else 0.0
                self._places.setdefault((names[i], _choice_text(label)), order)
            chosen[names[i]] = self._labels[key]
        self._known[record.number] = chosen
        return chosen

    def _meet(self, index: int, space: Space) -> None:
        names = [str(path) or "program" for path in space.paths]
        self._spaces[index] = space
        self._names[index] = names
        self._numeric[index] = [isinstance(decision, Interval | Length) for decision in space.decisions]
        for name, decision in zip(names, space.decisions, strict=True):
            if isinstance(decision, Interval | Length):
                known = self._intervals.get(name, decision)
                wider = known if (known.hi - known.lo) >= (decision.hi - decision.lo) else decision
                self._intervals[name] = wider
        self.paths.update(dict.fromkeys(names))

    def axis(self, path: str, values: Iterable[Any]) -> Axis:
        """Return the axis for a choice of which these values are to be shown, `_UNUSED` where it did not apply."""
        given = list(values)
        present = [value for value in given if value is not _UNUSED]
        missing = len(present) < len(given)
        interval = self._intervals.get(path)
        if interval is not None and all(map(_is_number, present)):
            log = isinstance(interval, Interval) and interval.log and min(present) > 0
            low, high = min(interval.lo, *present), max(interval.hi, *present)
            whole = isinstance(interval, Length) or interval.whole
            spread = 0.4 / (high - low) if whole and 0 < high - low <= 12 and not log else 0.0
            return Axis(path, low=low, high=high, log=log, missing=missing, spread=spread)
        texts = {_choice_text(value) for value in present}
        ordered = sorted(texts, key=lambda text: (self._places.get((path, text), 0.0), text))
        return Axis(path, tuple(ordered), missing=missing, spread=0.4 / max(1, len(ordered)))


# -- small parts ------------------------------------------------------------------------------------------------------


def _figure(name: str, title: str, static: str, caption: str) -> str:
    return (
        f'<figure id="{name}"><div class="plot screen-only" role="group" aria-label="{_text(title)}"></div>'
        f'<div class="static">{static}</div><figcaption>{caption}</figcaption></figure>'
    )


def _limited(line: list[tuple[float, Any]], limit: int = 500) -> list[tuple[float, Any]]:
    return thin(line, limit)


def _gain(before: Dot | None, dot: Dot) -> str:
    return f"{dot.value - before.value:+.4g}" if before is not None and dot.value is not None and before.value is not None else ""


def _certainty(item: Importance) -> str:
    if item.groups < 2:
        return "only one value was tried"
    if item.noise >= 1:
        return f"too few trials ({num(item.trials)}) for {item.groups} values"
    where = f"{num(item.trials)} trials, {item.groups} groups"
    return where if item.certain else f"{where}: could be chance (up to {100 * item.noise:.2g}%)"


def _diff_html(changes: Sequence[Change], limit: int) -> str:
    lines = [_change_html(change) for change in changes[:limit]]
    more = f'<p class="soft">{num(len(changes) - limit)} more differences are left out.</p>' if len(changes) > limit else ""
    return f'<pre class="diff">{chr(10).join(lines) or "(no difference)"}</pre>{more}'


def _change_html(change: Change) -> str:
    place = str(change.path) or "(root)"
    before = str(Change(change.path, change.before, ABSENT)).removeprefix(f"- {place}: ") if change.before is not ABSENT else ""
    after = str(Change(change.path, ABSENT, change.after)).removeprefix(f"+ {place}: ") if change.after is not ABSENT else ""
    sign = "+" if not before else "-" if not after else "~"
    shown = [f"<del>{_text(before)}</del>"] * bool(before) + [f"<ins>{_text(after)}</ins>"] * bool(after)
    return f"{sign} <b>{_text(place)}</b>: {' → '.join(shown)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _choice_text(value: Any) -> str:
    """Return a chosen value as text; a string that reads like another value keeps its quotes."""
    if not isinstance(value, str):
        return num(value) if isinstance(value, float) else repr(value)
    return repr(value) if value in ("", "None", "True", "False") or re.fullmatch(r"[-+]?[\d.,]+(e[-+]?\d+)?", value) else value


def _short_choice(value: Any) -> str:
    return _clip(_choice_text(value), 40)


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _short(text: str, limit: int = 44) -> str:
    """Return text for a Plotly label, which reads some HTML."""
    return escape(_clip(text, limit))


def _count(n: int, noun: str) -> str:
    return f"{num(n)} {noun}{'' if n == 1 else 's'}"


def _path(name: str) -> str:
    """Return a path that may be broken before its dots and brackets."""
    return re.sub(r"(?=[.\[_])", "<wbr>", _text(name))


def _last_line(error: str) -> str:
    """Return the line that says what went wrong, with addresses blotted out so that equal errors are equal."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return re.sub(r"0x[0-9a-fA-F]{6,}", "0x…", lines[-1]) if lines else "(no traceback was recorded)"


def _without_password(address: str) -> str:
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", address)


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _load(spent: float, span: float) -> str:
    """Return how much of the wall-clock time went into evaluations."""
    if span <= 0:
        return ""
    return f"{spent / span:.1f} evaluations at once" if spent >= 1.05 * span else f"{100 * spent / span:.0f}% of it evaluating"


def _date(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, OSError, ValueError):
        return "unknown"


# -- the page's plumbing ----------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    return escape(str(value))


def _unicode(text: str) -> str:
    """Return text that can be written as UTF-8: half characters, as in undecodable file names, become '?'."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _json(data: Any) -> str:
    """Return JSON that can stand in a script element: ASCII only, and nothing that HTML could read as its own."""
    text = json.dumps(_finite(data), separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(data: Any) -> Any:
    """Return the data with numbers that JSON lacks as null, and to six digits, which no screen can tell apart."""
    if isinstance(data, float):
        return float(f"{data:.7g}") if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list | tuple) else data


def _resource(name: str) -> str:
    return (files("heuretic.study") / name).read_text(encoding="utf-8")


def _plotly_js() -> str:
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def _inline(script: str) -> str:
    """Return a script that may stand in a page: nothing in its strings ends the element, lines end as HTML reads them."""
    script = script.replace("\r\n", "\n").replace("\r", "\n")
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"

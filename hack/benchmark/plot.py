"""The medians as bars, in an SVG."""

from html import escape

COLORS = {"tare": "#1f77b4", "crun": "#ff7f0e", "runc": "#7f7f7f", "floor": "#2ca02c"}
BAR, GAP, LEFT, WIDTH, TOP = 14, 14, 230, 460, 44


def bars(report):
    """(row, [(name, median, first quartile, third quartile)]), for the rows that a person looks for."""
    for row, by_name in report["times"].items():
        if ": " in row or row.startswith("g. "):
            continue
        found = [(name, by_name[name]["wall"]) for name in COLORS if name in by_name]
        yield row, [(name, wall["median"], wall["q1"], wall["q3"]) for name, wall in found]


def svg(report):
    """Each workload has a scale of its own, ended by its slowest."""
    parts, y = [], TOP
    for row, group in bars(report):
        longest = max(third for _, _, _, third in group)
        middle = y + len(group) * BAR / 2 + 4
        parts.append(f'<text x="{LEFT - 8}" y="{middle:.0f}" text-anchor="end">{escape(row)}</text>')
        for name, median, first, third in group:
            length, low, high = (value / longest * WIDTH for value in (median, first, third))
            center = y + (BAR - 2) / 2
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 2}" fill="{COLORS[name]}"/>')
            parts.append(f'<path d="M{LEFT + low:.1f} {center}H{LEFT + high:.1f}" stroke="#000" stroke-width="1"/>')
            parts.append(f'<text x="{LEFT + max(length, high) + 6:.1f}" y="{y + BAR - 4}">{median:.2f} ms</text>')
            y += BAR
        y += GAP
    legend, x = [], LEFT
    for name, color in COLORS.items():
        legend.append(f'<rect x="{x}" y="12" width="12" height="12" fill="{color}"/><text x="{x + 18}" y="22">{name}</text>')
        x += 80
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 90}" height="{y}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="#fff"/>', *legend, *parts, "</svg>", ""])

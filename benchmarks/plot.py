"""Draw a bar chart: read `{"title", "unit", "bars": [[label, value, low, high], …]}` from standard input and write an
SVG file to the given path. Runs in a separate environment that has Matplotlib.
"""

import json
import sys
from typing import Any

from matplotlib.figure import Figure

_INCHES_A_BAR, _WIDTH = 0.45, 8.0


def main() -> None:
    """Draw the chart."""
    asked: dict[str, Any] = json.load(sys.stdin)
    bars = asked["bars"][::-1]  # the first on top
    labels, values = [bar[0] for bar in bars], [bar[1] for bar in bars]
    spread = [[bar[1] - bar[2] for bar in bars], [bar[3] - bar[1] for bar in bars]]
    figure = Figure(figsize=(_WIDTH, 1.2 + _INCHES_A_BAR * len(bars)), layout="constrained")
    axes = figure.subplots()
    colours = ["#2b6cb0" if label.startswith("rota") else "#a0aec0" for label in labels]
    drawn = axes.barh(labels, values, xerr=spread, color=colours, ecolor="#4a5568", capsize=3)
    axes.bar_label(drawn, fmt="{:,.3g}", padding=6)
    axes.set_xlabel(asked["unit"])
    axes.set_title(asked["title"], loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    figure.savefig(sys.argv[1])


if __name__ == "__main__":
    main()

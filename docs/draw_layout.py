"""Draw the packages of resnet_jax: `python docs/draw_layout.py` writes docs/images/layout.svg.

A package stands one step above the highest one that it imports, and has lines to those that it imports directly and not
only through others; all of this is read from the imports.
"""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "resnet_jax"
PATH = Path(__file__).parent / "images" / "layout.svg"
PARTS = {  # modules and packages of a box: where it is from left to right, and what it is for
    "cli, __main__": (430, "the command line"),
    "commands": (430, "subcommands"),
    "comparing": (75, "networks"),
    "planning": (217, "other machines"),
    "benchmarking": (75, "this machine"),
    "exporting": (360, "ONNX, StableHLO"),
    "serving": (503, "HTTP"),
    "diagnosing": (645, "doctor"),
    "training": (145, "step, loop"),
    "classifier": (430, "load, predict"),
    "data": (600, "images"),
    "runs": (220, "run folders"),
    "hardware": (600, "devices"),
    "weights": (430, "torchvision's"),
    "config, recipe": (220, "options"),
    "models": (310, "networks"),
    "page": (75, "to try an image"),
    "errors, checked_text, json_files, entry": (520, "messages, files"),
}
OWNER = {module: part for part in PARTS for module in part.split(", ")}
WIDTH, BOX, HEIGHT, STEP, MARGIN = 720, 134, 52, 88, 20
COLORS = {"front": "#a06a12", "wing": "#2f7d73", "core": "#3f6fa3"}
FRONT = {"cli, __main__", "commands"}
WINGS = {"planning", "benchmarking", "exporting", "serving", "diagnosing"}

Graph = dict[str, set[str]]


def imports() -> Graph:
    """Return the parts that each part imports."""
    graph: Graph = {part: set() for part in PARTS}
    for path in PACKAGE.rglob("*.py"):
        part = OWNER.get(path.relative_to(PACKAGE).with_suffix("").parts[0])  # none for the package's __init__.py
        for node in ast.walk(ast.parse(path.read_text())):
            if part and isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resnet_jax"):
                full = node.module if node.module != "resnet_jax" else f"resnet_jax.{node.names[0].name}"
                graph[part] |= {OWNER[full.split(".")[1]]} - {part}
    return graph


def direct(graph: Graph) -> Graph:
    """Leave out what a part also imports through another one."""
    below: Graph = {}
    for part in TopologicalSorter(graph).static_order():
        below[part] = graph[part].union(*(below[other] for other in graph[part]))
    return {
        part: {each for each in others if not any(each in below[it] for it in others)} for part, others in graph.items()
    }


def places(graph: Graph) -> dict[str, tuple[float, float]]:
    """Return the middle of each box's upper edge; the capabilities share a step."""
    step: dict[str, int] = {}
    for part in TopologicalSorter(graph).static_order():
        step[part] = 1 + max((step[other] for other in graph[part]), default=-1)
    step |= dict.fromkeys(WINGS, max(step[part] for part in WINGS))
    top = max(step.values())
    return {part: (x, MARGIN + STEP * (top - step[part])) for part, (x, _) in PARTS.items()}


def box(part: str, x: float, y: float) -> str:
    color = COLORS["front" if part in FRONT else "wing" if part in WINGS | {"comparing"} else "core"]
    name = part if len(part) < 20 else f"{part.split(', ')[0]}, ..."
    return (
        f'<rect x="{x - BOX / 2:g}" y="{y:g}" width="{BOX}" height="{HEIGHT}" rx="6" fill="{color}"/>\n'
        f'<text x="{x:g}" y="{y + 22:g}" font-size="15.5" font-weight="bold">{name}</text>\n'
        f'<text x="{x:g}" y="{y + 41:g}" font-size="13.5">{PARTS[part][1]}</text>'
    )


def line(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x, y), (to_x, to_y) = (start[0], start[1] + HEIGHT), end
    bend = (to_y - y) / 2
    return f'<path d="M{x:g} {y:g}C{x:g} {y + bend:g} {to_x:g} {to_y - bend:g} {to_x:g} {to_y:g}"/>'


def draw() -> str:
    graph = imports()
    place = places(graph)
    height = max(y for _, y in place.values()) + HEIGHT + MARGIN
    lines = [line(place[part], place[other]) for part, others in direct(graph).items() for other in sorted(others)]
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" text-anchor="middle" fill="#fff" '
            'font-family="Helvetica, Arial, sans-serif">',
            f'<rect width="{WIDTH}" height="{height}"/>',
            '<g fill="none" stroke="#8c8c8c" stroke-width="1.6">',
            *lines,
            "</g>",
            *(box(part, *place[part]) for part in PARTS),
            "</svg>\n",
        )
    )


if __name__ == "__main__":
    PATH.write_text(draw())

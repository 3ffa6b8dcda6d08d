"""What builds on what as a drawing whose boxes are links, for pages where no script draws the Mermaid diagram.

A notebook stands one row below the lowest one that it builds on. Lines that others already imply are left out.
"""

import textwrap
from collections.abc import Mapping
from html import escape
from statistics import mean

from tools.parameter_tables import Step

BOX, GAP = (138, 50), (10, 34)
"""Width and height of a box, and the room between boxes, in points."""


def rows(course: Mapping[str, Step]) -> list[list[str]]:
    """The numbers of the notebooks, row by row, each below all that it builds on."""
    depth: dict[str, int] = {}

    def of(number: str) -> int:
        if number not in depth:
            depth[number] = 1 + max(map(of, course[number].earlier), default=-1)
        return depth[number]

    found: list[list[str]] = [[] for _ in range(1 + max(map(of, course)))]
    place: dict[str, float] = {}
    for number in sorted(course, key=of):
        found[depth[number]].append(number)
    for row in found:
        row.sort(key=lambda number: mean([place[each] for each in needed(course, number)] or [0]))
        place |= {number: index - (len(row) - 1) / 2 for index, number in enumerate(row)}
    return found


def needed(course: Mapping[str, Step], number: str) -> list[str]:
    """What a notebook builds on, without what these build on themselves."""

    def below(each: str) -> set[str]:
        return {each}.union(*map(below, course[each].earlier))

    earlier = course[number].earlier
    return [each for each in earlier if not any(each in below(other) for other in earlier if other != each)]


def svg(course: Mapping[str, Step]) -> str:
    """The drawing. Its colours are those of the page (`.course` in `docs/site/site.css`)."""
    (wide, high), (beside, below) = BOX, GAP
    placed = rows(course)
    width = max(map(len, placed)) * (wide + beside) - beside
    corner = {
        number: ((width - len(row) * (wide + beside) + beside) / 2 + index * (wide + beside), level * (high + below))
        for level, row in enumerate(placed)
        for index, number in enumerate(row)
    }
    lines, boxes = [], []
    for number, step in course.items():
        x, y = corner[number]
        middle, bend = x + wide / 2, below * 0.6
        for earlier in needed(course, number):
            above, foot = corner[earlier][0] + wide / 2, corner[earlier][1] + high
            curve = f"M{above:g} {foot:g} C{above:g} {foot + bend:g} {middle:g} {y - bend:g} {middle:g} {y:g}"
            lines.append(f'<path d="{curve}"/>')
        words = textwrap.wrap(f"{number} {step.title}", 19)
        top = y + high / 2 - 7.5 * (len(words) - 1) + 4.5
        text = "".join(
            f'<tspan x="{middle:g}" y="{top + 15 * index:g}">{escape(line)}</tspan>' for index, line in enumerate(words)
        )
        page = step.file.replace(".ipynb", ".html")
        boxes.append(
            f'<a href="{page}"><rect x="{x:g}" y="{y:g}" width="{wide}" height="{high}" rx="8"/><text>{text}</text></a>'
        )
    height = len(placed) * (high + below) - below
    inner = "\n".join(["<g>", *lines, "</g>", *boxes])
    return (
        '<div class="course" tabindex="0" role="region" aria-label="What builds on what">\n'
        f'<svg viewBox="-1 -1 {width + 2} {height + 2}" xmlns="http://www.w3.org/2000/svg">\n{inner}\n</svg>\n</div>'
    )

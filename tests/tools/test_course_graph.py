"""The drawing of what builds on what: every notebook below what it needs, and a link to each."""

import re
from pathlib import Path
from xml.etree import ElementTree

from tools import course_graph, parameter_tables
from tools.parameter_tables import Step


def test_a_notebook_stands_below_all_that_it_builds_on() -> None:
    course = parameter_tables.course()
    rows = course_graph.rows(course)
    level = {number: depth for depth, row in enumerate(rows) for number in row}
    assert rows[0] == ["00"]
    assert sorted(level) == sorted(course)
    assert all(level[number] > level[earlier] for number, step in course.items() for earlier in step.earlier)


def test_what_others_imply_is_left_out() -> None:
    course = {
        "00": Step("00_a.ipynb", "A", []),
        "01": Step("01_b.ipynb", "B", ["00"]),
        "02": Step("02_c.ipynb", "C & D", ["00", "01"]),
        "03": Step("03_e.ipynb", "E", ["00", "01", "02"]),
    }
    assert [course_graph.needed(course, number) for number in course] == [[], ["00"], ["01"], ["02"]]
    assert course_graph.svg(course).count("<path") == 3


def test_every_box_is_a_link_and_none_covers_another() -> None:
    course = parameter_tables.course()
    drawing = ElementTree.fromstring(re.search(r"<svg.*</svg>", course_graph.svg(course), re.DOTALL)[0])
    name = "{http://www.w3.org/2000/svg}"
    assert [box.get("href") for box in drawing.findall(f"{name}a")] == [
        str(Path(step.file).with_suffix(".html")) for step in course.values()
    ]
    corners = [(float(box.get("x", "")), float(box.get("y", ""))) for box in drawing.iter(f"{name}rect")]
    wide, high = course_graph.BOX
    for index, (x, y) in enumerate(corners):
        assert all(abs(x - other_x) >= wide or abs(y - other_y) >= high for other_x, other_y in corners[:index])

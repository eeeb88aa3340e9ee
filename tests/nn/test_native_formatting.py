"""Generated C for readers: indented by braces, empty lines before pieces, long lines broken."""

import doctest

from nequip_like.nn.native.sources import formatting
from nequip_like.nn.native.sources.formatting import format_lines, open_parallel_for, write_comment


def test_blocks_and_pieces():
    lines = [
        "void clear(double *x) {",
        "x[0] = 0;",
        write_comment("the rest"),
        *open_parallel_for("int i = 1; i < 3; i++", "dynamic, 1", wait=False),
        "x[i] = (V){0};",
        "}",
        "}",
    ]
    assert format_lines(lines) == (
        "void clear(double *x) {\n"
        "    x[0] = 0;\n"
        "\n"
        "    /* the rest */\n"
        "    #pragma omp for schedule(dynamic, 1) nowait\n"
        "    for (int i = 1; i < 3; i++) {\n"
        "        x[i] = (V){0};\n"
        "    }\n"
        "}\n"
    )


def test_long_lines():
    """Before an item where there are some, else after a plus; nothing is lost."""
    arguments = f"multiply({', '.join(['argument + 10'] * 20)});"
    sum_of_terms = f"x = {' + '.join(['m_0 * g_0'] * 30)};"
    for line, end in ((arguments, ","), (sum_of_terms, " +")):
        first, *rest = format_lines([line]).splitlines()
        assert max(map(len, (first, *rest))) <= 120
        assert all(each.endswith(end) for each in (first, *rest[:-1]))
        assert all(each.startswith("    ") for each in rest)
        assert " ".join([first, *(each.strip() for each in rest)]) == line
    assert format_lines([f"#define {'A, ' * 50}"]) == f"#define {'A, ' * 50}\n"
    assert format_lines(["x" * 200]) == "x" * 200 + "\n"


def test_example():
    assert doctest.testmod(formatting) == (0, 1)

"""Write the table of sizes in docs/vision.md from what is built here and what is printed elsewhere.

`python docs/make_sizes_table.py [--check]`; with --check nothing is written, and the exit status is 1 if the page is not up to date.
"""

import sys
from pathlib import Path

import heuretic.nn
from heuretic.nn import MultiplyAdds, parameter_count
from heuretic.nn.published import PUBLISHED

PAGE = Path(__file__).resolve().parent / "vision.md"
BEGIN, END = "<!-- sizes: made by docs/make_sizes_table.py -->\n", "<!-- end of sizes -->\n"


def table() -> str:
    """Return the table as Markdown."""
    text = (
        "For 1000 classes: parameters in millions, multiply-adds in billions for one image with sides of so many places. Numbers "
        "in bold are not those of the layers that the source describes, to the digits it shows.\n\n"
        "| model | side | parameters | multiply-adds | printed | where |\n|---|---|---|---|---|---|\n"
    )
    reasons: dict[str, int] = {}
    for each in PUBLISHED:
        program = getattr(heuretic.nn, each.name).program()
        parameters, multiply_adds = parameter_count(program), MultiplyAdds((1, 3, each.side, each.side))(program)
        printed = " / ".join(
            (f"**{value}**" if name in each.differs else value) or "-"
            for name, value in (("parameters", each.parameters), ("multiply_adds", each.multiply_adds))
        )
        note = f" ({reasons.setdefault(each.why, len(reasons) + 1)})" if each.why else ""
        text += f"| `{each.name}` | {each.side} | {parameters / 1e6:.6f} | {multiply_adds / 1e9:.3f} | {printed}{note} | {each.source} |\n"
    return text + "\n" + "".join(f"{number}. {why[0].upper()}{why[1:]}.\n" for why, number in reasons.items())


def main() -> int:
    """Write or check the page; return the exit status."""
    before = PAGE.read_text("utf-8")
    head, _, rest = before.partition(BEGIN)
    page = head + BEGIN + "\n" + table() + "\n" + END + rest.partition(END)[2]
    if "--check" in sys.argv[1:]:
        if page != before:
            print(
                "docs/vision.md must be up to date, got an older one. Try: python docs/make_sizes_table.py",
                file=sys.stderr,
            )
        return int(page != before)
    PAGE.write_text(page, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""From a table of lines to parts."""

from __future__ import annotations

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import ParsedOutput, Part, PartUnit
from tamis.probes.segmentation.tool_output.runs import count_repeats, find_runs


def parts_of_lines(
    lines: LineTable, format_name: str, unit: PartUnit = "lines", first_row: int = 0
) -> ParsedOutput:
    """The parts of a text: each line with those that are joined to it.

    Args:
        unit: what ordinals count. first_row: the line that is the first such unit.
    """
    run_of, names = find_runs(lines)
    repeats = count_repeats(lines)
    part_of: list[int] = []
    count = -1
    for i in range(len(lines)):
        count += not (lines.joined[i] and i)
        part_of.append(count)
    parts: list[Part] = []
    for i in range(len(lines)):
        number = lines.numbers[i] - first_row
        if lines.joined[i] and i:
            head = parts[-1]
            level = min(head.level, lines.levels[i])
            parts[-1] = head._replace(stop=lines.stops[i], last=number, level=level)
            continue
        needs = tuple(dict.fromkeys(part_of[j] for j in lines.needs(i)))
        parts.append(
            Part(
                lines.starts[i],
                lines.stops[i],
                number,
                number,
                lines.levels[i],
                unit if number > 0 else "lines",
                tuple(j for j in needs if j != part_of[i]),
                run_of[i],
                False,
                lines.turns[i] + repeats[i],
            )
        )
    return ParsedOutput(format_name, parts, names)

"""The table of the matrix: kind of write × fault → what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field

FAULTS = ("disk full", "read-only", "kill -9", "two at once", "clock set back")


@dataclass
class Cell:
    """What came of a fault in one kind of write. stopped: with an error or killed; went_on: to the right result."""

    stopped: int = 0
    went_on: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.stopped + self.went_on + len(self.wrong):
            return "–"
        parts = [f"{self.stopped} stopped" * bool(self.stopped), f"{self.went_on} went on" * bool(self.went_on)]
        return ", ".join([*filter(None, parts), *([f"**{len(self.wrong)} wrong**"] * bool(self.wrong))])


class Matrix:
    """The cells, by kind of write and fault."""

    def __init__(self) -> None:
        self.cells: dict[str, dict[str, Cell]] = {}

    def cell(self, kind: str, fault: str) -> Cell:
        row = self.cells.setdefault(kind, {name: Cell() for name in FAULTS})
        return row[fault]

    def markdown(self) -> str:
        rows = [["write", *FAULTS], ["---"] * (1 + len(FAULTS))]
        rows += [[kind, *map(str, row.values())] for kind, row in self.cells.items()]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def wrong(self) -> list[str]:
        return [
            f"{fault}, {kind}: {line}"
            for kind, row in self.cells.items()
            for fault, cell in row.items()
            for line in cell.wrong
        ]

"""What `ric reproduce --dry-run` prints: sums tell what they leave out."""

from __future__ import annotations

from ric.preflight.cards import find_card
from ric.preflight.reproduction import plan_reproduction
from ric.preflight.stage_cost import StageCost, machine_of
from ric.reproduction import Reproduction
from ric_cli.reproduce import _hours, _lines, _memory


def cells_of(lines: list[str], stage: str) -> list[str]:
    (line,) = [line for line in lines if line.startswith(f"{stage} ")]
    return line.removeprefix(stage).split()


def test_what_is_not_estimated_has_no_figure_in_the_sum_either(tmp_path):
    asked = Reproduction(
        data="scenes:60@64#5", folder=tmp_path, preset="tiny", changes={"device": "cpu"}
    )
    lines = _lines(plan_reproduction(asked, machine_of(find_card("RTX 4090"))))
    stages = [stage.name for stage in asked.stages()]
    for stage in (*stages, "in all"):
        assert cells_of(lines, stage)[0] == "-", stage
    assert cells_of(lines, "fit-clip")[1] == "-"  # the paper's hours are of other work
    assert "> 0.0 GiB" not in "\n".join(lines)


def test_a_sum_of_some_stages_says_so():
    def cost(hours: float | None, memory: float | None, *, least: bool) -> StageCost:
        return StageCost(hours=hours, disk=0, kept=0, memory=memory, memory_is_least=least)

    known, unknown = cost(1.25, 36.66, least=False), cost(None, 0.0234, least=True)
    assert _hours([known, known]) == "2.5"
    assert _hours([known, unknown]) == "> 1.2"
    assert _hours([unknown]) == "-"
    assert _hours([]) == "0.0"  # all is done
    assert _memory(known) == "36.7 GiB"
    assert _memory(unknown) == "> 24 MiB"
    assert _memory(cost(None, None, least=True)) == "unknown"

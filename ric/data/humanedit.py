"""HumanEdit (hub id BryanW/HumanEdit, CC-BY-4.0): 5,751 triplets in one split, 16.4 GB of parquet.

Choice 14: MASK_IMG is the source with the edit region erased, not a black-and-white mask. Choice 3:
OUTPUT_DESCRIPTION, a short description of the edited region, is t_r. The two captions by LLaMA
describe the whole pictures; `scene_text` stays empty, since `ric describe` writes it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ric.data.columns import Columns, is_missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from ric.data.columns import Row

HUB_ID = "BryanW/HumanEdit"
SIZE = "16.4 GB"
BYTES = 16_377_096_205  # of its 34 parquet files
ROWS = 5_751


def number_repeats() -> Callable[[Row], str | None]:
    """Name rows by IMAGE_ID; the second row of one photo gets `-2`, the third `-3`.

    The numbers follow the rows' order over the whole data set, so a split or a limit does not
    change them.
    """
    rows_of: Counter[str] = Counter()

    def next_id(row: Row) -> str | None:
        if is_missing(row.get("IMAGE_ID")):
            return None
        photo = str(row["IMAGE_ID"])
        rows_of[photo] += 1
        return photo if rows_of[photo] == 1 else f"{photo}-{rows_of[photo]}"

    return next_id


COLUMNS = Columns(
    names={
        "source": "INPUT_IMG",
        "target": "OUTPUT_IMG",
        "mask": "MASK_IMG",
        "instruction": "EDITING_INSTRUCTION",
        "region_text": "OUTPUT_DESCRIPTION",
        "source_text": "INPUT_CAPTION_BY_LLAMA",
        "target_text": "OUTPUT_CAPTION_BY_LLAMA",
        "editing_type": "EDITING_TYPE",
        "group_id": "IMAGE_ID",
    },
    mask_kind="erased-black",
    id_rule=number_repeats,
    reads=("IMAGE_ID",),
)

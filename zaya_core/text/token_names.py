"""Names of the control tokens that this program itself knows."""

from __future__ import annotations

TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
TURN_END_ID = 106
THINK_START = "<think>"
THINK_END = "</think>"
# Control tokens whatever the files say: some tokenizer.json files do not mark them special.
STRUCTURAL_NAMES = frozenset(
    [
        TURN_START,
        TURN_END,
        THINK_START,
        THINK_END,
        "<zyphra_tool_call>",
        "</zyphra_tool_call>",
        "<zyphra_tool_response>",
        "</zyphra_tool_response>",
    ]
)

"""The prompts: Table 4's for a scene paragraph, and ours for the other texts."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ric.data.text_tables import whole_text
from ric.errors import RicError

if TYPE_CHECKING:
    from ric.config import DescribeConfig, What

# The paper prints it as a bulleted page: "Input: <image>" becomes the chat's picture.
SCENE_PROMPT = """\
Instruction: You are a meticulous visual analyst. Carefully examine the given image and describe \
it in a single, flowing paragraph (maximum 520 tokens). Focus on every visually observable \
detail\u2014such as color, texture, material, size, shape, and spatial relationships. Do not use \
bullet points or lists.

Constraints: Avoid assumptions or inferences about unseen factors (e.g., time of day, season, \
emotions, story). Describe only what is directly visible in the image.

Your paragraph must naturally include:
- A clear overview of the setting (e.g., indoor/outdoor, environment type, lighting conditions, \
background elements, overall mood)
- Detailed description of each major object:
  * Appearance, color, material (wood, metal, fabric, etc.)
  * Texture (smooth, rough, shiny, soft, etc.)
  * Size (relative to others)
  * Spatial position (e.g., foreground, center-left)
- If humans or animals are present, describe each one in full detail:
  * Hair, face, visible skin or fur, and accessories
  * Clothing: color, texture, material, style, condition
  * Pose: orientation and position of each body part (head, arms, legs, torso, hands, feet)
  * Stance or motion\u2014only if clearly visible and grounded in the image
- Distinct, thorough description for multiple people or animals
- Supporting/background elements: furniture, walls, ground, vegetation, distant objects
- Clear spatial relationships (e.g., in front of, behind, next to, overlapping, under)
- Explicit description of the visual features of each object or region targeted in the editing \
instruction: "{edit_prompt}". For example, if the instruction is "The girl bent and raised her \
two hands", then describe:
  * Her posture (e.g., leaning forward, bent knees)
  * The position and gesture of her hands (e.g., raised above shoulders, palms open)

Style Requirement: Use vivid, sensory-rich language. Every detail must be grounded in what can \
actually be seen. Avoid summarizing\u2014immerse the reader in a scene constructed entirely from \
the image's visible content."""


REGION_PROMPT = """\
You are shown two pictures. In the first, a red box marks a region; the second is that region, cut \
out of the first. Describe what is inside the box in one sentence of at most 40 words. Name the \
main thing there, or the background if there is no thing, with its color and material, and say \
what it touches, holds, or stands beside. Use the first picture to tell what it is and where it \
stands among the things around it. Do not mention the box or the pictures."""

TARGET_CAPTION_PROMPT = """\
The given picture will be edited by this instruction: "{edit_prompt}". Write the caption of the \
picture after the edit, in one sentence of at most 30 words. Write as if you saw the edited \
picture: name what the edit adds or changes, leave out what it removes, and keep what it leaves as \
it is. Do not mention the instruction, the edit, or how the picture was before."""

SOURCE_CAPTION_PROMPT = """\
Write the caption of the given picture in one sentence of at most 30 words: its main thing, with \
its color, and what is around it. Describe only what can be seen."""

EXPLICIT_INSTRUCTION_PROMPT = """\
The given picture will be edited by this instruction: "{edit_prompt}". Rewrite the instruction so \
that an editor has nothing to infer. Say which thing in the picture is meant, by its color and its \
place, and how it is to look. Then say what must change along with it in this picture: its shadow, \
its reflection, the light it casts, what touches or covers it, and what comes into view where it \
was. Say last that everything else stays as it is. Write commands, in a single paragraph of at \
most 80 words, without a list."""

PROMPTS: dict[What, str] = {
    "scene": SCENE_PROMPT,
    "region": REGION_PROMPT,
    "target-caption": TARGET_CAPTION_PROMPT,
    "source-caption": SOURCE_CAPTION_PROMPT,
    "explicit-instruction": EXPLICIT_INSTRUCTION_PROMPT,
}
PLACE = "{edit_prompt}"  # of the instruction, in a prompt


def prompts_of(config: DescribeConfig) -> dict[What, str]:
    """Return the prompt of each text that is asked for.

    Raises:
        RicError: the file of a prompt cannot be read, is not UTF-8, or is empty.
    """
    if config.what == "all":
        return PROMPTS
    if config.prompt_file is None:
        return {config.what: PROMPTS[config.what]}
    if not (text := whole_text(config.prompt_file).strip()):
        raise RicError(f"{config.prompt_file}, the prompt, is empty.")
    return {config.what: text}


def filled(prompt: str, instruction: str) -> str:
    """Fill a prompt with an editing instruction; braces in it stay as they are."""
    return prompt.replace(PLACE, instruction)


def prompt_hash(prompt: str) -> str:
    """Name a prompt, before it is filled: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]

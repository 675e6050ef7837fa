"""The prompt for a scene paragraph (Table 4), and the form of a model's answer to it."""

from __future__ import annotations

from ric.errors import SampleError

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


def scene_prompt(instruction: str) -> str:
    """Fill Table 4's prompt with an editing instruction; braces in it stay as they are."""
    return SCENE_PROMPT.replace("{edit_prompt}", instruction)


def one_paragraph(text: str) -> str:
    """Bring a model's answer to the form of Sec. 3.2.3: one paragraph, single spaces."""
    return " ".join(text.split())


def paragraph_of(name: str, answer: str) -> str:
    """Return an answer as one paragraph (raises SampleError for sample `name` if it is empty)."""
    if not (text := one_paragraph(answer)):
        raise SampleError(name, "texts", "the model's answer is empty")
    return text


def room_for_answer(name: str, asked: int, positions: int) -> int:
    """Return how many tokens may follow a prompt.

    Args:
        name: The sample's id.
        asked: The prompt's tokens.
        positions: The most tokens that the model reads.

    Raises:
        SampleError: there is no room for one.
    """
    if asked >= positions:
        reason = f"the prompt has {asked} tokens; the model reads {positions}"
        raise SampleError(name, "texts", reason)
    return positions - asked

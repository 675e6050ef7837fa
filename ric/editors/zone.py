"""ZONE, Zero-Shot Instruction-Guided Local Editing (Li et al. 2024).

Two InstructPix2Pix-type UNets, InstructPix2Pix's and MagicBrush's, denoise from the same noise, and
after each step a share of MagicBrush's latents is mixed into the other's. The decoded picture, the
style image, is edited everywhere; `ric.editors.zone_masks` finds the region whose edit is kept, by
InstructPix2Pix's cross-attention and a segmentation.

What the instruction asks for decides two things: in a removal more of MagicBrush's latents are
mixed in, and the source is segmented, not the style image, in which the thing is no longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from ric.editors.attention_maps import coarsest_cross_attention, recorded_attention
from ric.editors.edit_action import Action, action_of
from ric.editors.editor import never_stop
from ric.editors.instruction_editor import InstructionEditor
from ric.editors.latent_pictures import held
from ric.editors.sampling import Sampling
from ric.editors.segmenters import Felzenszwalb, Sam, Segmenter
from ric.editors.zone_masks import Localised, composite, localise
from ric.errors import RicError, SampleError
from ric.models.pipeline import load_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from diffusers import UNet2DConditionModel
    from torch import Tensor

    from ric.config import ZoneAttention
    from ric.editors.editor import EditRequest

# Shape letters: B requests, G guidance rows (3 B), C latent channels, h and w latent height and
# width, L text tokens, E text width, N places of the layers whose attention is recorded.

# as released: the weight of MagicBrush's latents beside 1 for InstructPix2Pix's
MAGICBRUSH_SHARE: dict[Action, float] = {"add": 0.01, "change": 0.01, "remove": 0.2}
STAND_IN = (
    "Segments are felzenszwalb's, parts of like colour, in place of SAM's: a stand-in without"
    " weights. With SAM: --segmenter facebook/sam-vit-huge"
)
NO_REGION = "The attention leads to no segment of the picture, so there is no region to edit."


class Zone(InstructionEditor):
    """Edit by an instruction with two InstructPix2Pix-type pipelines, within one region.

    Args:
        model: InstructPix2Pix's folder; its VAE and text encoder serve both UNets.
        unet_magicbrush: MagicBrush's folder.
        segmenter: A SAM's folder; None: felzenszwalb, without weights.
        device: Where they run.
        zone_attention: Whose attention localises: `text`, of the rows with the instruction, or
            `null`, as released, of the rows without it.
        steps: Denoising steps, at least 1.
        named: `dtype`, `guidance`, `image_guidance`, `scheduler`, `image_size` and `seed`, as
            `InstructionEditor`; without a scheduler both branches take the release's.

    Raises:
        RicError: a setting is out of range, a model cannot be loaded, or the UNets do not read the
            same.
    """

    SETTINGS = (*InstructionEditor.SETTINGS, "zone_attention")
    OWN_SCHEDULER = "dpm-solver"

    def __init__(
        self,
        model: Path,
        *,
        unet_magicbrush: Path,
        segmenter: Path | None = None,
        device: torch.device,
        zone_attention: ZoneAttention = "text",
        steps: int = 20,
        **named: Any,
    ) -> None:
        """Load the pipelines and the segmenter; see the class."""
        super().__init__(model, device=device, steps=steps, **named)
        self.zone_attention = zone_attention
        self.layers, self.coarser = coarsest_cross_attention(self.pipeline.unet)
        if not self.layers:
            raise RicError(
                f"The UNet in {model} has no cross-attention in its down path, which ZONE reads.",
                "Name a pipeline of Stable Diffusion 1 or 2.",
            )
        self.magicbrush = self.pipeline.unet
        if unet_magicbrush != model:
            self.magicbrush = load_pipeline(unet_magicbrush, device).unet.eval()
            self.magicbrush.requires_grad_(False)
            _refuse_unlike(self.pipeline.unet, self.magicbrush, unet_magicbrush)
        self.segment: Segmenter = Sam(segmenter, device) if segmenter else Felzenszwalb()
        self.caveat = "" if segmenter else STAND_IN
        self._found: dict[str, tuple[Action, Localised]] = {}

    def facts(self, request: EditRequest) -> dict[str, object]:
        """Return what an edit was taken to be, and its region's overlap with the coarse mask."""
        action, found = self._found[request.id]
        return {"action": action, "region_iou": round(found.iou, 4)}

    def intermediates(self, request: EditRequest) -> dict[str, Image.Image]:
        """Return the pictures on the way to an edit in the working size, by name, in order."""
        return self._found[request.id][1].pictures() if request.id in self._found else {}

    def edit(
        self, requests: Sequence[EditRequest], between_steps: Callable[[], None] = never_stop
    ) -> list[Image.Image | SampleError | None]:
        """Edit pictures of any sizes; those of one working size are denoised as one batch.

        Args:
            requests: What to edit.
            between_steps: Called before each denoising step and each segmentation; what it raises
                ends the call.

        Returns:
            RGB pictures in the order of the requests, each in its source's size; None where the
            decoded picture is not finite, an error where there is no region to edit.
        """
        self._found.clear()
        results: dict[int, Image.Image | SampleError | None] = {}
        attention: list[Tensor] = []

        def edit_latents(batch: Sequence[EditRequest], source: Tensor) -> Tensor:
            latents, maps = self.denoise(batch, source, between_steps)
            attention[:] = maps
            return latents

        for indices, styles in self.pictures.decode_by_size(requests, edit_latents):
            for index, style, maps in zip(indices, styles, attention, strict=True):
                between_steps()
                results[index] = style and self._keep_region(requests[index], style, maps)
        return [results[index] for index in range(len(requests))]

    @torch.no_grad()
    def denoise(
        self,
        batch: Sequence[EditRequest],
        source: Tensor,
        between_steps: Callable[[], None] = never_stop,
    ) -> tuple[Tensor, Tensor]:
        """Sample x_0 latents with both UNets, and record the attention of InstructPix2Pix's.

        Args:
            batch: B requests.
            source: Their sources' posterior modes (B, C, h, w), not scaled.
            between_steps: Called before each step; what it raises ends the sampling.

        Returns:
            The latents (B, C, h, w), scaled, the source's own outside the masks; and the mean over
            the steps of how much each place reads each token (B, h', w', L), where h' and w' are
            the sides of the layers recorded.
        """
        text, noise, generators = self.begin(batch, source)
        rows = self.rows_of_guidance(source, text)
        shares = [MAGICBRUSH_SHARE[action_of(item.instruction)] for item in batch]
        weight = torch.tensor(shares, device=self.device)[:, None, None, None]
        clean = self.pipeline.vae.config.scaling_factor * source
        mask = self.pictures.mask_of(batch, source)
        # as released, both by the first pipeline's noise levels; both draw the same noise
        ours, magicbrush = (
            Sampling(
                self.new_scheduler(), self.steps, noise, [one.clone_state() for one in generators]
            )
            for _ in range(2)
        )
        recorded = []
        for t in ours.timesteps:
            between_steps()
            for branch in (ours, magicbrush):
                branch.hold(clean, t, mask)
            magicbrush.step(self.predict(self.magicbrush, magicbrush.input(t), t, rows), t)
            with recorded_attention(self.layers) as found:
                guided = self.predict(self.pipeline.unet, ours.input(t), t, rows)
            ours.step(guided, t)
            ours.latents = (ours.latents + weight * magicbrush.latents) / (1 + weight)
            recorded.append(self._of_branch(torch.stack(found).mean(0)))
        height, width = (side // self.coarser for side in source.shape[-2:])
        maps = torch.stack(recorded).mean(0).unflatten(1, (height, width))
        return held(ours.latents, clean, mask), maps

    def _of_branch(self, attention_G: Tensor) -> Tensor:
        """Take the rows that `zone_attention` names: (B, N, L) of (3 B, N, L)."""
        with_text, *without = attention_G.chunk(3)
        return with_text if self.zone_attention == "text" else torch.stack(without).mean(0)

    def _keep_region(
        self, request: EditRequest, style: Image.Image, attention: Tensor
    ) -> Image.Image | SampleError:
        """Keep the edit of one region: a picture in the source's size, or why there is none.

        Args:
            request: What was asked for.
            style: The decoded picture, in the working size.
            attention: Of the request (h', w', L).
        """
        action = action_of(request.instruction)
        last = len(self.pipeline.tokenizer(request.instruction, truncation=True).input_ids) - 1
        start, end = (attention[..., place].cpu().numpy() for place in (0, last))
        source = request.image.resize(style.size, Image.Resampling.LANCZOS)
        found = localise(source, style, (start, end), self.segment, removes=action == "remove")
        self._found[request.id] = action, found
        if found.shares is None:
            return SampleError(request.id, "region", NO_REGION)
        return composite(request.image, style, found.shares)


def _refuse_unlike(
    unet: UNet2DConditionModel, magicbrush: UNet2DConditionModel, place: Path
) -> None:
    """Refuse a UNet that cannot take the other's inputs (raises RicError)."""
    for name in ("in_channels", "out_channels", "cross_attention_dim"):
        theirs, ours = magicbrush.config[name], unet.config[name]
        if theirs != ours:
            raise RicError(
                f"The UNets of ZONE must read the same: {name} is {theirs} in {place}, and {ours}"
                " in the other.",
                "Name two pipelines of one kind with --unet and --unet-magicbrush.",
            )

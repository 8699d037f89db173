"""A diffusers pipeline that draws what a scene graph states, with an adapter of sgflux.

    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(
        "<the base model>",
        custom_pipeline="<this repository, or this folder>",
        adapter="<this repository, or this folder>",
        trust_remote_code=True,  # this file is code of the adapter's repository
    )
    image = pipe(graph="man, riding, horse").images[0]

The adapter's graph encoder and conditioner are modules of the package sgflux, which must be
installed; this file connects it to diffusers.
"""

from typing import Any

from diffusers import FluxPipeline
from diffusers.pipelines.flux import FluxPipelineOutput

ADAPTER: str | None = None
"""The adapter's repository on the hub, where this file was published with it."""

_INSTALL = (
    "this pipeline needs the package sgflux, which reads scene graphs; install it "
    "(python -m pip install . in a checkout of its repository) and start again"
)


class SceneGraphPipeline(FluxPipeline):
    """FLUX with a scene-graph adapter: ``pipe(prompt, graph=...)``."""

    def __init__(
        self,
        scheduler: Any,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        text_encoder_2: Any,
        tokenizer_2: Any,
        transformer: Any,
        image_encoder: Any = None,
        feature_extractor: Any = None,
        adapter: str | None = None,
        allow_download: bool = True,
    ) -> None:
        """Put an adapter onto the base's components.

        Args:
            scheduler, vae, text_encoder, tokenizer, text_encoder_2, tokenizer_2, transformer,
                image_encoder, feature_extractor: Parts of the base.
            adapter: Folder of the adapter, or its repository on the hub, user/name[@revision].
            allow_download: Fetch the adapter from the hub if it is not on this machine.
        """
        super().__init__(
            scheduler=scheduler,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            text_encoder_2=text_encoder_2,
            tokenizer_2=tokenizer_2,
            transformer=transformer,
            image_encoder=image_encoder,
            feature_extractor=feature_extractor,
        )
        try:
            from sgflux.sampling.components import pipeline_of_components
        except ImportError as error:
            raise ImportError(_INSTALL) from error
        adapter = adapter or ADAPTER
        if adapter is None:
            raise ValueError(
                "name the adapter: from_pretrained(..., adapter='folder or user/name'); diffusers "
                "does not tell this file where it came from"
            )
        self._graphs = pipeline_of_components(self, adapter=adapter, allow_download=allow_download)

    def __call__(
        self,
        prompt: Any = None,
        *,
        graph: Any = None,
        graph_scale: float | None = None,
        num_inference_steps: int | None = None,
        stochastic_sampling: bool | None = None,
        guidance_scale: float | None = None,
        height: int | None = None,
        width: int | None = None,
        generator: Any = None,
        seed: Any = None,
        output_type: Any = "pil",
    ) -> FluxPipelineOutput:
        """Draw pictures.

        Args:
            prompt: One text or several; None: the graph's objects, "a photo of man and horse".
            graph: Text like "man, riding, horse; man, wearing, hat", or several; None: no graph,
                so that the adapter's LoRA acts alone.
            graph_scale: Factor on the difference that the graph makes to the velocity; None: what
                the adapter recommends, else 1.
            num_inference_steps: 4 suit FLUX.1-schnell; None: what the adapter recommends, else 4.
            stochastic_sampling: Whether each step draws new noise; None: as the adapter recommends.
            guidance_scale: Guidance scale, for a guidance-distilled base (FLUX.1-dev) only.
            height, width: Size in pixels; None: the base's own size.
            generator: A torch.Generator, or one for each picture.
            seed: Seed of the first picture's noise, in place of a generator.
            output_type: "pil", "np" or "latent" (packed).

        Returns:
            A FluxPipelineOutput: ``images``.
        """
        self._graphs.follow(self)
        drawn = self._graphs.pipeline(
            graph,
            prompt,
            num_inference_steps=num_inference_steps,
            generator=generator,
            seed=seed,
            graph_scale=graph_scale,
            stochastic_sampling=stochastic_sampling,
            guidance=guidance_scale,
            height=height,
            width=width,
            output_type=output_type,
        )
        return FluxPipelineOutput(images=drawn.images)

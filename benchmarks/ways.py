"""The ways to train that are compared: what a user would write without sgflux, and sgflux.

    A    FLUX of diffusers, a LoRA by peft, accelerate, AdamW: one statement in words, no graph
    A*   A with sgflux's choice of attention kernel
    B    sgflux with one statement a graph, flow matching alone
    B2   B with two statements a graph
    B+   B and distillation from the base that reads the statement in words
    C    B and ranking against one negative graph
    C3   B and ranking against three negative graphs
    S    B with errors weighted by the saliency of concept tokens

All of them train a LoRA of rank 16 on the same projections, in float32, on the same encoded
examples. B to S are sgflux's own :class:`~sgflux.training.loop.TrainingRun`, step by step, with its
defaults (clipping, moving average, null graphs). All of them share one frozen transformer, in which
only the LoRA of the way that takes a step is active.

Shapes: N examples, latents (16, h, w), L text tokens.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import FluxPipeline, FluxTransformer2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import cast_training_params
from measuring import Place
from peft import LoraConfig
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from sgflux.bases.flux1.load import model_identity
from sgflux.bases.guidance import guidance_told
from sgflux.bases.memory.attention_kernels import attention_kernel, without_cudnn
from sgflux.data.cache.arrays import TrainingArrays
from sgflux.data.cache.tensor_rows import MemoryRows
from sgflux.data.examples import SceneExample
from sgflux.data.prompts import PROMPT_KINDS, prompts_for_graph
from sgflux.graphs.names import graph_names
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import LORA_NAME, AdapterConfig, GraphLoraModel, build_model
from sgflux.models.name_features import NameFeatures
from sgflux.settings.losses import LossSettings
from sgflux.settings.training import TrainConfig
from sgflux.training.batches.batch import LatentScale
from sgflux.training.build import DEFAULT_GUIDANCE, Preparation
from sgflux.training.log.run_log import RunLog
from sgflux.training.loop import TrainingRun
from sgflux.training.planning.plan import RunPlan, length_of
from sgflux.training.processes.interruption import StopRequest
from sgflux.training.processes.processes import Processes
from sgflux.training.run.prepare import start_run
from sgflux.training.terms.table import read_terms
from sgflux.training.terms.term import Parts, Sources

VANILLA = "A"
VANILLA_MATH = "A*"
VANILLA_LORA = "default"
SCALE = LatentScale(shift=0.1159, scale=0.3611)  # FLUX.1's autoencoder

LOSSES: Mapping[str, Mapping[str, Any]] = {
    "B": {"lambda_words": 0.0},
    "B2": {"lambda_words": 0.0},
    "B+": {"lambda_words": 20.0},
    "C": {"lambda_words": 0.0, "lambda_rel_rank": 0.1},
    "C3": {"lambda_words": 0.0, "lambda_rel_rank": 0.1, "negatives_per_example": 3},
    "S": {"lambda_words": 0.0, "alpha_gen_rel": 1.0},
}
STATEMENTS = {"B2": 2}
"""Statements a graph, where it is not one."""

_SUBJECTS = ("man", "woman", "dog", "cat", "girl", "bird", "horse", "boy")
_OBJECTS = ("box", "ball", "tree", "car", "bench", "hat", "chair", "boat")
_PREDICATES = ("riding", "above", "holding", "behind", "left of", "on", "wearing", "looking at")
_STEPS = 100_000  # of a run that is never finished: the learning rate stays where it is


@dataclass(frozen=True, kw_only=True)
class Task:
    """Sizes of the examples, and of the LoRA that is trained on them.

    Attributes:
        height, width: Size of a picture in pixels.
        text_tokens: Number of text tokens of an example, L.
        block_start, block_end: Range of the double blocks with LoRA.
        dtype: Precision of the frozen weights and the arithmetic, "fp32" or "bf16".
        examples: Number of examples, N; at least the largest batch.
        rank: Rank of the LoRA.
        pixels_per_token: Side of the square that an image token covers; 16 for FLUX, 8 for
            tiny-flux.
    """

    height: int
    width: int
    text_tokens: int
    block_start: int
    block_end: int
    dtype: str
    examples: int = 64
    rank: int = 16
    pixels_per_token: int = 16

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of image tokens."""
        return self.height // self.pixels_per_token, self.width // self.pixels_per_token

    @property
    def image_tokens(self) -> int:
        """Number of tokens of a picture."""
        return self.grid[0] * self.grid[1]

    @property
    def latent_size(self) -> tuple[int, int]:
        """Height and width of the latents, two for each row and column of tokens."""
        return 2 * self.grid[0], 2 * self.grid[1]

    @property
    def torch_dtype(self) -> torch.dtype:
        """``dtype`` as a torch.dtype."""
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[self.dtype]


def statement_graph(number: int, statements: int) -> SceneGraph:
    """The ``number``-th of many different graphs; a subject has ``statements`` relations."""
    subject = _SUBJECTS[number % len(_SUBJECTS)]
    things = []
    for own in range(statements):
        again = own // len(_OBJECTS)  # a second box is box#2
        name = _OBJECTS[(number + own) % len(_OBJECTS)]
        things.append(f"{name}#{again + 1}" if again else name)
    relations = tuple(
        (0, _PREDICATES[(3 * number + 5 * own) % len(_PREDICATES)], 1 + own)
        for own in range(statements)
    )
    return SceneGraph(objects=(subject, *things), relationships=relations)


def adapter_config(transformer: FluxTransformer2DModel, task: Task) -> AdapterConfig:
    """Settings of the adapter of B to S; A has its LoRA on the same layers."""
    return AdapterConfig(
        block_start=task.block_start,
        block_end=task.block_end,
        lora_rank=task.rank,
        lora_alpha=task.rank,
        base=model_identity(transformer),
        max_sequence_length=task.text_tokens,
    )


def make_arrays(
    task: Task, transformer: FluxTransformer2DModel, *, statements: int
) -> TrainingArrays:
    """Make N encoded examples: random numbers of the right shapes.

    All examples share a few texts, since the content of a text does not change the time.
    """
    draw = torch.Generator().manual_seed(0)
    config = transformer.config
    examples = []
    for number in range(task.examples):
        graph = statement_graph(number, statements)
        triple = graph.triples()[0]
        words = [triple.subject, triple.predicate, triple.object]
        row = {
            "prompt": prompts_for_graph(graph, "relational"),
            "concepts": words,
            "triple": dict(zip(("subject", "predicate", "object"), words, strict=True)),
            "graph": graph.to_json(),
            "meta": {"image_rel_path": f"{number}.png"},
        }
        examples.append(SceneExample.from_json(row))
    pictures, texts = min(task.examples, 32), 12
    shape = (pictures, 16, *task.latent_size)

    def noise(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=draw).bfloat16()

    return TrainingArrays(
        examples=tuple(examples),
        latents=MemoryRows({"mean": noise(*shape), "std": 0.1 * noise(*shape).abs()}),
        image_index=torch.arange(task.examples) % pictures,
        prompts=tuple(f"text {number}" for number in range(texts)),
        texts=MemoryRows(
            {
                "hidden": noise(texts, task.text_tokens, config.joint_attention_dim),
                "pooled": noise(texts, config.pooled_projection_dim),
            }
        ),
        prompt_index=torch.arange(task.examples * len(PROMPT_KINDS)).view(-1, len(PROMPT_KINDS))
        % texts,
    )


# --- what a user would write ----------------------------------------------------------------------


class Vanilla:
    """A: diffusers, peft, accelerate and AdamW, combined as in diffusers' own examples.

    A step consists of the transformer's own forward pass with a float32 LoRA under accelerate's
    mixed precision, gradient clipping, AdamW and a learning-rate schedule. A data loader yields
    cached latents and texts.
    """

    def __init__(self, transformer: FluxTransformer2DModel, task: Task, *, place: Place) -> None:
        """Put the LoRA into the transformer; :meth:`start` makes a data loader."""
        layers = list(adapter_config(transformer, task).lora_modules)
        with warnings.catch_warnings():
            # Several LoRAs share the transformer on purpose.
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            transformer.add_adapter(
                LoraConfig(r=task.rank, lora_alpha=task.rank, target_modules=layers),
                adapter_name=VANILLA_LORA,
            )
        cast_training_params(transformer, dtype=torch.float32)
        self._transformer, self.place = transformer, place
        self._accelerator = Accelerator(
            mixed_precision="bf16" if task.dtype == "bf16" else "no", cpu=not place.is_cuda
        )
        self._weights = [weight for weight in transformer.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(self._weights, lr=1e-4, weight_decay=0.01)
        schedule = get_cosine_schedule_with_warmup(optimizer, 100, _STEPS)
        self._model, self._optimizer, self._schedule = self._accelerator.prepare(
            transformer, optimizer, schedule
        )
        self.task = task
        arrays = make_arrays(task, transformer, statements=1)
        index = torch.arange(len(arrays))
        # A data set hands out rows without copies of its own, whatever the batch is.
        self._data = TensorDataset(*arrays.posterior(index), *arrays.words(index.tolist()).values())
        self._batches: Iterator[list[Tensor]] = iter(())
        self._batch = 0

    def start(self, batch: int) -> None:
        """Make batches of this size from now on.

        Raises:
            ValueError: if there are fewer examples than that.
        """
        if batch > len(self._data):
            raise ValueError(f"a batch of {batch} is larger than the {len(self._data)} examples")
        loader = self._accelerator.prepare(
            DataLoader(
                self._data,
                batch_size=batch,
                shuffle=True,
                drop_last=True,
                pin_memory=self.place.is_cuda,
            )
        )

        def endless() -> Iterator[list[Tensor]]:
            while True:
                yield from loader

        self._batches, self._batch = endless(), batch

    def activate(self) -> None:
        """Activate this LoRA."""
        self._transformer.set_adapter(VANILLA_LORA)

    def step(self) -> None:
        """One optimizer step, as in diffusers' training examples for FLUX.

        Without cuDNN's attention, which a user would get on a GPU: its backward pass ended with an
        illegal memory access on an H200 with PyTorch 2.11.
        """
        with without_cudnn():
            self.take_step()

    def take_step(self) -> None:
        """One optimizer step with the attention kernels that are chosen around it."""
        check_limit(self.place, self._batch)
        accelerator, task = self._accelerator, self.task
        mean, std, prompt_embeds, pooled = next(self._batches)
        with accelerator.accumulate(self._model):
            latents = (mean + std * torch.randn_like(mean) - SCALE.shift) * SCALE.scale
            noise = torch.randn_like(latents)
            sigma = torch.rand(len(latents), device=latents.device)
            mixed = (1 - sigma.view(-1, 1, 1, 1)) * latents + sigma.view(-1, 1, 1, 1) * noise
            height, width = task.latent_size
            packed = FluxPipeline._pack_latents(mixed, len(latents), 16, height, width)
            dtype = task.torch_dtype
            velocity = self._model(
                hidden_states=packed.to(dtype),
                timestep=sigma,
                pooled_projections=pooled.to(dtype),
                encoder_hidden_states=prompt_embeds.to(dtype),
                txt_ids=torch.zeros(task.text_tokens, 3, device=latents.device, dtype=dtype),
                img_ids=FluxPipeline._prepare_latent_image_ids(
                    len(latents), height // 2, width // 2, latents.device, dtype
                ),
                return_dict=False,
            )[0]
            target = FluxPipeline._pack_latents(noise - latents, len(latents), 16, height, width)
            loss = (velocity.float() - target.float()).square().mean()
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(self._weights, 1.0)
            self._optimizer.step()
            self._schedule.step()
            self._optimizer.zero_grad()

    def with_plain_attention(self) -> VanillaMath:
        """A*: the same steps with sgflux's choice of attention kernel."""
        return VanillaMath(self)

    def forget_gradients(self) -> None:
        """Free the gradients, after a step that ran out of memory."""
        self._optimizer.zero_grad()

    def close(self) -> None:
        """Take the LoRA out of the transformer."""
        self._accelerator.unwrap_model(self._model, keep_fp32_wrapper=False)
        self._accelerator.free_memory()
        delete_lora(self._transformer, VANILLA_LORA)
        self._batches, self._weights = iter(()), []
        del self._model, self._optimizer, self._schedule


def delete_lora(transformer: FluxTransformer2DModel, name: str) -> None:
    """Take a LoRA out of the transformer."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Adapter .* was active which is now deleted")
        transformer.delete_adapters(name)


@dataclass(frozen=True)
class VanillaMath:
    """A*: A with sgflux's choice of attention kernel."""

    vanilla: Vanilla

    def activate(self) -> None:
        """Activate A's LoRA."""
        self.vanilla.activate()

    def step(self) -> None:
        """One step of A with the attention kernels of sgflux's training."""
        vanilla, task = self.vanilla, self.vanilla.task
        tokens = task.text_tokens + task.image_tokens
        with attention_kernel(vanilla.place.device, dtype=task.torch_dtype, tokens=tokens):
            vanilla.take_step()


def check_limit(place: Place, batch: int) -> None:
    """Raise the error of a full GPU in a rehearsal on the CPU.

    Raises:
        torch.OutOfMemoryError: if the batch is larger than the place's ``memory_limit``.
    """
    if place.memory_limit is not None and batch > place.memory_limit:
        raise torch.OutOfMemoryError(f"rehearsal: a batch of {batch} does not fit")


# --- sgflux ---------------------------------------------------------------------------------------


class Ours:
    """B to S: one adapter of sgflux in the transformer, and the runs that train it."""

    def __init__(self, transformer: FluxTransformer2DModel, task: Task, *, place: Place) -> None:
        """Put the adapter into the transformer; :meth:`run` makes a run that trains it."""
        self.task, self.place = task, place
        self._transformer = transformer
        self._arrays: dict[tuple[Task, int], TrainingArrays] = {}
        self._names = NameFeatures(transformer.config.joint_attention_dim)
        self.adapter = adapter_config(transformer, task)
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            self.model: GraphLoraModel = build_model(
                transformer=transformer, config=self.adapter, name_features=self._names
            )
        self.model.to(place.device)

    def add_names(self, graphs: Sequence[SceneGraph]) -> None:
        """Give every name in the graphs random features, where encoding would compute them."""
        words = [word for word in graph_names(graphs) if word not in self._names]
        self._names.add(words, torch.randn(len(words), self._names.dim))

    def run(
        self, name: str, batch: int, *, statements: int | None = None, **settings: Any
    ) -> OursRun:
        """Make a run that trains the adapter in one of the ways.

        Args:
            name: Name of the way.
            batch: Number of examples a step.
            statements: Number of statements a graph; None: as the way has it.
            settings: Further settings of :class:`TrainConfig`.
        """
        config = TrainConfig.from_flat(
            train_jsonl=Path("never read"),
            output_dir=Path("never written"),
            height=self.task.height,
            width=self.task.width,
            dtype=self.task.dtype,
            batch_size=batch,
            max_steps=_STEPS,
            block_start=self.task.block_start,
            block_end=self.task.block_end,
            lora_rank=self.task.rank,
            lora_alpha=float(self.task.rank),
            losses=LossSettings.from_flat(**LOSSES[name]),
            **settings,
        )
        prepared = self._prepare(config, statements or STATEMENTS.get(name, 1))
        run = start_run(
            config,
            prepared,
            processes=Processes(index=0, count=1, device=self.place.device),
            log=RunLog(silent=True),
        )
        return OursRun(self, run, batch, prepared)

    def activate(self) -> None:
        """Activate this adapter."""
        self._transformer.set_adapter(LORA_NAME)

    def _prepare(self, config: TrainConfig, statements: int) -> Preparation:
        """Make the parts of a training run that loading and encoding would yield."""
        task, transformer = self.task, self._transformer
        if (task, statements) not in self._arrays:
            self._arrays[task, statements] = make_arrays(task, transformer, statements=statements)
        arrays = self._arrays[task, statements]
        sources = Sources(
            examples=arrays.examples, seed=config.run.seed, vocabulary=DEFAULT_VOCABULARY, say=print
        )
        terms = read_terms(config.losses, sources)
        needs = [term.needs() for term in terms]
        self.add_names(
            [one.graph for one in arrays.examples]
            + [graph for need in needs for graph in need.graphs(())]
        )
        parts = Parts(
            examples=arrays.examples,
            names=self._names,
            captions=arrays.words,
            concept_text={"pooled": torch.zeros(1, transformer.config.pooled_projection_dim)},
            regions=list,
            layouts=list,
            sampling_sigmas=torch.ones,
            image_tokens=task.image_tokens,
            num_layers=transformer.config.num_layers,
            reads={},
            model_id=config.model.name,
            seed=config.run.seed,
            device=self.place.device,
        )
        steps, warmup = length_of(config.optimizer, examples=len(arrays), passes=1)
        return Preparation(
            model=self.model,
            adapter=self.adapter,
            train=arrays,
            validator=None,
            latent_scale=SCALE,
            dtype=task.torch_dtype,
            guidance=guidance_told(
                None,
                network=self.model.flux.network,
                default=DEFAULT_GUIDANCE,
                model=config.model.name,
            ),
            digests={},
            content={},
            seen={},
            plan=RunPlan(
                train_examples=len(arrays),
                val_examples=0,
                val_pairs=0,
                passes=1,
                examples_per_step=config.optimizer.batch_size,
                max_steps=steps,
                warmup_steps=warmup,
                block_start=task.block_start,
                block_end=task.block_end,
                blocks_in_words=self.adapter.blocks_in_words,
                image_tokens=task.image_tokens,
                text_tokens=task.text_tokens,
                trainable=1,
                total=1,
            ),
            terms=terms,
            parts=parts,
            sigma_shift=1.0,
            training_adapter=None,
        )

    def close(self) -> None:
        """Take the LoRA out of the transformer."""
        delete_lora(self._transformer, LORA_NAME)
        del self.model


class OursRun:
    """One of the ways B to S; a step is a step of a training run."""

    def __init__(self, ours: Ours, run: TrainingRun, batch: int, prepared: Preparation) -> None:
        """Hold the parts, which :meth:`Ours.run` makes."""
        self._ours, self._run, self._batch = ours, run, batch
        self.graphs = [example.graph for example in prepared.train.examples]
        self._stop = StopRequest()  # nobody listens: a signal ends the benchmark

    def activate(self) -> None:
        """Activate this adapter."""
        self._ours.activate()

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the terms of the loss; empty if it is flow matching alone."""
        return self._run.figures

    def step(self) -> None:
        """One optimizer step."""
        check_limit(self._ours.place, self._batch)
        self._run.train_step(self._stop)

    def forget_gradients(self) -> None:
        """Free the gradients, after a step that ran out of memory."""
        for weight in self._ours.model.trainable_parameters().values():
            weight.grad = None

"""``sgflux train-classifier``: a frozen reader of relations, for the rankers that need one.

It learns from real pictures: the latent classifier from their latents, the saliency classifier from
the concept maps that the base alone (no adapter, no graph, neutral text) makes of them at random
noise levels. How good it is on held-out pictures is stored beside its weights, and decides whether
a training run accepts it as a loss.

Shapes: n statements, P predicates, S = rows * columns image tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sgflux
from sgflux.bases.devices import DTYPES
from sgflux.bases.families import family_of
from sgflux.bases.guidance import guidance_told
from sgflux.data.cache.arrays import TrainingArrays
from sgflux.data.examples import SceneExample, resolve_image
from sgflux.errors import SgfluxError
from sgflux.flow_matching import noise_latents
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import Triple
from sgflux.models.block_range import default_concept_blocks
from sgflux.models.relation_classifier import (
    ClassifierCard,
    LatentRelationClassifier,
    RelationClassifier,
    SaliencyRelationClassifier,
    expect_new,
    save_classifier,
)
from sgflux.models.saliency import concept_probabilities, concept_scores, softened
from sgflux.settings.classifier import ClassifierConfig
from sgflux.settings.conditions import PromptMix
from sgflux.settings.data import DataSettings
from sgflux.settings.flat import flat_values
from sgflux.settings.graph_encoder import GraphEncoderSettings
from sgflux.training.batches.batch import Batch, draw_batch
from sgflux.training.build import DEFAULT_GUIDANCE
from sgflux.training.classifier.figures import held_out_figures
from sgflux.training.encoding.encode import Encoded, encode, plan_encoding
from sgflux.training.encoding.lazy_encoders import LazyEncoders
from sgflux.training.encoding.size import with_size
from sgflux.training.encoding.splits import Splits, read_splits
from sgflux.training.planning.precheck import check_inputs
from sgflux.training.processes.processes import Processes
from sgflux.training.randomness import ExampleOrder, derived_seed, generator_for
from sgflux.training.terms.ranking.negatives import predicates_of

Say = Callable[[str], None]


Statement = tuple[int, Triple]
"""A row of the data set, and a triple that it states, with a canonical predicate."""


def statements_of(
    examples: Sequence[SceneExample], *, predicates: Sequence[str]
) -> list[Statement]:
    """Everything that the examples' graphs say with these predicates."""
    return [
        (row, Triple(triple.subject, predicate, triple.object))
        for row, example in enumerate(examples)
        for triple in dict.fromkeys(example.graph.triples())
        if (predicate := DEFAULT_VOCABULARY.normalize(triple.predicate)) in predicates
    ]


def train_classifier(config: ClassifierConfig, *, say: Say = print) -> ClassifierCard:
    """Train a classifier, measure it on held-out pictures, and write its folder.

    Args:
        config: Settings of the classifier.
        say: Takes lines of progress.

    Raises:
        SgfluxError: on bad input, a folder in use, or held-out pictures that are trained on.
    """
    expect_new(config.output_dir)
    processes = Processes.start(config.compute.device)
    if processes.count > 1:
        raise SgfluxError("a classifier is trained by one process; start it without a launcher")
    config = replace(config, pictures=with_size(config.pictures, config.model, say=say))
    native, data = GraphEncoderSettings(), config.data
    splits = read_splits(data, encoder=native, val_examples=0, seed=config.seed, say=lambda _: None)
    _expect_other_pictures(data, splits)
    predicates = predicates_of(splits.train)
    if len(predicates) < 2:
        raise SgfluxError(
            f"{config.train_jsonl}: has {len(predicates)} of the known predicates, and there is "
            "nothing to tell apart; give data with two or more"
        )
    own, held_out = (statements_of(s, predicates=predicates) for s in (splits.train, splits.val))
    if not held_out:
        raise SgfluxError(
            f"{config.val_jsonl}: says nothing with the predicates of {config.train_jsonl}"
        )
    names = splits.names(native.kind)
    check_inputs(
        splits,
        names,
        data=data,
        model=config.model,
        pictures=config.pictures,
        max_sequence_length=None,
        processes=processes,
        needs_transformer=config.kind == "saliency",
    )
    encoders = LazyEncoders(
        config.model,
        device=processes.device,
        dtype=config.compute.dtype,
        max_sequence_length=None,
    )
    encoded = encode(
        plan_encoding(splits, encoders, data=data, pictures=config.pictures, texts=PromptMix()),
        names=names,
        concepts=config.kind == "saliency",
        latent_cache_dir=config.latent_cache_dir,
        processes=processes,
        say=say,
    )
    assert encoded.val is not None, "there is a validation file"
    reader = _make_reader(config, encoded, predicates, device=processes.device)
    say(
        f"{config.kind} classifier of {len(predicates)} predicates: {len(own)} statements to learn "
        f"from, {len(held_out)} to measure it on"
    )
    _fit(reader, encoded.train, own, config=config, say=say)
    values = flat_values(config)
    card = ClassifierCard(
        kind=config.kind,
        predicates=reader.model.predicates,
        settings=reader.model.settings,
        reads=reader.identity,
        held_out=measure(reader, encoded.val, held_out, config=config),
        training={
            "sgflux": sgflux.__version__,
            "statements": len(own),
            "data": splits.digests,
            **{key: values[name] for key, name in _RECORDED.items()},
        },
    )
    save_classifier(config.output_dir, reader.model, card)
    return card


_RECORDED = {
    name.removeprefix("max_"): name
    for name in ("model_id", "height", "width", "crop", "max_steps", "batch_size", "lr", "seed")
}
"""Key of the card -> the setting that it records."""


def _expect_other_pictures(data: DataSettings, splits: Splits) -> None:
    roots = [data.images_root(path) for path in data.files]
    seen = {resolve_image(example, roots[0]) for example in splits.train}
    for number, example in enumerate(splits.val):
        if resolve_image(example, roots[1]) in seen:
            raise SgfluxError(
                f"{data.val_jsonl}: {example.named(number)} shows a "
                "picture that is trained on; a classifier is measured on other pictures"
            )


# --- what the classifiers read ------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Reader:
    """A classifier, and what puts a batch into the form that it reads.

    Attributes:
        model: The classifier.
        identity: Identity of the model that makes its input.
        logits: Batch of n examples and their statements -> (n, P).
        encoded: Encoded data, whose scale is needed to draw batches.
        device: Device of the classifier.
    """

    model: RelationClassifier
    identity: str
    logits: Callable[[Batch, Sequence[Triple]], Tensor]
    encoded: Encoded
    device: torch.device


def _make_reader(
    config: ClassifierConfig,
    encoded: Encoded,
    predicates: Sequence[str],
    *,
    device: torch.device,
) -> Reader:
    names = encoded.names
    torch.manual_seed(derived_seed(config.seed, "classifier"))
    if config.kind == "latent":
        latent = LatentRelationClassifier(
            predicates=predicates,
            text_dim=names.dim,
            channels=encoded.train.posterior(torch.tensor([0]))[0].shape[1],
            width=config.channels,
        ).to(device)

        def read_latents(batch: Batch, triples: Sequence[Triple]) -> Tensor:
            return latent(batch.latents, *names.ends(triples, device=device))

        return Reader(latent, encoded.autoencoder_identity, read_latents, encoded, device)

    family = family_of(config.model)
    transformer = family.load_transformer(
        config.model, dtype=DTYPES[config.compute.dtype], device=device
    )
    network = family.network(transformer)
    guidance = guidance_told(
        None, network=network, default=DEFAULT_GUIDANCE, model=config.model.name
    )
    blocks = default_concept_blocks(network.num_layers)
    saliency = SaliencyRelationClassifier(
        predicates=predicates, blocks=blocks, width=config.channels
    ).to(device)
    every = names.lookup(predicates).to(device)
    assert encoded.concept_text is not None, "it was asked for"
    concept_text = {name: tensor.to(device) for name, tensor in encoded.concept_text.items()}

    def read_maps(batch: Batch, triples: Sequence[Triple]) -> Tensor:
        subject, object_ = names.ends(triples, device=device)
        states = torch.cat(
            [subject[:, None], object_[:, None], every.expand(len(triples), -1, -1)], dim=1
        )
        noisy = noise_latents(batch.latents, batch.noise, batch.sigma)
        with torch.no_grad():
            scores = concept_scores(
                network,
                network.inputs(noisy, batch.text, batch.sigma, guidance=guidance),
                concepts=states,
                concept_text={
                    name: tensor.expand(len(triples), *tensor.shape[1:])
                    for name, tensor in concept_text.items()
                },
                blocks=blocks,
            )
            maps = concept_probabilities(softened(scores)).unflatten(2, network.grid(noisy))
        return saliency(maps)

    identity = family.identity(config.model).parts["transformer"]
    return Reader(saliency, identity, read_maps, encoded, device)


# --- learning and measuring ---------------------------------------------------------------------


def _draw(
    reader: Reader, arrays: TrainingArrays, chosen: Sequence[Statement], *, seed: int, number: int
) -> tuple[Tensor, Tensor]:
    """Logits (n, P) of some statements, and their classes (n,), on the reader's device."""
    batch = draw_batch(
        arrays,
        [row for row, _ in chosen],
        latent_scale=reader.encoded.latent_scale,
        prompt_weights={"neutral": 1.0},
        null_graph_probability=0.0,
        sigma_scheme="uniform",
        t_min=0.0,
        t_max=1.0,
        generator=generator_for(seed, "classifier batch", number),
    ).to(reader.device)
    triples = [triple for _, triple in chosen]
    labels = [reader.model.predicates.index(triple.predicate) for triple in triples]
    return reader.logits(batch, triples), torch.tensor(labels, device=reader.device)


def _fit(
    reader: Reader,
    arrays: TrainingArrays,
    statements: Sequence[Statement],
    *,
    config: ClassifierConfig,
    say: Say,
) -> None:
    model: nn.Module = reader.model
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.lr, weight_decay=config.weight_decay
    )
    warmup = max(1, config.max_steps // 20)

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / warmup)
        return rise * (0.5 + 0.5 * math.cos(math.pi * step / config.max_steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    order = ExampleOrder(num_examples=len(statements), seed=config.seed)
    often = max(1, config.max_steps // 10)
    model.train()
    for step in range(config.max_steps):
        rows = order.indices(step * config.batch_size, config.batch_size)
        chosen = [statements[row] for row in rows]
        logits, labels = _draw(reader, arrays, chosen, seed=config.seed, number=step)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % often == 0:
            value = loss.item()
            if not math.isfinite(value):
                raise SgfluxError(
                    f"the loss of step {step + 1} is not finite ({value}); give a lower lr"
                )
            say(f"step {step + 1} of {config.max_steps}  loss {value:.4f}")
    model.requires_grad_(False).eval()


@torch.no_grad()
def measure(
    reader: Reader,
    arrays: TrainingArrays,
    statements: Sequence[Statement],
    *,
    config: ClassifierConfig,
) -> dict[str, Any]:
    """See :func:`sgflux.training.classifier.figures.held_out_figures`.

    The same statements always come with the same noise.
    """
    logits, labels = [], []
    for number, start in enumerate(range(0, len(statements), config.batch_size)):
        chosen = statements[start : start + config.batch_size]
        seed = derived_seed(config.seed, "held out")
        found, true = _draw(reader, arrays, chosen, seed=seed, number=number)
        logits.append(found.cpu())
        labels.append(true.cpu())
    return held_out_figures(
        torch.cat(logits),
        torch.cat(labels),
        pictures=[arrays.examples[row].image_rel_path for row, _ in statements],
        predicates=reader.model.predicates,
    )

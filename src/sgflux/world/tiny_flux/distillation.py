"""tiny-flux's last training: guidance and few steps, distilled into its weights as in schnell's.

A frozen teacher, guided by the difference between caption and no caption, says where each step of a
short sampling should end; the student learns to get there in one evaluation. The teacher is told
everything in reading order, in which it is best, the student in any order. It walks its own
trajectories from noise to picture (no picture of the training set is seen), so that it learns to
mend the errors that it makes itself.

Shapes: B batch, packed latents (B, 64, 64), W trajectories of one walk.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgflux.bases.memory.attention_kernels import without_cudnn
from sgflux.errors import SgfluxError
from sgflux.flow_matching import euler_step, inference_sigmas
from sgflux.world.tiny_flux.config import TrainBaseConfig, log
from sgflux.world.tiny_flux.model import LIVE_DIMENSIONS, SHIFT, CaptionedFlux
from sgflux.world.tiny_flux.training import (
    CaptionTable,
    compile_blocks,
    learning_rate_factor,
    make_optimizers,
    save_checkpoint,
)

WALK_STEPS = (8, 4)  # sampling steps that the student learns
WALK_SHARES = (0.67, 0.33)
TEACHER_STEPS = 8  # the teacher's own, on the same levels
BATCHES_A_WALK = 8  # W / B
CHECKPOINT = "distilled.pt"


@dataclass
class Walk:
    """Trajectories of the student under way, on one grid of noise levels.

    Attributes:
        states: Packed latents, (W, 64, 64) float32.
        positions: Index of each state's noise level on the grid, (W,) int64.
        captions: Row of each state's caption, (W,) int64.
        told: Row of the teacher's caption, which states the same in reading order, (W,) int64.
    """

    states: Tensor
    positions: Tensor
    captions: Tensor
    told: Tensor

    @classmethod
    def start(cls, captions: Tensor, told: Tensor, generator: torch.Generator) -> Walk:
        """Start at pure noise, dead channels excepted, for captions (W,) and the teacher's (W,)."""
        states = start_states(len(captions), generator)
        return cls(states, torch.zeros_like(captions), captions, told)


def start_states(count: int, generator: torch.Generator) -> Tensor:
    """Draw noise in the live dimensions, (count, 64, 64) float32."""
    noise = torch.randn((count, 64, 64), generator=generator)
    noise[..., LIVE_DIMENSIONS:] = 0
    return noise


class Teacher:
    """The trained network with classifier-free guidance; nothing in it is trained any more.

    Source: Ho & Salimans 2022, arXiv:2207.12598, Eq. 6, distilled as in Meng et al. 2023,
    arXiv:2210.03142, Section 3.1, with one fixed guidance scale.
    """

    def __init__(self, model: CaptionedFlux, *, guidance: float, device: str) -> None:
        """Keep a model whose blocks may be compiled already."""
        self.model = model
        self.guidance = guidance
        self.device = device
        self.empty = model.tokenize([""])

    @torch.no_grad()
    def velocity(self, states: Tensor, sigma: Tensor, clip_ids: Tensor, t5_ids: Tensor) -> Tensor:
        """Return the guided velocity of states (B, 64, 64) at sigma (B,), float32."""
        count = len(states)
        nothing = [ids.expand(count, -1).to(self.device) for ids in self.empty]
        with torch.autocast(self.device, torch.bfloat16):
            free = self.model(states, sigma, *nothing)[0].float()
            told = self.model(states, sigma, clip_ids, t5_ids)[0].float()
        return free + self.guidance * (told - free)

    def walk(self, states: Tensor, levels: Tensor, clip_ids: Tensor, t5_ids: Tensor) -> Tensor:
        """Return the mean velocity (B, 64, 64) over Euler steps through levels (B, k + 1)."""
        ends = states
        for here, there in zip(levels.T[:-1], levels.T[1:], strict=True):
            velocity = self.velocity(ends, here, clip_ids, t5_ids)
            ends = euler_step(ends, velocity, here, there)
        return (ends - states) / (levels[:, -1] - levels[:, 0])[:, None, None]


def distil(config: TrainBaseConfig, model: CaptionedFlux, captions: np.ndarray) -> CaptionedFlux:
    """Distil guidance and few steps into the transformer; the text encoders stay as they are.

    Args:
        config: Settings of the distillation.
        model: Trained network; becomes the teacher, and the student starts as its copy unless
            the recipe says at ``start_from``.
        captions: Captions of :func:`sgflux.world.tiny_flux.scenes.make_scenes`.

    Returns:
        The student: the moving average of its weights.

    Raises:
        SgfluxError: if the loss is not finite.
    """
    teacher = Teacher(
        model.eval().requires_grad_(False), guidance=config.guidance, device=config.device
    )
    student = copy.deepcopy(model).requires_grad_(True)
    if config.distill_onto_start:
        assert config.start_from is not None  # train_base refuses it otherwise
        student.load_pipeline(config.start_from)
    for part in (student.clip, student.t5, student.layout_head, student.role_head):
        part.requires_grad_(False)
    average = {
        name: value.detach().clone() for name, value in student.transformer.state_dict().items()
    }
    optimizers, base_lrs = make_optimizers(
        student,
        muon_lr=config.distill_lr_share * config.muon_lr,
        lr=config.distill_lr_share * config.lr,
    )
    table = CaptionTable.build(captions, model, sharing_weight=config.sharing_weight)
    count = BATCHES_A_WALK * config.batch_size

    def draw_captions(trajectories: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return table.draw(table.draw_scenes(trajectories, generator), generator)

    first = torch.Generator().manual_seed(config.seed)
    walks = [Walk.start(*draw_captions(count, first), first) for _ in WALK_STEPS]

    step = 0
    checkpoint = config.output_dir / CHECKPOINT
    if checkpoint.exists():
        # On the CPU, where the walks stay.
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        student.load_state_dict(state["student"])
        average = {name: value.to(config.device) for name, value in state["average"].items()}
        step = state["step"]
        for optimizer, stored in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        walks = [Walk(**stored) for stored in state["walks"]]
        log(config, f"distillation resumed at step {step}")
    if config.compile:
        compile_blocks(teacher.model)
        compile_blocks(student)

    fine = inference_sigmas(TEACHER_STEPS, shift=SHIFT)
    losses: list[float] = []
    began, started = step, time.time()
    while step < config.distill_steps:
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + 500_000_000 + step)
        which = int(torch.rand((), generator=generator) > WALK_SHARES[0])
        walk, steps = walks[which], WALK_STEPS[which]
        slots = torch.randperm(count, generator=generator)[: config.batch_size]
        here = walk.positions[slots]
        stride = TEACHER_STEPS // steps
        levels = fine[here[:, None] * stride + torch.arange(stride + 1)].to(config.device)
        states = walk.states[slots].to(config.device)
        texts, told = (
            (table.clip_ids[rows].to(config.device), table.t5_ids[rows].to(config.device))
            for rows in (walk.captions[slots], walk.told[slots])
        )
        target = teacher.walk(states, levels, *told)[..., :LIVE_DIMENSIONS]
        with without_cudnn():
            with torch.autocast(config.device, torch.bfloat16):
                velocity = student(states, levels[:, 0], *texts)[0]
            velocity = velocity[..., :LIVE_DIMENSIONS].float()
            loss = F.mse_loss(velocity, target)
            loss.backward()
        nn.utils.clip_grad_norm_(student.transformer.parameters(), 1.0)
        factor = learning_rate_factor(
            step, config.distill_steps, warmup=config.distill_steps // 20, decay=0.6
        )
        for optimizer, base_lr in zip(optimizers, base_lrs, strict=True):
            optimizer.param_groups[0]["lr"] = base_lr * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, value in student.transformer.state_dict().items():
                average[name].lerp_(value, 1 - config.distill_ema_decay)

        # Each trajectory goes where the student led it; those that have ended begin anew.
        moved = F.pad(velocity.detach(), (0, states.shape[-1] - LIVE_DIMENSIONS))
        walk.states[slots] = euler_step(states, moved, levels[:, 0], levels[:, -1]).cpu()
        walk.positions[slots] += 1
        stops_early = float(torch.rand((), generator=generator)) < config.distill_early_share
        ended = slots[walk.positions[slots] >= (steps // 2 if stops_early else steps)]
        walk.states[ended] = start_states(len(ended), generator)
        walk.positions[ended] = 0
        walk.captions[ended], walk.told[ended] = draw_captions(len(ended), generator)

        step += 1
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise SgfluxError(f"the loss of step {step} is {losses[-1]}; resume from a checkpoint")
        if step % 50 == 0:
            rate = (time.time() - started) / (step - began)
            recent = sum(losses[-100:]) / len(losses[-100:])
            left = rate * (config.distill_steps - step) / 60
            message = f"distillation {step}/{config.distill_steps}: error {recent:.5f}"
            log(config, f"{message}, {rate:.3f} s/step, {left:.0f} min left")
        if step % config.save_every == 0 or step == config.distill_steps:
            state = {
                "step": step,
                "student": student.state_dict(),
                "average": average,
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "walks": [vars(walk) for walk in walks],
            }
            save_checkpoint(state, checkpoint)
    student.transformer.load_state_dict(average)
    return student.eval()

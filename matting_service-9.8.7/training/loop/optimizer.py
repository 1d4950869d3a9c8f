"""How weights move: optimiser, learning rate, running average."""

import copy
import math

import torch
from torch import Tensor, nn

from training.config import StageConfig
from training.network.networks import Network


def choose_trained(model: Network, stage: StageConfig) -> list[nn.Parameter]:
    """Return the parameters that the stage trains, and freeze the others."""
    model.requires_grad_(False)
    for module in list_trained(model, stage):
        module.requires_grad_(True)
    model.encoder[: stage.frozen_blocks].requires_grad_(False)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def list_trained(model: Network, stage: StageConfig) -> list[nn.Module]:
    """Return the modules that the stage trains but for the frozen blocks of the encoder."""
    if stage.branches == "lr":
        return [model.lr_branch]  # the encoder is in it
    if stage.branches == "hr":
        return [model.hr_branch, model.f_branch]
    return [model]


def enter_training(model: Network, stage: StageConfig) -> None:
    """Set the mode of each module: norms of what does not learn keep their statistics."""
    model.eval()
    for module in list_trained(model, stage):
        module.train()
    model.encoder[: stage.frozen_blocks].eval()


def make_optimizer(model: Network, stage: StageConfig) -> torch.optim.Optimizer:
    """Return the optimiser of a stage; `lr_factor` of each group is kept for set_lr."""
    in_backbone = {id(parameter) for parameter in model.encoder.parameters()}
    parameters = choose_trained(model, stage)
    backbone = [p for p in parameters if id(p) in in_backbone]
    branches = [p for p in parameters if id(p) not in in_backbone]
    groups = [
        {"params": backbone, "lr_factor": stage.backbone_lr_factor},
        {"params": branches, "lr_factor": 1.0},
    ]
    groups = [group for group in groups if group["params"]]
    if stage.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=stage.lr, momentum=stage.momentum, weight_decay=stage.weight_decay
        )
    return torch.optim.AdamW(
        groups, lr=stage.lr, betas=stage.betas, weight_decay=stage.weight_decay
    )


def compute_lr(stage: StageConfig, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, counted from 0 in the stage."""
    steps = stage.epochs * steps_per_epoch
    warmup_steps = stage.warmup * steps
    if step < warmup_steps:
        return stage.lr * (step + 1) / (warmup_steps + 1)
    if stage.schedule == "step":
        return stage.lr * stage.step_factor ** (step // steps_per_epoch // stage.step_epochs)
    progress = (step - warmup_steps) / (steps - warmup_steps)
    factor = 0.5 * (1 + math.cos(math.pi * progress))
    return stage.lr * (stage.final_lr_factor + (1 - stage.final_lr_factor) * factor)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


class Average:
    """The exponential moving average of a model's weights and norm statistics."""

    def __init__(self, model: Network, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: Network, updates: int) -> None:
        """Take the weights in; `updates` counts from 0: the first ones weigh more."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        own, new = list_tensors(self.model), list_tensors(model)
        torch._foreach_lerp_(own, new, 1 - decay)


def list_tensors(model: nn.Module) -> list[Tensor]:
    """Return parameters and floating buffers, each once; counters are left out."""
    tensors = [*model.parameters(), *model.buffers()]
    return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]

"""What a run of a language model takes, without its data."""

from __future__ import annotations

import torch

from robot_foundry.trainer.memory import Activations, gpu_memory, state_bytes
from robot_foundry.trainer.models.llm import LLM
from robot_foundry.trainer.models.sizes.cost import loss_bytes, token_cost
from robot_foundry.trainer.tasks.cost import RunCost, Tokens, traffic_of
from robot_foundry.trainer.tasks.llm.config import LLMTaskConfig
from robot_foundry.trainer.tasks.llm.dry_run import count_parameters


def run_cost(config: LLMTaskConfig, gpu_bytes: int) -> RunCost:
    """With the vocabulary that the recipe says: a tokenizer of more ids makes the model larger."""
    run, length = config.run, config.data.rows.length
    with torch.device("meta"):
        model = LLM(config.model)
    cost = token_cost(config.model, length, run.precision)
    state = state_bytes(model, config.optim, run.precision)
    activations = Activations(length * cost.activation_bytes, loss_bytes(config.model))
    memory = tuple(gpu_memory(state, activations, config.global_batch, run.accumulate, gpu_bytes))
    return RunCost(
        name=config.name,
        assumed=None,
        global_batch=config.global_batch,
        accumulate=run.accumulate,
        precision=run.precision,
        parameters=count_parameters(model),
        tokens=Tokens(length, cost, config.num_steps * config.global_batch * length),
        state=state,
        memory=memory,
        traffic=traffic_of(model, config, memory),
    )

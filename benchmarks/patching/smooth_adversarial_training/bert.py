"""SiLU for ReLU in BERT, by hand."""

from torch import nn


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    for layer in model.bert.encoder.layer:
        layer.intermediate.intermediate_act_fn = nn.SiLU()
    model.cls.predictions.transform.transform_act_fn = nn.SiLU()

"""Weights that a file gives to single labels of a frame: what they do to the labels.

A weight of zero says that the label is not to be used: it is then missing in the frame, in the loss, the metrics, the
statistics and the reference energies. Other weights multiply that of the frame wherever the label is compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph

LeftOut = tuple[str, str]
"""A label, and why it is left out."""


def apply_label_weights(labels: Graph, names_by_label: Mapping[str, str]) -> list[LeftOut]:
    """Take out labels whose weight is zero, and bring the weights of the others to the fields of the table.

    Args:
        labels: Labels and weights of one frame, as they stand in the file; changed in place. A weight of a virial
            becomes one of the stress.
        names_by_label: ``{label: name in the file}``, for the reasons.

    Returns:
        The labels that were taken out.

    Example:
        A weight of zero takes the label out; another one goes along with it:

        >>> labels = {
        ...     "total_energy": torch.tensor([[-1.0]]),
        ...     "total_energy_weight": torch.tensor([[0.0]]),
        ...     "forces": torch.zeros(1, 3),
        ...     "forces_weight": torch.tensor([[2.0]]),
        ... }
        >>> apply_label_weights(labels, {name: name for name in labels})
        [('total_energy', "their weight 'total_energy_weight' is zero")]
        >>> sorted(labels)
        ['forces', 'forces_weight']
    """
    names = {label: weight for label, weight in fields.LABEL_WEIGHTS.items() if weight in labels}
    for label, partner in ((fields.STRESS, fields.VIRIAL), (fields.VIRIAL, fields.STRESS)):
        # A frame has one of the two, and whoever weighs it may call it by the other's name.
        if label in labels and label not in names and partner not in labels and partner in names:
            names[label] = names[partner]
    values = {weight: labels.pop(weight) for weight in set(names.values())}
    left_out: list[LeftOut] = []
    for label, weight in names.items():
        if label not in labels:
            continue
        value = values[weight]
        if float(value) == 0:
            del labels[label]
            left_out.append((label, f"their weight '{names_by_label[weight]}' is zero"))
        elif float(value) != 1:
            of_label = fields.STRESS if label == fields.VIRIAL else label
            labels.setdefault(fields.LABEL_WEIGHTS[of_label], value)
    return left_out


def find_equal_weights(frames: Sequence[Graph], label_names: Mapping[str, Sequence[str]]) -> list[str]:
    """Notes on labels whose weights are all the same: means are divided by the sum of weights, so these do nothing.

    Args:
        frames: Graphs of single structures with the same fields.
        label_names: ``{field: names in the files}``.
    """
    notes = []
    for label, weight in fields.LABEL_WEIGHTS.items():
        if frames and weight in frames[0]:
            values = torch.cat([frame[weight].flatten() for frame in frames if label in frame])
            if len(values) and bool((values == values[0]).all()):
                names = ", ".join(label_names.get(weight, [weight]))
                notes.append(
                    f"all weights '{names}' are {float(values[0]):g}, which changes nothing: they weigh frames against "
                    "each other; weigh labels against each other by training_module.loss.coeffs"
                )
    return notes

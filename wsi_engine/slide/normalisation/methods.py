"""The methods of colour normalisation, by name; with nothing that computes."""

from __future__ import annotations

from typing import Literal

Method = Literal["reinhard", "histogram", "macenko", "vahadane"]

SplitDab = Literal["auto", "always", "never"]
"""Whether a model is shown haematoxylin and DAB apart; ``auto`` is where the slide shows DAB."""

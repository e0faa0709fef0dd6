"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Suspect = Annotated[
    Path, typer.Argument(help="Checkpoint as received: .safetensors, or a torch file of plain tensors.")
]
Anchor = Annotated[
    Path | None,
    typer.Option(
        help="Checkpoint that training started from (initialisation or base model). Unknown: leave it out."
    ),
]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the account as JSON.")]
MOST = 2**32 - 1
"""The largest seed that every generator of random numbers takes, torch's and scikit-learn's."""
Seed = Annotated[int, typer.Option(help="Of every random choice.", min=0, max=MOST)]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda or cuda:N.")]
Force = Annotated[
    bool, typer.Option("--force", help="Overwrite output files that exist (never the suspect).")
]

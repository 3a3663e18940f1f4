"""What mint-trl registers."""

from __future__ import annotations

from mint_core import hookimpl
from mint_core.interfaces import Aligner


@hookimpl
def mint_aligners() -> list[type[Aligner]]:
    """SFT, DPO and ORPO, trained by TRL."""
    from mint_trl.aligners import TrlDpo, TrlOrpo, TrlSft

    return [TrlSft, TrlDpo, TrlOrpo]

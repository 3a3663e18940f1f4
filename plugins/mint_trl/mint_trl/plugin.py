"""What mint-trl registers."""

from __future__ import annotations

from mint_core.plugin import Aligner, hookimpl


@hookimpl
def mint_aligners() -> list[type[Aligner]]:
    """SFT, DPO and ORPO, trained by TRL."""
    from mint_trl.aligners import TrlDpo, TrlOrpo, TrlSft

    return [TrlSft, TrlDpo, TrlOrpo]

"""What mint-rag registers."""

from __future__ import annotations

from mint_core.plugin import Retriever, hookimpl


@hookimpl
def mint_retrievers() -> list[type[Retriever]]:
    """Knowledge of rare diseases, and the user's own documents."""
    from mint_rag.documents import Documents
    from mint_rag.hpo import Hpo

    return [Hpo, Documents]

"""What a paper that uses a run cites: mint, and the papers behind its method."""

from __future__ import annotations

from importlib.metadata import version

_ALWAYS = (
    "Wang, Wu, Nguyen, Xu and Wang: Multimodal Integrated Knowledge Transfer to Large Language Models through "
    "Preference Optimization with Biomedical Applications. arXiv 2505.05736 (2025); shorter at the GenBio workshop "
    "of ICML 2025.",
)
_BY_ALIGNER = {
    "orpo": "Hong, Lee and Thorne: ORPO: Monolithic Preference Optimization without Reference Model. arXiv 2403.07691 "
    "(2024).",
    "dpo": "Rafailov et al.: Direct Preference Optimization: Your Language Model is Secretly a Reward Model. arXiv "
    "2305.18290 (2023).",
    "simpo": "Meng, Xia and Chen: SimPO: Simple Preference Optimization with a Reference-Free Reward. arXiv 2405.14734 "
    "(2024).",
}
_ADAPTER = "Hu et al.: LoRA: Low-Rank Adaptation of Large Language Models. arXiv 2106.09685 (2021)."
_HARNESS = "Gao et al.: A framework for few-shot language model evaluation. https://github.com/EleutherAI/lm-evaluation-harness"


def how_to_cite(aligners: set[str], *, preserved: bool) -> list[str]:
    """The references of a run or a comparison, one a line.

    Args:
        aligners: Names of the aligners that were used; none where nothing was aligned.
        preserved: General ability was measured.
    """
    return [
        f"mint-core {version('mint-core')}, a framework in which multimodal teachers align unimodal students.",
        *_ALWAYS,
        *(paper for name, paper in _BY_ALIGNER.items() if name in aligners),
        *([_ADAPTER] if aligners else []),
        *([_HARNESS] if preserved else []),
        "The data, the teacher and the student as their publishers ask; their names stand above.",
    ]

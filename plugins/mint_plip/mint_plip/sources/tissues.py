"""The 19 tissues of PanNuke and the spellings that go round."""

from __future__ import annotations

from mint_core.plugin import LabelSpace
from mint_plip.simulated import TISSUES

# Case, hyphens and underscores do not count (Bile-duct, Adrenal_gland), so only other spellings stand here.
_SPELLINGS = {
    "Adrenal gland": ("Adrenal",),
    "Bile duct": ("BileDuct",),
    "Esophagus": ("Oesophagus",),
    "Head and neck": ("HeadNeck", "Head & Neck"),
    "Ovarian": ("Ovary",),
    "Pancreatic": ("Pancreas",),
}

TISSUE_LABELS = LabelSpace(tuple(TISSUES), tuple(_SPELLINGS.get(tissue, ()) for tissue in TISSUES))

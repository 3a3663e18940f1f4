"""The stages of a run, in order: label -> prefer -> align -> predict -> evaluate -> report."""

from __future__ import annotations

from mint_core.stages.align import Align
from mint_core.stages.evaluate import Evaluate
from mint_core.stages.label import Label
from mint_core.stages.predict import Predict
from mint_core.stages.prefer import Prefer
from mint_core.stages.report import Report
from mint_core.stages.stage import Stage

STAGES: tuple[Stage, ...] = (Label(), Prefer(), Align(), Predict(), Evaluate(), Report())
NAMES = tuple(stage.name for stage in STAGES)

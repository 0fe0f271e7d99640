"""Teaching a proxy where to look: low-rank adapters learnt on labelled questions.

records ─ shown ─► prompts ─ pupil ─► scores ─ listwise loss ─► adapters and linear heads
   └ a fifth of the articles is held out for the curve       └► adapters are kept, heads are not:
                                                                `tamis probe train` fits the probe
"""

from tamis.service.sharpening.loop import Lessons, lessons
from tamis.service.sharpening.recipe import Recipe

__all__ = ["Lessons", "Recipe", "lessons"]

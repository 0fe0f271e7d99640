"""Teaching a proxy where to look: low-rank adapters learnt on labelled questions.

records ─ shown ─► prompts ─ pupil ─► scores ─ listwise loss ─► adapters and linear heads
   └ a fifth of the articles is held out for the curve       └► adapters are kept, heads are not:
                                                                `tamis probe train` fits the probe
"""

from tamis.service.training.lora.recipe import Recipe
from tamis.service.training.lora.training_run import Lessons, lessons

__all__ = ["Lessons", "Recipe", "lessons"]

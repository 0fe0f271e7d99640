"""Low-rank adapters that teach a proxy where to look, learnt on labelled questions.

Imports `tamis`, `datasets` and `train.probe`.

records ─ examples ─► prompts ─ student ─► scores ─ listwise loss ─► adapters and linear heads
   └ a fifth of the articles is held out for the curve       └► adapters are saved, heads are not:
                                                                `tamis lab probe train` fits it
"""

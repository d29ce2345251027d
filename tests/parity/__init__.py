"""Proof that our model is the published one: compared with `fish-speech==0.1.0` on random weights.

`make parity` makes `.venv-oracle` once (about a minute and a half, see `oracle.py`), writes random
checkpoints in the official layout (`official.py`), asks the package everything in one subprocess
(`cases.py`, `oracle_script.py`) and compares. `SHOAL_ORACLE_PYTHON` names a ready interpreter.

Where we differ on purpose:

- Control tokens in a user's text are plain text to us; the package obeys them (`test_prompt.py`).
- The slow head has legal rows only; the package may choose any token (here its illegal rows are
  scaled by 1e-3, as training does to rows that never occur).
- Training's whole-grid pass scales code embeddings as generation does; the package's `forward`
  forgets to. We follow `forward_generate`.
- Sampling parameters stay float32; the package rounds them to bfloat16 (0.7 becomes 0.6992).
- Of codes whose logits are alike and of which top-p keeps some, we keep the first; the package
  keeps those that its sort happens to put first.
- Temperature 0 is an exact argmax; the package has none and clips at 1e-5.
- The repetition window holds real frames, each code book's own; the package reads column 0 of it
  for the semantic token (the oldest frame's token id and codes), and its zero padding penalises
  code 0 during the first 16 frames.
- The codec's positions go on past 4,096 (190 s), where the package's tables end.
"""

"""Where a run of the training starts."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from backend.settings import SHIPPED_VOICE_DIR
from training.demo_voice.run import begin_with
from training.demo_voice.train_codec import CODES_FILE, START_FILE
from training.demo_voice.train_transformer import MODEL_FILE, STEP_FILE


def test_a_finished_checkpoint_is_a_start_whose_codes_are_not_final(tmp_path: Path) -> None:
    begin_with(SHIPPED_VOICE_DIR, tmp_path)
    assert not (tmp_path / CODES_FILE).exists()
    assert (tmp_path / STEP_FILE).read_text() == "0"
    for name, source in ((START_FILE, "codec"), (MODEL_FILE, "model")):
        shipped = load_file(SHIPPED_VOICE_DIR / f"{source}.safetensors")
        laid = load_file(tmp_path / name)
        assert laid.keys() == shipped.keys()
        assert all(weights.dtype == torch.float32 for weights in laid.values())
        assert all(torch.equal(laid[key], shipped[key].float()) for key in shipped)

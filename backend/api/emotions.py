"""What `GET /emotions` says: where emotion comes from in a model that clones voices."""

from typing import Any

EMOTIONS: dict[str, Any] = {
    "summary": (
        "Fish Speech clones voices; it has no switch for emotions. The speech takes its mood from "
        "the reference audio: send a recording that sounds the way the answer should."
    ),
    "emotion_source": "reference_audio",
    "prosody_markers": {
        "!": "more energy, a falling end",
        "?": "a rising end",
        "...": "hesitation, a longer pause",
        "…": "hesitation, a longer pause",
        "—": "a break in the thought",
        ",": "a short pause",
        ".": "a full stop and a breath",
    },
    "reference_audio_tips": [
        "Use an expressive recording: an angry one for angry speech, a calm one for calm speech.",
        "10 to 30 seconds of one speaker, without music, noise or echo.",
        "Send what is said in it as prompt_text; the voice is matched better.",
        "Keep one recording for each mood and choose between them by request.",
        "Start and end the recording in silence, not within a word.",
    ],
    "sound_effects": {
        "note": (
            "Some checkpoints react to these words in parentheses, some read them aloud, and the "
            "voice that ships with Shoal knows none of them. Try them before relying on one."
        ),
        "may_work": [
            "(laughing)",
            "(chuckling)",
            "(sobbing)",
            "(crying loudly)",
            "(sighing)",
            "(panting)",
            "(groaning)",
            "(crowd laughing)",
            "(background laughter)",
            "(audience laughing)",
        ],
    },
    "instead_of_tags": [
        "Use expressive reference audio in place of a tag such as [happy] or <sad>.",
        "Add punctuation where the voice should rise, pause or break off.",
        "Split the text and send each mood with its own reference audio.",
        "Remove emotion tags from the text: they would be read aloud.",
    ],
}

"""The borders of sentences: what is dropped, faded and made as loud as its neighbours."""

import numpy as np
import pytest

from backend.audio.joins import FOLLOW_DB, HELD_S, LEAD_S, MOST_DB, SPREAD_DB, Edges, Levels
from backend.audio.measure import SILENCE_RMS
from tests.heard import Sound, level_db, tone, voice

RATE_HZ = 16_000
WINDOW = 80
TAIL = 2 * WINDOW


def silence(seconds: float, rms: float = 0.0) -> Sound:
    noise = np.random.default_rng(1).standard_normal(round(seconds * RATE_HZ))
    return (rms * noise).astype(np.float32)


def mended(
    sound: Sound,
    pause_s: float = 0.3,
    piece_samples: int = 1_000,
    gain: float = 1.0,
    rate_hz: int = RATE_HZ,
) -> tuple[Sound, Edges]:
    edges = Edges(rate_hz, round(pause_s * rate_hz), gain)
    starts = range(0, len(sound), piece_samples)
    pieces = [edges.push(sound[start : start + piece_samples].tobytes()) for start in starts]
    return np.frombuffer(b"".join([*pieces, edges.finish()]), "<f4"), edges


def spoken(levels: Levels, sound: Sound, *, is_whole: bool = True) -> float:
    """The gain of a sentence, which is then learnt."""
    gain = levels.gain("ann", sound.tobytes(), is_whole=is_whole)
    edges = levels.edges("ann", 0, gain)
    edges.push(sound.tobytes())
    edges.finish()
    levels.learn("ann", edges)
    return gain


# -- borders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100])
@pytest.mark.parametrize("noise", [0.0, 0.5 * SILENCE_RMS])
def test_silence_around_a_sentence_is_dropped_but_for_a_tail(noise: float, rate_hz: int) -> None:
    sound = voice(1.0, rate_hz)
    quiet = (noise * np.ones(rate_hz // 3)).astype(np.float32)
    heard, edges = mended(np.concatenate([quiet, sound, quiet]), rate_hz=rate_hz)
    assert len(heard) == pytest.approx(len(sound) + 0.015 * rate_hz, abs=0.011 * rate_hz)
    assert 0 < edges.tail_samples <= 0.01 * rate_hz


@pytest.mark.parametrize("piece_samples", [1, 7, WINDOW, 999, 100_000])
def test_pieces_do_not_matter(piece_samples: int) -> None:
    first, second, quiet = voice(0.5, RATE_HZ), voice(0.3, RATE_HZ), silence(0.4, 1e-4)
    sound = np.concatenate([silence(0.1, 0.001), first, quiet, second, quiet])
    expected, whole = mended(sound, piece_samples=len(sound))
    heard, edges = mended(sound, piece_samples=piece_samples)
    assert np.array_equal(heard, expected)
    assert (edges.tail_samples, edges.level_db) == (whole.tail_samples, whole.level_db)


def test_a_sentence_that_begins_and_ends_in_the_middle_of_a_wave_is_faded() -> None:
    sound = np.full(RATE_HZ, 0.5, np.float32)
    heard, edges = mended(sound)
    assert len(heard) == len(sound) and edges.tail_samples == 0
    for edge in (heard[:WINDOW], heard[::-1][:WINDOW]):
        assert edge[0] < 0.001
        assert np.all(np.diff(edge) > 0) and np.diff(edge).max() < 0.011, "no corner"
    assert np.array_equal(heard[WINDOW:-WINDOW], sound[WINDOW:-WINDOW])


def test_what_is_between_stays_as_it_is() -> None:
    sound = np.concatenate([voice(0.5, RATE_HZ), silence(0.5, 1e-4), voice(0.5, RATE_HZ)])
    heard, _ = mended(sound)
    assert np.array_equal(heard[WINDOW:-WINDOW], sound[WINDOW : len(heard) - WINDOW])


def test_the_soft_beginning_of_a_sound_is_kept() -> None:
    quiet, soft, loud = silence(0.2), silence(0.02, 3 * SILENCE_RMS), tone(0.5, RATE_HZ)
    heard, _ = mended(np.concatenate([quiet, soft, loud]))
    assert len(heard) >= len(soft) + len(loud)


def test_the_release_of_a_last_consonant_is_kept() -> None:
    release = silence(0.02, 0.01)
    sound = np.concatenate([tone(0.5, RATE_HZ), silence(0.12, 1e-4), release, silence(0.1, 1e-4)])
    heard, edges = mended(sound, 0.0)
    assert len(heard) == pytest.approx(0.64 * RATE_HZ, abs=WINDOW)
    assert np.abs(heard[-len(release) :]).max() > 0.01
    assert edges.tail_samples == 0


@pytest.mark.parametrize("pause_s", [0.0, 0.004, 0.3])
def test_the_tail_is_a_part_of_the_pause(pause_s: float) -> None:
    _, edges = mended(np.concatenate([voice(0.5, RATE_HZ), silence(0.5)]), pause_s)
    assert edges.tail_samples == (TAIL if pause_s > 0.01 else 0)


@pytest.mark.parametrize("piece_samples", [160, 2_048])
def test_a_voice_is_held_back_for_ten_milliseconds_at_most(piece_samples: int) -> None:
    sound, edges, ready = voice(1.0, RATE_HZ), Edges(RATE_HZ, 0), 0
    for start in range(0, len(sound), piece_samples):
        piece = sound[start : start + piece_samples]
        ready += len(edges.push(piece.tobytes())) // 4
        assert start + len(piece) - ready <= 2 * WINDOW


def test_silence_without_an_end_is_passed_on() -> None:
    edges, taken, ready = Edges(RATE_HZ, 0), 0, 0
    for sound in (silence(20.0), voice(0.5, RATE_HZ), silence(20.0)):
        for start in range(0, len(sound), 1_000):
            piece = sound[start : start + 1_000]
            taken += len(piece)
            ready += len(edges.push(piece.tobytes())) // 4
            assert taken - ready < (LEAD_S + HELD_S) * RATE_HZ + 1_000 + 3 * WINDOW


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.3, 1.0, 1.5, 5.0])
def test_a_silent_sentence_stays_as_long_as_it_is(seconds: float) -> None:
    heard, edges = mended(silence(seconds, 1e-4))
    assert len(heard) == round(seconds * RATE_HZ) and np.abs(heard).max(initial=0.0) < 0.001
    assert edges.level_db is None


@pytest.mark.parametrize("samples", [1, 40, 80, 81, 200])
def test_the_shortest_sounds_pass(samples: int) -> None:
    heard, _ = mended(np.full(samples, 0.5, np.float32))
    assert len(heard) == samples
    assert np.abs(heard).max(initial=0.0) <= 0.5


def test_what_is_no_number_is_silent() -> None:
    heard, _ = mended(np.full(1_000, np.nan, np.float32))
    assert not heard.any()


# -- levels ----------------------------------------------------------------------------------------


def test_the_first_sentence_of_a_voice_is_left_as_it_is() -> None:
    levels = Levels(RATE_HZ)
    assert not levels.knows("ann")
    assert spoken(levels, 0.1 * voice(1.0, RATE_HZ)) == 1.0
    assert levels.knows("ann")
    assert not levels.knows("ben")
    assert levels.gain("ben", voice(1.0, RATE_HZ).tobytes(), is_whole=True) == 1.0


@pytest.mark.parametrize("off_db", [-5.0, -2.0, -0.1, 0.1, 2.0, 5.0])
def test_the_next_is_brought_near_it(off_db: float) -> None:
    levels, first = Levels(RATE_HZ), 0.2 * voice(2.0, RATE_HZ)
    spoken(levels, first)
    second = (10 ** (off_db / 20) * first).astype(np.float32)
    gain = spoken(levels, second)
    left_db = level_db(gain * second) - level_db(first)
    assert left_db == pytest.approx(np.clip(off_db, -SPREAD_DB, SPREAD_DB), abs=0.01)


def test_neighbours_differ_by_less_than_can_be_heard_however_they_are_spoken() -> None:
    levels, draw = Levels(RATE_HZ), np.random.default_rng(2)
    heard_db = []
    for _ in range(60):
        off_db = draw.normal(0.0, 1.5)
        sound = (0.2 * 10 ** (off_db / 20) * voice(1.0, RATE_HZ)).astype(np.float32)
        heard_db.append(level_db(spoken(levels, sound) * sound))
    assert np.abs(np.diff(heard_db)).max() <= 2 * SPREAD_DB + FOLLOW_DB + 0.01


def test_the_level_follows_a_voice_that_changes() -> None:
    levels = Levels(RATE_HZ)
    spoken(levels, 0.4 * voice(1.0, RATE_HZ))
    gains = [spoken(levels, 0.2 * voice(1.0, RATE_HZ)) for _ in range(40)]
    assert gains[0] > 1.8
    assert gains[-1] == pytest.approx(1.0, abs=0.03)
    assert gains == sorted(gains, reverse=True)


def test_it_never_clips() -> None:
    levels = Levels(RATE_HZ)
    spoken(levels, voice(1.0, RATE_HZ))
    peaked = 0.3 * voice(1.0, RATE_HZ)
    peaked[8_000] = 0.9
    assert 1.0 <= levels.gain("ann", peaked.tobytes(), is_whole=True) <= 0.991 / 0.9
    # What is not heard yet may be louder.
    assert levels.gain("ann", (0.3 * voice(1.0, RATE_HZ)).tobytes(), is_whole=False) == 1.0


def test_the_beginning_of_a_sentence_is_trusted_the_more_the_longer_it_is() -> None:
    levels = Levels(RATE_HZ)
    spoken(levels, 0.2 * voice(2.0, RATE_HZ))
    loud = 0.5 * voice(4.0, RATE_HZ)
    gains = [
        levels.gain("ann", loud[: round(s * RATE_HZ)].tobytes(), is_whole=False)
        for s in (0.05, 0.3, 1.0, 4.0)
    ]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 0.9 > 0.51 > gains[-1]


def test_what_is_far_off_is_changed_by_a_bounded_amount() -> None:
    levels = Levels(RATE_HZ)
    spoken(levels, 0.5 * voice(1.0, RATE_HZ))
    gain = levels.gain("ann", (0.01 * voice(1.0, RATE_HZ)).tobytes(), is_whole=True)
    assert 20 * np.log10(gain) == pytest.approx(MOST_DB)
    assert levels.gain("ann", b"", is_whole=True) == 1.0
    assert levels.gain("ann", silence(1.0).tobytes(), is_whole=True) == 1.0

// Plays 16-bit mono PCM that may still be being made, without a gap: each piece is scheduled to the
// sample behind the one before. Buffers, not an audio worklet, because browsers offer worklets on
// https and localhost only, and this page is also opened across a home network.

const LOOKAHEAD_S = 20; // scheduled ahead of what is heard; more waits in the network
const FIRST_S = 0.06; // between a piece's arrival and its sound: a busy page must not miss it

export class Player {
  // `open(byte, signal)` gives a reader of pieces of PCM from that byte on, to the end.
  constructor(open, onchange) {
    this.open = open;
    this.onchange = onchange;
    this.rate = 0;
    this.state = "idle"; // idle, starting, playing, paused
    this.context = null;
    this.run = null;
    this.heard = []; // what is scheduled: {at, sample, count}
    this.offset_s = 0;
  }

  // Whether sound may be made: browsers allow it once the user has clicked something.
  async unlock(rate) {
    if (this.context && this.rate !== rate) {
      this.context.close();
      this.context = null;
    }
    this.rate = rate;
    if (!this.context) this.context = new AudioContext({ sampleRate: rate });
    const patience = new Promise((wake) => setTimeout(wake, 400));
    if (this.context.state === "suspended") await Promise.race([this.context.resume(), patience]);
    return this.context.state === "running";
  }

  get position_s() {
    if (this.state !== "playing" && this.state !== "starting") return this.offset_s;
    const now = this.context.currentTime;
    while (this.heard.length > 1 && this.heard[1].at <= now) this.heard.shift();
    const piece = this.heard[0];
    if (!piece || piece.at > now) return this.offset_s;
    return (piece.sample + Math.min(piece.count, (now - piece.at) * this.rate)) / this.rate;
  }

  async play(from_s, until_s = Infinity) {
    this.halt();
    this.offset_s = from_s;
    this.set("starting");
    const run = (this.run = { control: new AbortController(), sources: new Set(), until_s });
    const first = Math.max(0, Math.round(from_s * this.rate));
    try {
      await this.feed(run, first);
    } catch (error) {
      if (error.name !== "AbortError" && this.run === run) this.finish(run);
    }
  }

  async feed(run, first) {
    let sample = first;
    let next = 0;
    let rest = new Uint8Array(0);
    for await (const bytes of this.open(first * 2, run.control.signal)) {
      if (this.run !== run) return;
      const whole = new Uint8Array(rest.length + bytes.length);
      whole.set(rest);
      whole.set(bytes, rest.length);
      let count = whole.length >> 1;
      rest = whole.slice(count * 2);
      const left = Math.round(run.until_s * this.rate) - sample;
      count = Math.min(count, left);
      if (count > 0) next = this.schedule(run, whole, count, sample, next);
      sample += Math.max(0, count);
      if (sample >= Math.round(run.until_s * this.rate)) break;
      while (next - this.context.currentTime > LOOKAHEAD_S && this.run === run)
        await new Promise((wake) => setTimeout(wake, 500));
    }
    if (this.run !== run) return;
    run.isWhole = true;
    if (!run.sources.size) this.finish(run);
  }

  schedule(run, bytes, count, sample, next) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, count * 2);
    const buffer = this.context.createBuffer(1, count, this.rate);
    const channel = buffer.getChannelData(0);
    for (let i = 0; i < count; i++) channel[i] = view.getInt16(2 * i, true) / 32768;
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    const at = Math.max(next, this.context.currentTime + (next ? 0.01 : FIRST_S));
    source.start(at);
    this.heard.push({ at, sample, count });
    run.sources.add(source);
    source.onended = () => {
      run.sources.delete(source);
      if (run.isWhole && !run.sources.size) this.finish(run);
    };
    this.set("playing");
    return at + count / this.rate;
  }

  pause() {
    this.offset_s = this.position_s;
    this.halt();
    this.set("paused");
  }

  finish(run) {
    if (this.run !== run) return;
    this.offset_s = 0;
    this.halt();
    this.set("idle");
  }

  halt() {
    const run = this.run;
    this.run = null;
    this.heard = [];
    if (!run) return;
    run.control.abort();
    for (const source of run.sources) {
      source.onended = null;
      source.stop();
    }
  }

  set(state) {
    if (this.state === state) return;
    this.state = state;
    this.onchange();
  }

  close() {
    this.halt();
    this.offset_s = 0;
    this.state = "idle";
    if (this.context) this.context.close();
    this.context = null;
  }
}

// Pieces of what `url` answers, as they arrive.
export async function* pieces(url, signal) {
  const answer = await fetch(url, { signal });
  if (!answer.ok) return;
  const reader = answer.body.getReader();
  while (true) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

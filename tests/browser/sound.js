// Notes every piece of sound that a page schedules: when, what, and what the take was doing then.
(() => {
  const heard = [];
  const { start } = AudioBufferSourceNode.prototype;
  AudioBufferSourceNode.prototype.start = function (when = 0, ...rest) {
    const now = this.context.currentTime;
    const state = document.querySelector("shoal-take")?.dataset.state ?? "";
    heard.push({ when: Math.max(when, now), now, state, buffer: this.buffer });
    return start.call(this, when, ...rest);
  };
  const text = (buffer) => {
    const samples = buffer.getChannelData(0);
    const bytes = new Uint8Array(Int16Array.from(samples, (each) => Math.round(each * 32768)).buffer);
    let binary = "";
    for (let at = 0; at < bytes.length; at += 8192)
      binary += String.fromCharCode(...bytes.subarray(at, at + 8192));
    return btoa(binary);
  };
  window.heardPieces = () =>
    heard.map(({ when, now, state, buffer }) => ({
      when, now, state, rate_hz: buffer.sampleRate, pcm: text(buffer),
    }));
})();

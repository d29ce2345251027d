// <shoal-take src="page/takes/ID">: one take, from waiting to done. The strip of its sentences, its
// sound while it is made, how it looks, files of it, and how to make it again. Without `src` a page
// gives the element `sound` and `ask` of its own, and calls `show` with each view of the take.

import { Player, pieces } from "./player.js";
import { STYLE, SKELETON } from "./looks.js";

const FORMATS = ["wav", "mp3", "opus", "flac", "aac", "srt", "vtt"];
const MARKS = { waiting: "○", speaking: "◐", done: "●" };

const clock = (s) => {
  const whole = Math.max(0, Math.floor(s));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};
const about = (s) => {
  if (s < 1.5) return "a second";
  if (s < 90) return `${Math.round(s)} s`;
  return s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
};
const reduced = matchMedia("(prefers-reduced-motion: reduce)");

export class ShoalTake extends HTMLElement {
  constructor() {
    super();
    this.attachShadow({ mode: "open" }).innerHTML = `<style>${STYLE}</style>${SKELETON}`;
    this.view = null;
    this.sentences = [];
    this.items = [];
    this.player = new Player(
      (byte, signal) => this.sound(byte, signal),
      () => this.showPlayer(),
    );
    this.current = -1;
    this.at("#play").onclick = () => this.toggle();
    this.at("#stop").onclick = () => this.ask("stop");
    this.at("#seek").oninput = (event) => this.listen(Number(event.target.value));
    this.at("#look").onclick = (event) => this.seekIn(event);
    this.at("#again").onclick = () => this.retry();
    this.at("#receipt").ontoggle = () => this.fillReceipt();
  }

  at(selector) {
    return this.shadowRoot.querySelector(selector);
  }

  // A page may put another take into the same element.
  static observedAttributes = ["src"];

  attributeChangedCallback(name, before, now) {
    if (before === now || !this.isConnected) return;
    this.leave();
    this.begin();
  }

  connectedCallback() {
    this.begin();
  }

  disconnectedCallback() {
    this.leave();
  }

  begin() {
    this.src = this.getAttribute("src");
    this.view = null;
    delete this.dataset.state;
    this.at("#strip").replaceChildren();
    this.items = [];
    this.sentences = [];
    this.at("#note").textContent = "";
    this.at("#receipt").open = false;
    this.watch();
    const behavior = reduced.matches ? "auto" : "smooth";
    if (this.hasAttribute("autoplay")) this.scrollIntoView({ block: "nearest", behavior });
  }

  leave() {
    this.watching?.abort();
    clearInterval(this.countdown);
    this.countdown = null;
    this.player.close();
  }

  // -- what the page's process says, and is asked ------------------------------------------------

  // Until it is over: the page's process ends the stream then, and nothing more comes by itself.
  async watch() {
    if (!this.src) return;
    this.watching?.abort();
    const watching = (this.watching = new AbortController());
    while (!watching.signal.aborted) {
      try {
        let rest = "";
        const decoder = new TextDecoder();
        for await (const bytes of pieces(`${this.src}/events`, watching.signal)) {
          const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
          rest = lines.pop();
          for (const line of lines)
            if (line.startsWith("data: ")) this.show(JSON.parse(line.slice(6)));
        }
        if (!this.view) this.at("#state").textContent = "This take is not kept any more.";
        if (!this.view || this.isOver) return;
      } catch {
        if (watching.signal.aborted) return;
      }
      await new Promise((wake) => setTimeout(wake, 1000));
    }
  }

  sound(byte, signal) {
    return pieces(`${this.src}/audio?start=${byte}`, signal);
  }

  async ask(what) {
    const answer = await fetch(`${this.src}/${what}`, { method: "POST" });
    return answer.ok ? answer.json() : { problem: "That did not work; reload the page." };
  }

  get isOver() {
    return ["done", "stopped", "failed"].includes(this.view?.state);
  }

  // -- what it is now ----------------------------------------------------------------------------

  show(view) {
    const before = this.view;
    this.view = view;
    const { isOver } = this;
    this.dataset.state = view.state;
    this.showStrip(view);
    this.showState(view, isOver);
    this.at("#stop").hidden = isOver;
    const hasAfter = isOver && view.audio_s > 0 && Boolean(this.src);
    this.at("#after").hidden = !hasAfter;
    if (hasAfter) this.showAfter(view, before);
    this.at("#play").disabled = !(view.audio_s > 0);
    this.at("#transport").hidden = isOver && !(view.audio_s > 0);
    this.showPlayer();
    if (this.hasAttribute("autoplay") && view.audio_s > 0) {
      this.removeAttribute("autoplay");
      this.listen(0);
    }
    if (isOver) this.dispatchEvent(new Event("over"));
  }

  showStrip(view) {
    const list = this.at("#strip");
    if (view.total < this.items.length) {
      list.replaceChildren();
      this.items = [];
      this.sentences = [];
    }
    for (const [key, sentence] of Object.entries(view.sentences)) {
      const index = Number(key);
      this.sentences[index] = sentence;
      this.items[index] ??= list.appendChild(this.item(index));
      const item = this.items[index];
      item.dataset.state = sentence.state;
      item.querySelector(".mark").textContent = MARKS[sentence.state];
      item.querySelector(".state").textContent = `${sentence.state}: `;
      item.querySelector(".text").textContent = sentence.text;
      item.querySelector(".voice").textContent = sentence.voice;
      const rtf = sentence.rtf === null ? "" : `RTF ${sentence.rtf.toFixed(2)}`;
      item.querySelector(".rtf").textContent = sentence.seed === null ? rtf : `${rtf} · redone`;
      item.querySelector(".hear").disabled = sentence.end_s === null;
      if (sentence.state === "speaking" && !this.player.run) this.reveal(item);
    }
    // Of a book there are thousands: all of them only where it became over, or goes on.
    const changed = this.isOver === this.wasOver ? Object.keys(view.sentences) : this.items.keys();
    this.wasOver = this.isOver;
    for (const index of changed)
      this.items[index].querySelector(".redo").hidden =
        !this.isOver || this.sentences[index].end_s === null;
  }

  item(index) {
    const item = document.createElement("li");
    item.innerHTML = `<button class="hear" type="button"><span class="mark" aria-hidden="true">
      </span><span class="state"></span><span class="voice"></span><span class="text"></span>
      </button><span class="rtf"></span>
      <button class="redo" type="button" hidden>Redo</button>`;
    item.querySelector(".hear").onclick = () => {
      const { start_s, end_s } = this.sentences[index];
      this.listen(start_s, end_s);
    };
    const redo = item.querySelector(".redo");
    redo.setAttribute("aria-label", `Say sentence ${index + 1} again with another seed`);
    redo.onclick = async () => {
      redo.disabled = true;
      redo.textContent = "…";
      this.player.pause();
      const { problem } = await this.ask(`sentences/${index}/redo`);
      if (!problem) await this.watch(); // where each sentence lies now
      redo.disabled = false;
      redo.textContent = "Redo";
      this.at("#note").textContent = problem;
      if (!problem) this.listen(this.sentences[index].start_s, this.sentences[index].end_s);
    };
    return item;
  }

  showState(view, isOver) {
    const done = this.sentences.filter((each) => each.state === "done").length;
    const count = view.total ? `${Math.min(done + 1, view.total)} of ${view.total}` : "";
    const left = view.remaining_s === null ? "" : ` · about ${about(view.remaining_s)} left`;
    const texts = {
      waiting: `Waiting for its turn${view.wait_s ? `, about ${about(view.wait_s)}` : ""}`,
      speaking: `Speaking${count && ` ${count}`} · ${clock(view.elapsed_s)}${left}`,
      done: `Done · ${view.audio_s.toFixed(1)} s of speech in ${view.elapsed_s.toFixed(1)} s`,
      stopped: view.detail,
      failed: view.detail,
    };
    if (view.is_live && view.state !== "done")
      texts.speaking = `Speaking as you type · ${clock(view.audio_s)} so far`;
    this.at("#state").textContent = texts[view.state];
    this.at("#progress").hidden = isOver;
    this.at("#progress").max = Math.max(1, view.total);
    if (view.state === "waiting") this.at("#progress").removeAttribute("value");
    else this.at("#progress").value = done;
    this.at("#warnings").replaceChildren(
      ...view.warnings.map((text) => Object.assign(document.createElement("li"), { textContent: text })),
    );
    this.showRetry(view);
  }

  showRetry(view) {
    const canRetry = (view.state === "failed" || view.state === "stopped") && !view.is_live;
    this.at("#retry").hidden = !canRetry;
    const waits = view.state === "failed" && view.retry_after_s !== null;
    this.at("#self").hidden = !waits;
    if (!waits || this.countdown) return;
    let left = Math.ceil(view.retry_after_s);
    const tell = () => {
      this.at("#left").textContent = left > 0 ? `free in about ${left} s` : "it may be free now";
      if (left-- > 0) return;
      clearInterval(this.countdown);
      this.countdown = null;
      if (this.at("#self input").checked) this.retry();
    };
    this.countdown = setInterval(tell, 1000);
    tell();
  }

  retry() {
    clearInterval(this.countdown);
    this.countdown = null;
    this.setAttribute("autoplay", "");
    this.player.unlock(this.view.rate_hz || 44100);
    this.ask("again").then(() => this.watch());
  }

  // -- listening ---------------------------------------------------------------------------------

  toggle() {
    if (this.player.state === "playing" || this.player.state === "starting") this.player.pause();
    else this.listen(this.player.offset_s);
  }

  async listen(from_s, until_s) {
    if (await this.player.unlock(this.view.rate_hz)) this.player.play(from_s, until_s);
    else this.at("#note").textContent = "Press Play to listen: the browser wants a click first.";
  }

  seekIn(event) {
    const box = event.currentTarget.getBoundingClientRect();
    this.listen(((event.clientX - box.left) / box.width) * this.view.audio_s);
  }

  showPlayer() {
    if (!this.view) return;
    const isPlaying = ["playing", "starting"].includes(this.player.state);
    this.at("#play").textContent = isPlaying ? "Pause" : "Play";
    this.at("#play").dataset.state = this.player.state;
    this.showPosition();
    if (isPlaying && !this.ticking) {
      this.ticking = true;
      const tick = () => {
        this.showPosition();
        this.ticking = ["playing", "starting"].includes(this.player.state);
        if (this.ticking) requestAnimationFrame(tick);
      };
      requestAnimationFrame(tick);
    }
  }

  showPosition() {
    if (!this.view) return;
    const position_s = this.player.position_s;
    const { audio_s } = this.view;
    const seek = this.at("#seek");
    seek.max = audio_s;
    seek.value = position_s;
    seek.setAttribute("aria-valuetext", `${clock(position_s)} of ${clock(audio_s)}`);
    this.at("#time").textContent = `${clock(position_s)} / ${clock(audio_s)}`;
    this.at("#head").style.left = `${audio_s ? (100 * position_s) / audio_s : 0}%`;
    const isPlaying = this.player.state === "playing";
    const current = this.sentences.findIndex(
      (each) => isPlaying && each.start_s !== null && position_s >= each.start_s && position_s < each.end_s,
    );
    if (current === this.current) return;
    this.items[this.current]?.removeAttribute("aria-current");
    this.current = current;
    if (current < 0) return;
    this.items[current].setAttribute("aria-current", "true");
    this.reveal(this.items[current]);
  }

  reveal(item) {
    const list = this.at("#strip");
    const top = item.offsetTop - list.offsetTop - list.clientHeight / 3;
    list.scrollTo({ top, behavior: reduced.matches ? "auto" : "smooth" });
  }

  // -- when it is over ---------------------------------------------------------------------------

  showAfter(view, before) {
    if (before && before.version === view.version) return;
    for (const name of ["waveform", "spectrogram"])
      this.at(`#${name}`).style.setProperty(
        "--mask",
        `url("${new URL(`${this.src}/${name}.png?version=${view.version}`, document.baseURI)}")`,
      );
    this.at("#files").replaceChildren(
      ...FORMATS.map((kind) => {
        const link = document.createElement("a");
        link.href = `${this.src}/speech.${kind}`;
        link.download = "";
        link.textContent = kind.toUpperCase();
        return link;
      }),
    );
    this.fillReceipt();
  }

  async fillReceipt() {
    if (!this.at("#receipt").open) return;
    const answer = await fetch(`${this.src}/receipt`);
    if (!answer.ok) return;
    const { figures, commands } = await answer.json();
    this.at("#figures").replaceChildren(
      ...figures.flatMap(([label, value]) => [
        Object.assign(document.createElement("dt"), { textContent: label }),
        Object.assign(document.createElement("dd"), { textContent: value }),
      ]),
    );
    this.at("#copies").replaceChildren(
      ...Object.entries(commands).map(([name, command]) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = `Copy as ${name}`;
        button.onclick = () => this.copy(button, command);
        return button;
      }),
    );
  }

  async copy(button, text) {
    const shown = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Off https and localhost there is no clipboard: show it to be copied by hand.
      this.at("#command").hidden = false;
      this.at("#command").value = text;
      this.at("#command").select();
    }
    setTimeout(() => (button.textContent = shown), 1500);
  }
}

customElements.get("shoal-take") || customElements.define("shoal-take", ShoalTake);

// What a <shoal-take> is made of, and how it looks; its page sets --shoal-accent and the like.

export const SKELETON = `
<section class="card" aria-label="Speech">
  <div class="row top">
    <p id="state" role="status"></p>
    <button id="stop" type="button" class="quiet">Stop</button>
  </div>
  <progress id="progress" aria-label="Sentences spoken"></progress>
  <ul id="warnings"></ul>
  <div id="retry" class="row" hidden>
    <button id="again" type="button">Try again</button>
    <label id="self" hidden><input type="checkbox"> by itself, <span id="left"></span></label>
  </div>
  <div class="row" id="transport">
    <button id="play" type="button" class="main" disabled>Play</button>
    <input id="seek" type="range" min="0" max="1" step="0.01" value="0" aria-label="Position">
    <span id="time">0:00 / 0:00</span>
  </div>
  <p id="note" role="status"></p>
  <ol id="strip" tabindex="0" aria-label="Sentences"></ol>
  <div id="after" hidden>
    <div id="look" title="Click to listen from there">
      <div id="waveform" role="img" aria-label="Waveform"></div>
      <div id="spectrogram" role="img" aria-label="Spectrogram, 0 to 8 kHz"></div>
      <div id="head"></div>
    </div>
    <div class="row files"><span>Download</span><nav id="files" aria-label="Download"></nav></div>
    <details id="receipt">
      <summary>Receipt</summary>
      <dl id="figures"></dl>
      <div id="copies" class="row"></div>
      <textarea id="command" aria-label="Command" rows="3" readonly hidden></textarea>
    </details>
  </div>
</section>`;

export const STYLE = `
:host { display: block; color: var(--shoal-text, inherit); font: inherit;
  --accent: var(--shoal-accent, #0f766e); --on-accent: var(--shoal-on-accent, #fff);
  --line: var(--shoal-line, #8883); --faint: var(--shoal-faint, #5b6470); }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
.card { display: grid; gap: 14px; }
.row { display: flex; gap: 12px; align-items: center; flex-wrap: wrap; }
.top { justify-content: space-between; flex-wrap: nowrap; }
p { margin: 0; }
#state { font-weight: 600; min-height: 1.4em; }
:host([data-state=failed]) #state { color: var(--shoal-bad, #b42318); }
#note { color: var(--faint); font-size: .92em; }
#note:empty, #warnings:empty, #strip:empty { display: none; }
button, a { font: inherit; font-size: .92em; color: inherit; background: none; cursor: pointer;
  border: 1px solid var(--line); border-radius: 8px; padding: 6px 12px; text-decoration: none; }
button:hover:enabled, a:hover { border-color: var(--accent); color: var(--accent); }
button:disabled { cursor: default; opacity: .55; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
button.main { background: var(--accent); border-color: var(--accent); color: var(--on-accent);
  min-width: 76px; }
button.main:hover:enabled { color: var(--on-accent); filter: brightness(1.08); }
button.main:disabled { background: none; color: var(--faint); border-color: var(--line); opacity: 1; }
progress { width: 100%; height: 4px; border: 0; border-radius: 2px; overflow: hidden;
  background: var(--line); accent-color: var(--accent); appearance: none; }
progress::-webkit-progress-bar { background: var(--line); }
progress::-webkit-progress-value { background: var(--accent); transition: width .3s; }
progress::-moz-progress-bar { background: var(--accent); }
#seek { flex: 1; min-width: 120px; accent-color: var(--accent); }
#time, .rtf { font-variant-numeric: tabular-nums; color: var(--faint); font-size: .88em;
  white-space: nowrap; }
#warnings { margin: 0; padding: 8px 12px 8px 28px; border-left: 3px solid var(--shoal-warn, #b45309);
  font-size: .92em; }
#strip { list-style: none; margin: 0; padding: 0; max-height: 300px; overflow-y: auto;
  border-block: 1px solid var(--line); }
#strip li { display: flex; align-items: baseline; gap: 10px; padding: 2px 4px; }
#strip li + li { border-top: 1px solid var(--line); }
#strip li[aria-current] { background: color-mix(in srgb, var(--accent) 12%, transparent); }
.hear { flex: 1; display: flex; gap: 10px; text-align: left; border: 0; padding: 7px 4px;
  align-items: baseline; min-width: 0; }
.hear:disabled { opacity: 1; }
.text { overflow-wrap: anywhere; }
.voice:not(:empty) { color: var(--faint); white-space: nowrap; }
.state { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.mark { color: var(--faint); }
li[data-state=speaking] .mark, li[data-state=done] .mark { color: var(--accent); }
li[data-state=waiting] .text { color: var(--faint); }
li[data-state=speaking] .mark { animation: breathe 1.2s ease-in-out infinite; }
@keyframes breathe { 50% { opacity: .35; } }
.redo { padding: 2px 8px; font-size: .84em; }
#after { display: grid; gap: 14px; }
#look { position: relative; cursor: pointer; display: grid; gap: 6px; }
#waveform, #spectrogram { background: var(--accent); mask: var(--mask) 0 0 / 100% 100% no-repeat;
  -webkit-mask: var(--mask) 0 0 / 100% 100% no-repeat; }
#waveform { height: 72px; } #spectrogram { height: 96px; opacity: .8; }
#head { position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px;
  background: var(--shoal-text, currentColor); pointer-events: none; }
.files span { color: var(--faint); font-size: .92em; }
nav { display: flex; gap: 8px; flex-wrap: wrap; }
summary { cursor: pointer; padding: 4px 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 10px 0 14px;
  font-size: .92em; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
textarea { width: 100%; margin-top: 10px; font: .85em ui-monospace, monospace; color: inherit;
  background: none; border: 1px solid var(--line); border-radius: 8px; padding: 8px; }
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
`;

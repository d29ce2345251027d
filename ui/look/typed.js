// Counts what is being typed against what the machine speaks at once, and tells the page's script
// of it after a pause: Streamlit itself says nothing before the field is left.

const PAUSE_MS = 500;
const LOOK_MS = 50; // for the field, which is drawn a moment after this

function count(state) {
  const { field, limit, shown } = state;
  const length = [...field.value].length;
  const of = limit ? ` of ${limit.toLocaleString("en")}` : "";
  shown.textContent = `${length.toLocaleString("en")}${of} characters`;
  shown.classList.toggle("past", Boolean(limit) && length > limit);
  clearTimeout(state.timer);
  if (field.value !== state.told) state.timer = setTimeout(() => tell(state), PAUSE_MS);
}

function tell(state) {
  state.told = state.field.value;
  state.setStateValue("text", state.told);
}

// Streamlit tells of the field that is left by itself. Told twice, the second drawing would cut the
// first one short, and with it what a click was about to do.
function leave(state) {
  clearTimeout(state.timer);
  state.told = state.field.value;
}

function find(state) {
  const field = document.querySelector(`.st-key-${state.key} textarea`);
  if (!field) {
    clearTimeout(state.timer);
    state.timer = setTimeout(() => find(state), LOOK_MS);
    return;
  }
  if (field !== state.field) {
    state.field?.removeEventListener("input", state.onInput);
    state.field?.removeEventListener("blur", state.onBlur);
    state.field = field;
    field.addEventListener("input", state.onInput);
    field.addEventListener("blur", state.onBlur);
  }
  count(state);
}

export default function ({ data, parentElement, setStateValue }) {
  // Called again with each drawing: what it knows lies on its element, and the newest data counts.
  const state = (parentElement.shoalTyped ??= {
    onInput: () => count(parentElement.shoalTyped),
    onBlur: () => leave(parentElement.shoalTyped),
  });
  const shown = parentElement.querySelector("p");
  Object.assign(state, { key: data.field, limit: data.limit, shown, setStateValue });
  state.told ??= data.known; // the field may have been written in before this was drawn
  find(state);
  return () => clearTimeout(state.timer);
}

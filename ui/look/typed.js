// Counts what is being typed against what the machine speaks at once, and tells the page's script
// of it after a pause: Streamlit itself says nothing before the field is left.

const PAUSE_MS = 500;

export default function ({ data, parentElement, setStateValue }) {
  const shown = parentElement.querySelector("p");
  let field = null;
  let timer = 0;
  let told = parentElement.dataset.told ?? null;

  const tell = () => {
    if (field.value === told) return;
    parentElement.dataset.told = told = field.value;
    setStateValue("text", told);
  };
  const changed = () => {
    const length = [...field.value].length;
    const of = data.limit ? ` of ${data.limit.toLocaleString("en")}` : "";
    shown.textContent = `${length.toLocaleString("en")}${of} characters`;
    shown.classList.toggle("past", Boolean(data.limit) && length > data.limit);
    clearTimeout(timer);
    timer = setTimeout(tell, PAUSE_MS);
  };
  const find = () => {
    field = document.querySelector(`.st-key-${data.field} textarea`);
    if (!field) return (timer = setTimeout(find, 50)); // it is drawn a moment later
    field.addEventListener("input", changed);
    changed();
  };
  find();
  return () => {
    clearTimeout(timer);
    field?.removeEventListener("input", changed);
  };
}

// Mounts <shoal-take> into a Streamlit page: the element does the rest by itself.

export default function ({ data, parentElement }) {
  const shown = parentElement.querySelector("shoal-take");
  if (shown?.getAttribute("src") === data.src) return;
  shown?.remove();
  const take = document.createElement("shoal-take");
  take.setAttribute("src", data.src);
  if (data.autoplay) take.setAttribute("autoplay", "");
  parentElement.append(take);
  import(new URL(data.script, document.baseURI).href);
}

// Mounts <shoal-take> into a Streamlit page: the element does the rest by itself, and the page's
// script hears of it once it is over.

export default function ({ data, parentElement, setTriggerValue }) {
  let take = parentElement.querySelector("shoal-take");
  if (take?.getAttribute("src") !== data.src) {
    take?.remove();
    take = document.createElement("shoal-take");
    take.setAttribute("src", data.src);
    if (data.autoplay) take.setAttribute("autoplay", "");
    take.addEventListener("over", () => take.whenOver?.());
    parentElement.append(take);
    import(new URL(data.script, document.baseURI).href);
  }
  take.whenOver = data.is_at_work ? () => setTriggerValue("over", data.src) : null;
  if (take.isOver) take.whenOver?.();
}

// What one browser keeps between visits: the secret that its takes belong to, a draft, settings.

const PLACE = "shoal";

function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(PLACE));
    return kept && typeof kept === "object" ? kept : {};
  } catch {
    return {};
  }
}

function secret() {
  const bytes = crypto.getRandomValues(new Uint8Array(18));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}

export default function ({ data, setStateValue }) {
  const kept = { ...read(), ...(data?.keep ?? {}) };
  if (typeof kept.owner !== "string" || kept.owner.length < 16) kept.owner = secret();
  try {
    localStorage.setItem(PLACE, JSON.stringify(kept));
  } catch {
    // A browser that keeps nothing: the page works until it is closed.
  }
  if (!data?.keep) setStateValue("kept", kept);
}

"""The Streamlit page of what was measured: plots and comparisons of the server's request log."""

import altair as alt
import pandas as pd
import streamlit as st

from ui import words
from ui.desk import desk
from ui.notes import note, problem, tried
from ui.report import runs
from ui.report.runs import RUN

_LAST_BYTES = 8 * 1024 * 1024
"""Of each log, as much is read."""
_MOST_FILES = 12
_POINTS = 3000
_GREY = "#7c8a8f"
"""Seen on light and on dark."""
_BELOW = alt.Legend(orient="bottom")
_PERCENT = {"cpu_pct": "CPU", "memory_pct": "Memory", "gpu_util_pct": "GPU"}
_MEMORY = {"worker_peak_memory_mb": "Worker", "peak_vram_mb": "GPU", "gpu_memory_mb": "GPU now"}


def report_page() -> None:
    """Draw it."""
    requests, samples = _sources()
    rows = runs.table(requests)
    if rows.empty:
        st.html(
            '<div class="empty"><p>Nothing to plot yet. Speak something: the server writes a row '
            "for each request, unless SHOAL_METRICS=false. Or upload CSV files of another machine "
            "from its folder of metrics.</p></div>"
        )
    else:
        _by_length(rows)
        _tiers(rows)
        _two_runs(rows)
    _over_time(rows, runs.table(samples))
    if not rows.empty:
        _requests(rows)


# -- where the rows are from ----------------------------------------------------------------------


def _sources() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Files with requests and with samples, by name."""
    left, right = st.columns(2, gap="large")
    with left:
        st.header("This server's log", anchor=False)
        found = _of_server()
    with right:
        st.header("Logs of other machines", anchor=False)
        uploads = st.file_uploader(
            "CSV files, several at once", type=["csv"], accept_multiple_files=True, key="logs"
        )
    for upload in uploads:
        found[_unlike(upload.name, found)] = upload.getvalue()
    strange = [name for name, data in found.items() if not _is_ours(data)]
    if strange:
        problem(f"No log of Shoal's: {', '.join(strange)}")
    return (
        {name: data for name, data in found.items() if runs.is_requests(data)},
        {name: data for name, data in found.items() if runs.is_samples(data)},
    )


def _of_server() -> dict[str, bytes]:
    files = tried(desk().process.client.log_files())
    if files is None:
        return {}
    kinds = {each["name"]: each["kind"] for each in files if each["name"].endswith(".csv")}
    if not kinds:
        note("It keeps no log that can be read from here, or nothing was spoken yet.")
        return {}
    newest = [next((n for n, kind in kinds.items() if kind == k), None) for k in _KINDS]
    chosen = st.multiselect(
        "Files, the newest first",
        list(kinds),
        default=[name for name in newest if name],
        max_selections=_MOST_FILES,
        key="files",
        persist_state="session",
    )
    st.button("Read them anew")
    found: dict[str, bytes] = {}
    for name in chosen:
        data = tried(desk().process.client.log_file(name, _LAST_BYTES))
        if data is not None:
            found[name] = data
    return found


_KINDS = ("synthesis", "realtime")


def _is_ours(data: bytes) -> bool:
    return runs.is_requests(data) or runs.is_samples(data)


def _unlike(name: str, taken: dict[str, bytes]) -> str:
    """`name`, or with a number behind it: files of several machines are called alike."""
    shown, number = name, 2
    while shown in taken:
        shown, number = f"{name} ({number})", number + 1
    return shown


# -- what they show -------------------------------------------------------------------------------


def _by_length(rows: pd.DataFrame) -> None:
    st.header("Real-time factor by length of text", anchor=False)
    spoken = runs.thinned(runs.spoken(rows), _POINTS)
    if spoken.empty:
        note("No request in these files was spoken.")
        return
    points = (
        alt.Chart(spoken[["characters", "rtf", "tier", RUN]])
        .mark_circle(size=55, opacity=0.7, aria=False)
        .encode(
            x=alt.X("characters", title="Characters spoken"),
            y=alt.Y("rtf", title="Real-time factor"),
            color=alt.Color("tier", title="Tier", legend=_BELOW),
            tooltip=["tier", "characters", alt.Tooltip("rtf", format=".2f"), RUN],
        )
    )
    real_time = (
        alt.Chart(pd.DataFrame({"rtf": [1.0]}))
        .mark_rule(strokeDash=[4, 4], color=_GREY, aria=False)
        .encode(y="rtf")
    )
    told = (
        f"{words.count(len(spoken), 'request')}; below the dashed line speech is made faster than "
        "it is heard."
    )
    st.altair_chart((points + real_time).properties(height=320), alt=told)
    note(told)


def _tiers(rows: pd.DataFrame) -> None:
    st.header("Tiers side by side", anchor=False)
    spoken = runs.spoken(rows)
    if spoken.empty:
        note("No request in these files was spoken.")
        return
    chart, table = st.columns(2, gap="large")
    boxes = (
        alt.Chart(runs.thinned(spoken, _POINTS)[["tier", "rtf"]])
        .mark_boxplot(size=24, rule={"color": _GREY}, outliers={"aria": False})
        .encode(
            x=alt.X("rtf", title="Real-time factor"),
            y=alt.Y("tier", title=None),
            color=alt.Color("tier", legend=None),
        )
        .properties(height=60 + 40 * spoken["tier"].nunique())
    )
    with chart:
        st.altair_chart(boxes, alt="Real-time factor of each tier as a box plot")
    with table:
        shown = runs.by_tier(rows).round(2).astype(str)
        st.table(shown, hide_index=True, border="horizontal", alt="Figures of each tier")


def _two_runs(rows: pd.DataFrame) -> None:
    st.header("Two runs compared", anchor=False)
    names = sorted(rows[RUN].unique())
    if len(names) < 2:
        note("Choose or upload a second file of requests, and they are compared here.")
        return
    left, right = st.columns(2)
    first = left.selectbox("First", names, index=0, key="first-run")
    second = right.selectbox("Second", names, index=1, key="second-run")
    compared = runs.compare(rows, first, second)
    if compared.empty:
        note("These two have no figure in common.")
        return
    with st.container(key="compared"):
        st.table(compared, hide_index=True, border="horizontal", alt="Two runs compared")
    note("Ratios are the second through the first: below 1 × the second is less.")


def _over_time(rows: pd.DataFrame, samples: pd.DataFrame) -> None:
    busy = _long(samples, _PERCENT)
    memory = pd.concat([_long(rows, _MEMORY), _long(samples, _MEMORY)])
    if busy.empty and memory.empty:
        return
    st.header("Memory and GPU over time", anchor=False)
    for found, title in ((busy, "Busy, %"), (memory, "Memory, MB")):
        if found.empty:
            continue
        lines = (
            alt.Chart(runs.thinned(found, _POINTS))
            .mark_line(point=title != "Busy, %", aria=False)
            .encode(
                x=alt.X("timestamp:T", title=None),
                y=alt.Y("value", title=title),
                color=alt.Color("what", title=None, legend=_BELOW),
                detail=RUN,
            )
            .properties(height=220)
        )
        st.altair_chart(lines, alt=f"{title} over time")


def _long(rows: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """One row for each figure and moment; what stays 0 is left out, as it was not measured."""
    held = [name for name in names if name in rows and rows[name].fillna(0).any()]
    if not held or "timestamp" not in rows:
        return pd.DataFrame({"timestamp": [], "what": [], "value": [], RUN: []})
    renamed = rows[["timestamp", RUN, *held]].rename(columns=names)
    long = renamed.melt(["timestamp", RUN], var_name="what")
    return long.dropna(subset=["timestamp", "value"]).sort_values("timestamp")


def _requests(rows: pd.DataFrame) -> None:
    st.header("The requests", anchor=False)
    columns = st.columns(3)
    chosen = {}
    for column, (name, label) in zip(columns, _FILTERS.items(), strict=True):
        if name in rows:
            values = sorted(str(each) for each in rows[name].dropna().unique())
            chosen[name] = column.multiselect(label, values, placeholder="All", key=f"only-{name}")
    found = runs.only(rows, chosen)
    shown = [name for name in runs.SHOWN if name in found]
    st.dataframe(found[shown], hide_index=True, height=320, alt="The requests in these files")
    st.download_button(
        f"Download {len(found):,} rows as CSV",
        found.to_csv(index=False).encode(),
        "shoal-requests.csv",
        "text/csv",
        on_click="ignore",
    )


_FILTERS = {"tier": "Tier", "outcome": "Outcome", RUN: "File"}

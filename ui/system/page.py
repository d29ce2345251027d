"""The Streamlit page of the machine: how it fares, what was chosen and why, what was measured."""

import asyncio
from collections import deque
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from ui.desk import desk
from ui.look.parts import show_charts
from ui.notes import note, problem, tried
from ui.report.log import Row
from ui.system.chart import charts
from ui.system.told import (
    EVERY_S,
    REMEMBERED,
    look,
    machine_name,
    newest_rows,
    optimized,
    plan_rows,
)
from ui.wire import Refused, ServerAway

Answers = tuple[dict[str, Any], dict[str, Any]]


def system_page() -> None:
    """Draw it."""
    st.header("Now", anchor=False)
    _live()
    _optimize()
    hardware = tried(desk().process.client.hardware())
    if hardware is None:
        return
    st.header("Measured here", anchor=False)
    _measured()
    _plan(hardware)


@st.fragment(run_every=EVERY_S)
def _live() -> None:
    """Charts of the last minutes; nothing is asked while another page is looked at."""
    try:
        status, health = desk().ask(_ask())
    except (ServerAway, Refused) as error:
        problem(str(error))
        return
    seen: deque[dict[str, float]] = st.session_state.setdefault("seen", deque(maxlen=REMEMBERED))
    seen.append(look(status, health))
    show_charts(charts(list(seen), status, health))


async def _ask() -> Answers:
    client = desk().process.client
    return await asyncio.gather(client.system_status(), client.health())


def _optimize() -> None:
    if st.button("Optimize now", help="Clear caches, look at the machine again, go on as fits it"):
        with st.spinner("The machine is looked at again …"):
            told = tried(desk().process.client.optimize())
        if told is not None:
            head, rows = optimized(told)
            note(head)
            table = pd.DataFrame(rows, columns=["", "Before", "After"])
            st.table(table, hide_index=True, border="horizontal", alt="Before and after")


def _measured() -> None:
    rows = tried(newest_rows(desk().process.client))
    if rows is None:
        return
    spoken = speeds(rows)
    if spoken.empty:
        note("Nothing was spoken here yet, or the server keeps no log.")
        return
    chart = (
        alt.Chart(spoken)
        .mark_circle(size=60, opacity=0.7, aria=False)
        .encode(
            x=alt.X("characters", title="Characters"),
            y=alt.Y("rtf", title="Real-time factor"),
            tooltip=["characters", alt.Tooltip("rtf", format=".2f")],
        )
        .properties(height=220)
    )
    told = f"Real-time factor by length of text, {len(spoken)} requests"
    st.altair_chart(chart, alt=told)
    note(f"{told}. Below 1 it speaks faster than it is listened to.")


def speeds(rows: list[Row]) -> pd.DataFrame:
    """Length and real-time factor of the requests that were spoken."""
    pairs = [(row.characters, row.rtf) for row in rows if row.characters and row.rtf]
    return pd.DataFrame(pairs, columns=["characters", "rtf"])


def _plan(hardware: dict[str, Any]) -> None:
    name = machine_name(hardware["hardware_profile"])
    st.header(f"What was chosen for {name}, and why", anchor=False)
    for each in hardware["selected_configuration"].get("notes", ()):
        note(each)
    table = pd.DataFrame(plan_rows(hardware), columns=["Choice", "Value", "Decided by", "Why"])
    with st.container(key="plan"):
        st.table(table, hide_index=True, border="horizontal", alt="The plan and its reasons")

"""The Streamlit page: `shoal ui streamlit`, `streamlit run ui/streamlit_app.py`, or
`python -m ui.streamlit_app`.

The file has two readers. Uvicorn imports it and takes `app`; Streamlit runs it as `__main__` for
each browser, again and again.
"""

from streamlit import runtime
from streamlit.starlette import App

from ui.serving import around, serve

if __name__ == "__main__" and runtime.exists():
    from ui.frame import draw  # the server has no need of it

    draw()
else:
    app = App(__file__, **around())
    if __name__ == "__main__":
        serve(app)

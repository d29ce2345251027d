"""The Streamlit page: `shoal ui streamlit`, or `streamlit run ui/streamlit_app.py`.

The file has two readers. The server imports it and takes `app`; Streamlit runs it as `__main__` for
each browser, again and again.
"""

import sys

from streamlit import runtime
from streamlit.starlette import App

from ui.serving import around

if __name__ != "__main__":
    app = App(__file__, **around())
elif runtime.exists():
    from ui.frame import draw  # the server itself has no need of it

    draw()
else:
    sys.exit("shoal: start this page with `shoal ui streamlit`.")

"""The pages in front of a Shoal server. They tell nobody that they are used."""

import os

# Read by Gradio when it is imported: before any module of ours can have done so.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

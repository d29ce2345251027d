"""How the Gradio page looks: one accent, the system's own fonts, quiet surfaces, both themes."""

from importlib.resources import files

import gradio as gr

_SYSTEM = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
_MONOSPACE = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
_TEAL = gr.themes.Color(
    name="shoal",
    c50="#effaf8",
    c100="#d5f2ed",
    c200="#aee4dc",
    c300="#7dd0c6",
    c400="#4bb3a9",
    c500="#2b978e",
    c600="#0f766e",
    c700="#115e59",
    c800="#134e4a",
    c900="#123f3c",
    c950="#062a28",
)


def theme() -> gr.themes.Base:
    """Gradio's theme; no font is asked of another host."""
    base = gr.themes.Base(
        primary_hue=_TEAL,
        secondary_hue=_TEAL,
        neutral_hue=gr.themes.colors.slate,
        spacing_size=gr.themes.sizes.spacing_lg,
        radius_size=gr.themes.sizes.radius_lg,
        text_size=gr.themes.sizes.text_md,
        font=_SYSTEM,
        font_mono=_MONOSPACE,
    )
    return base.set(
        body_background_fill="#fbfcfc",
        body_background_fill_dark="#0e1416",
        body_text_color="#17211f",
        body_text_color_dark="#e6edec",
        body_text_color_subdued="#55636a",
        body_text_color_subdued_dark="#9db0b3",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_label_text_color="#3a474c",
        block_label_text_color_dark="#b9c7c9",
        block_label_text_size="*text_sm",
        block_title_text_color="#3a474c",
        block_title_text_color_dark="#b9c7c9",
        block_title_text_weight="600",
        block_info_text_color="#55636a",
        block_info_text_color_dark="#9db0b3",
        block_padding="0px",
        panel_background_fill="transparent",
        panel_background_fill_dark="transparent",
        input_background_fill="#ffffff",
        input_background_fill_dark="#151d20",
        input_border_width="1px",
        input_border_color="#8a989d",
        input_border_color_dark="#5b6b70",
        input_border_color_focus="#0f766e",
        input_border_color_focus_dark="#5cc8bd",
        input_placeholder_color="#6b7a80",
        input_placeholder_color_dark="#8a9a9e",
        border_color_primary="#d5dcdd",
        border_color_primary_dark="#2b383c",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_text_color="#ffffff",
        button_primary_background_fill_dark="#5cc8bd",
        button_primary_background_fill_hover_dark="#7dd9cf",
        button_primary_text_color_dark="#06211f",
        button_secondary_background_fill="transparent",
        button_secondary_background_fill_dark="transparent",
        button_secondary_background_fill_hover="#eef3f3",
        button_secondary_background_fill_hover_dark="#1c272b",
        button_secondary_border_color="#c3cccf",
        button_secondary_border_color_dark="#3a494e",
        button_secondary_text_color="#17211f",
        button_secondary_text_color_dark="#e6edec",
        button_border_width="1px",
        slider_color="#0f766e",
        slider_color_dark="#5cc8bd",
        checkbox_background_color_selected="#0f766e",
        checkbox_background_color_selected_dark="#2b978e",
        checkbox_label_background_fill="transparent",
        checkbox_label_background_fill_dark="transparent",
        checkbox_label_border_width="0px",
        checkbox_label_border_width_dark="0px",
        checkbox_border_color="#8a989d",
        checkbox_border_color_dark="#5b6b70",
        checkbox_label_padding="6px 8px 6px 0",
        checkbox_label_background_fill_hover="transparent",
        checkbox_label_background_fill_hover_dark="transparent",
        checkbox_label_background_fill_selected="transparent",
        checkbox_label_background_fill_selected_dark="transparent",
        checkbox_label_text_color_selected="#17211f",
        checkbox_label_text_color_selected_dark="#e6edec",
        link_text_color="#0f766e",
        link_text_color_dark="#5cc8bd",
    )


def css() -> str:
    """The style sheet of the page."""
    return files("ui.look").joinpath("page.css").read_text("utf-8")
